//! The NIF that `erlang/` loads: it converts terms, calls, converts back.
//!
//! Resources hold what must not enter the BEAM's heap: vaults, registries,
//! servers with their minute keys, connections. A term never holds a secret.
//! What multiplies on a curve or may wait for the system runs on a dirty
//! scheduler; sealing and opening run on a normal one, in portions that stay
//! far below a millisecond.

mod answerers;
mod connection;
mod crew;
mod dns;
mod keys;
mod known;
mod portion;
mod provider;
mod receiving;
mod registry;
mod sending;
mod server;
mod term;
mod vault;
mod waiting;

rustler::init!("curve_tun_nif");
