//! Connections, and what goes over them, without I/O.

mod attacker;
mod codec;
mod cut;
mod deferred;
mod limits;
mod minute_keys;
mod misuse;
mod observer;
mod original_vectors;
mod pair;
mod replay;
mod shares;
mod stream;
mod wire;

#[path = "../support/mod.rs"]
mod support;
