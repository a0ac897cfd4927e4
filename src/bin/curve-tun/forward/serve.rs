//! `curve-tun serve`: tunnels in, plain connections out.

use super::super::failure::{Failure, Outcome};
use super::super::peers::file_failure;
use super::address::Address;
use super::ending::Counters;
use super::service::{End, Service};
use super::{KeyArgs, ProcessArgs, process, read_service};
use curve_tun::Error;
use curve_tun::connection::{HandshakeEvent, HandshakeOutcome, Server};
use curve_tun::registry::FileRegistry;
use curve_tun::stream::ServiceName;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Put a service behind a tunnel: take tunnels, and forward each to a plain connection
///
/// Clients whose keys are in the registry file may come in; a change of the file counts at the next
/// handshake. It runs in the foreground, prints "listening on ADDR" when it is ready, which it also
/// tells systemd (Type=notify), and logs to standard error: one line when a connection opens, one
/// when it ends, with how. A connection that is cut resets the service's end of it: only what has
/// ended in order looks like an end. At SIGTERM or SIGINT no new ones are taken, the others have
/// --drain to end; a second signal ends at once. SIGHUP reads the registry file again.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    curve-tun serve --listen '[::]:7000' --to 127.0.0.1:5432 --vault /etc/tunnel/vault --registry /etc/tunnel/peers\n\n\
    Addresses are HOST:PORT, [IPV6]:PORT, or unix:PATH.")]
pub struct Args {
    /// Where tunnels come in; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    listen: Address,
    /// The service: each tunnel gets a connection to it
    #[arg(long, value_name = "ADDR", value_parser = Address::to_connect)]
    to: Address,
    #[command(flatten)]
    key: KeyArgs,
    /// Who may come in: the file that "curve-tun peers" keeps
    #[arg(long, value_name = "FILE")]
    registry: PathBuf,
    /// The name of the service, for clients that ask for one
    #[arg(long, value_name = "NAME", value_parser = read_service)]
    service: Option<ServiceName>,
    /// How many handshakes may be under way, and how many of them from one source
    #[arg(long, value_name = "N", default_value_t = 1024)]
    handshakes_max: u32,
    #[command(flatten)]
    process: ProcessArgs,
}

pub fn run(args: Args) -> Outcome {
    if let Address::Unix(_) = args.listen {
        return Err(Failure::new("tunnels come in over TCP, not over a Unix socket")
            .hint("Give --listen HOST:PORT. The service (--to) may be a Unix socket."));
    }
    let vault = args.key.open()?;
    let registry = FileRegistry::open(&args.registry).map_err(|error| file_failure(&args.registry, error))?;
    let registry = Arc::new(registry);
    args.process.begin_log();
    let origin = Instant::now();
    // A quarter for one source: the others stay for everybody else.
    let options = Service::options()
        .handshakes_max(args.handshakes_max)
        .handshakes_per_source(args.handshakes_max.div_ceil(4));
    let server = Server::new(vault, registry.clone(), options, 0)?;
    server.observe(log)?;
    let service = Arc::new(Service {
        end: End::Serve(server),
        name: args.service,
        to: args.to,
        idle: args.process.idle,
        lifetime: args.process.max_lifetime,
        resolver: Default::default(),
        counters: Counters::default(),
        places: process::places(),
        origin,
    });
    process::run(&args.listen, service, args.process.drain, move || match registry.reload() {
        Ok(()) => tracing::info!("reloaded {}", registry.path().display()),
        Err(error) => tracing::error!("{error}: what was read before stays"),
    })
}

/// Logs how a handshake has ended, unless it is well.
fn log(event: &HandshakeEvent) {
    let (address, key) = (event.address, event.key.map(|key| key.to_string()).unwrap_or_default());
    match event.outcome {
        HandshakeOutcome::Refused(Error::Closed) => {
            tracing::debug!(%address, key, "left during the handshake")
        }
        HandshakeOutcome::Refused(error) => tracing::warn!(%address, key, "refused: {error}"),
        HandshakeOutcome::Evicted => tracing::debug!(%address, "evicted: too many handshakes"),
        _ => {}
    }
}
