//! Tunnels over TCP.

mod answers;
mod clock;
mod faults;
mod observer;
mod peer;
mod scoped;
mod server_outage;
mod sockets;
mod stream;
mod times;
mod trust;

#[path = "../support/mod.rs"]
mod support;
