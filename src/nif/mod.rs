//! The NIF that `erlang/` loads: it converts terms, calls, converts back.
//!
//! Resources hold what must not enter the BEAM's heap: vaults, registries,
//! servers with their minute keys, connections. A term never holds a secret.
//! What may wait for a disk, a token or another process runs on a dirty
//! scheduler or a thread of its own. What only computes runs on a normal one: a
//! step of a handshake multiplies on the curve once or twice, which takes as
//! long as sealing a large message; sealing and opening go in portions that stay
//! far below a millisecond.

mod batch;
mod connection;
mod current;
mod dns;
mod errors;
mod keys;
mod known;
mod portion;
mod provider;
mod providers;
mod receiving;
mod registry;
mod sending;
mod server;
mod stream;
mod term;
mod trust;
mod vault;
mod waiting;

rustler::init!("curve_tun_nif");
