//! The tool `curve-tun`, as its users run it.

mod agent;
mod commands;
mod containers;
mod operators;
mod output;
mod peers;
mod peers_dns;
mod terminal;
mod token;

#[path = "../support/mod.rs"]
mod support;
