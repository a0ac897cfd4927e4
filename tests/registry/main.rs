//! Registries of every kind: in memory, in a file, in DNS; and the servers that a client knows.

mod dns;
mod dns_clock;
mod dns_forged;
mod dns_joined;
mod dns_rolls;
mod dns_servers;
mod file;
mod kinds;
mod known;
mod memory;

#[path = "../support/mod.rs"]
mod support;
