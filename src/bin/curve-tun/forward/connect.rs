//! `curve-tun connect`: plain connections in, tunnels out.

use super::super::failure::{Failure, Outcome, print};
use super::address::{Address, Listen};
use super::config;
use super::front::{End, Front, Route, Shared};
use super::process::{Process, Reloaded, places};
use super::{KeyArgs, LimitArgs, ProcessArgs, check_needs_config, counted, read_key, read_service};
use curve_tun::stream::ServiceName;
use curve_tun::{Error, PublicKey};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Take plain connections, and forward each through a tunnel to a "curve-tun serve"
///
/// It runs in the foreground, prints "listening on ADDR" when it is ready, which it also tells
/// systemd (Type=notify), and logs to standard error. Whoever can connect to it acts with its key:
/// listen on the loopback interface, or on a Unix socket, which only this user may connect to. A
/// connection that is cut is reset (a Unix socket can only be closed): only what has ended in order
/// looks like an end. At SIGTERM or SIGINT no new ones are taken, the others have --drain to end; a
/// second signal ends at once.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    curve-tun connect --listen 127.0.0.1:5432 --to db.example:7000 --server KEY --vault ~/.config/tunnel/vault\n  \
    curve-tun connect --config /etc/tunnel/connect.toml\n\n\
    Addresses are HOST:PORT, [IPV6]:PORT, or unix:PATH.")]
pub struct Args {
    /// Where plain connections come in; port 0 picks a free one, and systemd:NAME is a socket that
    /// systemd passes
    #[arg(long, value_name = "ADDR", required_unless_present = "config", conflicts_with = "config")]
    listen: Option<Listen>,
    /// Where the server's tunnels come in
    #[arg(long, value_name = "ADDR", value_parser = Address::to_connect, required_unless_present = "config",
        conflicts_with = "config")]
    to: Option<Address>,
    /// The public key of the server
    #[arg(long, value_name = "KEY", value_parser = read_key, required_unless_present = "config",
        conflicts_with = "config")]
    server: Option<PublicKey>,
    /// The service to ask the server for; without it, its only or its default one
    #[arg(long, value_name = "NAME", value_parser = read_service, conflicts_with = "config")]
    service: Option<ServiceName>,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Many listeners, each with its server, from a TOML file, with the key
    #[arg(long, value_name = "FILE", group = "kept")]
    config: Option<PathBuf>,
    /// Read the configuration and what it names, say what is wrong, and start nothing
    #[arg(long, requires = "config")]
    check: bool,
    #[command(flatten)]
    process: ProcessArgs,
}

pub fn run(args: Args) -> Outcome {
    if let Some(path) = &args.config {
        return run_configured(path, &args);
    }
    check_needs_config(args.check)?;
    let (Some(listen), Some(to), Some(server)) = (args.listen, args.to, args.server) else {
        return Err(Failure::from(Error::InvalidArgument));
    };
    let vault = args.key.open()?;
    args.process.begin_log();
    let (idle, lifetime) = (args.limits.idle, args.limits.max_lifetime);
    let name = args.service.as_ref().map(|name| name.to_string()).unwrap_or_default();
    let route = Arc::new(Route { name, to, registry: None, proxy: None, idle, lifetime });
    let shared = Shared::new(places());
    let end = End::Connect { vault, server, service: args.service, route };
    let front = Arc::new(Front { shared: shared.clone(), end });
    Process {
        shared,
        fronts: vec![(listen, front)],
        drain: args.process.drain,
        metrics: args.process.metrics.clone(),
    }
    .run(|| {
        tracing::info!("nothing is reloaded: a restart reads the configuration");
        Reloaded::Quietly
    })
}

fn run_configured(path: &Path, args: &Args) -> Outcome {
    let config: config::Connect = config::read(path)?;
    if config.forward.is_empty() {
        return Err(Failure::new(format_args!("{}: nothing is forwarded", path.display()))
            .hint("It takes at least one [forward.NAME]."));
    }
    let vault = config.key.open(path)?;
    if args.check {
        print(format_args!("{}: {}", path.display(), counted(config.forward.len(), "listener")))?;
        return Ok(ExitCode::SUCCESS);
    }
    args.process.begin_log();
    let shared = Shared::new(places());
    let fronts = config.forward.into_iter().map(|(name, forward)| {
        let (idle, lifetime) = (forward.idle, forward.max_lifetime);
        let route = Arc::new(Route { name, to: forward.to, registry: None, proxy: None, idle, lifetime });
        let (server, service) = (forward.server, forward.service);
        let end = End::Connect { vault: vault.clone(), server, service, route };
        (forward.listen, Arc::new(Front { shared: shared.clone(), end }))
    });
    let fronts = fronts.collect();
    Process { shared, fronts, drain: args.process.drain, metrics: args.process.metrics.clone() }.run(|| {
        tracing::info!("nothing is reloaded: a restart reads the configuration");
        Reloaded::Quietly
    })
}
