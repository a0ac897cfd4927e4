//! `curve-tun connect`: plain connections in, tunnels out.

use super::super::failure::Outcome;
use super::address::Address;
use super::ending::Counters;
use super::service::{End, Service};
use super::{KeyArgs, ProcessArgs, ServerArgs, process};
use std::sync::Arc;
use std::time::Instant;

/// Take plain connections, and forward each through a tunnel to a "curve-tun serve"
///
/// It runs in the foreground, prints "listening on ADDR" when it is ready, which it also tells
/// systemd (Type=notify), and logs to standard error. Whoever can connect to it acts with its key:
/// listen on the loopback interface, or on a Unix socket, which only this user may connect to. A
/// connection that is cut is reset (a Unix socket can only be closed): only what has ended in order
/// looks like an end. At SIGTERM or SIGINT no new ones are taken, the others have --drain to end; a
/// second signal ends at once.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    curve-tun connect --listen 127.0.0.1:5432 --to db.example:7000 --server KEY --vault ~/.config/tunnel/vault\n\n\
    Addresses are HOST:PORT, [IPV6]:PORT, or unix:PATH.")]
pub struct Args {
    /// Where plain connections come in; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    listen: Address,
    /// Where the server's tunnels come in
    #[arg(long, value_name = "ADDR", value_parser = Address::to_connect)]
    to: Address,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    process: ProcessArgs,
}

pub fn run(args: Args) -> Outcome {
    let vault = args.key.open()?;
    args.process.begin_log();
    let service = Arc::new(Service {
        end: End::Connect { vault, server: args.server.server, service: args.server.service },
        name: None,
        to: args.to,
        idle: args.process.idle,
        lifetime: args.process.max_lifetime,
        resolver: Default::default(),
        counters: Counters::default(),
        places: process::places(),
        origin: Instant::now(),
    });
    process::run(&args.listen, service, args.process.drain, || {})
}
