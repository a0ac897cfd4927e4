//! `curve-tun serve`: tunnels in, plain connections out.

use super::super::failure::{Failure, Outcome, print};
use super::super::peers::file_failure;
use super::address::{Address, Listen};
use super::config;
use super::front::{End, Front, Offer, Route, Services, Shared};
use super::process::{Process, Reloaded, places};
use super::proxy::Header;
use super::{KeyArgs, LimitArgs, ProcessArgs, check_needs_config, counted, read_service};
use curve_tun::Error;
use curve_tun::connection::{HandshakeEvent, HandshakeOutcome, Server};
use curve_tun::registry::FileRegistry;
use curve_tun::stream::ServiceName;
use curve_tun::vault::Vault;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Put a service behind a tunnel: take tunnels, and forward each to a plain connection
///
/// Clients whose keys are in the registry file may come in; a change of the file counts at the next
/// handshake. It runs in the foreground, prints "listening on ADDR" when it is ready, which it also
/// tells systemd (Type=notify), and logs to standard error: one line when a connection opens, one
/// when it ends, with how. A connection that is cut resets the service's end of it: only what has
/// ended in order looks like an end. At SIGTERM or SIGINT no new ones are taken, the others have
/// --drain to end; a second signal ends at once. SIGHUP reads the registry, or the configuration,
/// again.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    curve-tun serve --listen '[::]:7000' --to 127.0.0.1:5432 --vault /etc/tunnel/vault --registry /etc/tunnel/peers\n  \
    curve-tun serve --config /etc/tunnel/serve.toml\n\n\
    Addresses are HOST:PORT, [IPV6]:PORT, or unix:PATH.")]
pub struct Args {
    /// Where tunnels come in; port 0 picks a free one, and systemd:NAME is a socket that systemd
    /// passes
    #[arg(long, value_name = "ADDR", required_unless_present = "config", conflicts_with = "config")]
    listen: Option<Listen>,
    /// The service: each tunnel gets a connection to it
    #[arg(long, value_name = "ADDR", value_parser = Address::to_connect, required_unless_present = "config",
        conflicts_with = "config")]
    to: Option<Address>,
    #[command(flatten)]
    key: KeyArgs,
    /// Who may come in: the file that "curve-tun peers" keeps
    #[arg(long, value_name = "FILE", required_unless_present = "config", conflicts_with = "config")]
    registry: Option<PathBuf>,
    /// The name of the service, for clients that ask for one
    #[arg(long, value_name = "NAME", value_parser = read_service, conflicts_with = "config")]
    service: Option<ServiceName>,
    /// Put a header of the PROXY protocol before each connection to the service
    #[arg(long, value_name = "VERSION", conflicts_with = "config")]
    proxy: Option<Header>,
    /// How many handshakes may be under way at once, at most half of the connections that
    /// "ulimit -n" allows; a quarter of them from one source
    #[arg(long, value_name = "N", default_value_t = HANDSHAKES, conflicts_with = "config",
        value_parser = clap::value_parser!(u32).range(1..))]
    handshakes_max: u32,
    #[command(flatten)]
    limits: LimitArgs,
    /// Many listeners and services, from a TOML file, with the key
    #[arg(long, value_name = "FILE", group = "kept")]
    config: Option<PathBuf>,
    /// Read the configuration and what it names, say what is wrong, and start nothing
    #[arg(long, requires = "config")]
    check: bool,
    /// At SIGHUP, end connections of keys that may not have their service any more
    #[arg(long)]
    recheck: bool,
    #[command(flatten)]
    process: ProcessArgs,
}

const HANDSHAKES: u32 = 1024;
/// The name of the service of a command line that gives it none.
const DEFAULT: &str = "default";

pub fn run(args: Args) -> Outcome {
    if let Some(path) = &args.config {
        return run_configured(path, &args);
    }
    check_needs_config(args.check)?;
    let (Some(listen), Some(to), Some(path)) = (args.listen, args.to, args.registry) else {
        return Err(Failure::from(Error::InvalidArgument));
    };
    let vault = args.key.open()?;
    let registry = open_registry(&path)?;
    let name = args.service.map_or_else(|| DEFAULT.parse(), Ok)?;
    let route = Route {
        name: name.to_string(),
        to,
        registry: Some(registry.clone()),
        proxy: args.proxy,
        idle: args.limits.idle,
        lifetime: args.limits.max_lifetime,
    };
    let services = Arc::new(Services::default());
    services.set(BTreeMap::from([(name, Arc::new(route))]));
    args.process.begin_log();
    let shared = Shared::new(places());
    let front = front(&shared, &vault, &listen, Offer { services, only: None }, args.handshakes_max)?;
    let process = Process {
        shared,
        fronts: vec![(listen, front)],
        drain: args.process.drain,
        metrics: args.process.metrics.clone(),
    };
    process.run(|| match registry.reload() {
        Ok(()) => {
            tracing::info!("reloaded {}", registry.path().display());
            if args.recheck { Reloaded::Recheck } else { Reloaded::Quietly }
        }
        Err(error) => {
            tracing::error!("not reloaded: {error}; what was read before stays in force");
            Reloaded::Quietly
        }
    })
}

fn open_registry(path: &Path) -> Result<Arc<FileRegistry>, Failure> {
    FileRegistry::open(path).map(Arc::new).map_err(|error| file_failure(path, error))
}

/// Makes a place where tunnels come in.
fn front(
    shared: &Arc<Shared>,
    vault: &Arc<dyn Vault>,
    listen: &Listen,
    offer: Offer,
    handshakes: u32,
) -> Result<Arc<Front>, Failure> {
    if let Listen::At(Address::Unix(_)) = listen {
        return Err(Failure::new("tunnels come in over TCP, not over a Unix socket")
            .hint("Listen at HOST:PORT. The service that they lead to may be a Unix socket.")
            .code(2));
    }
    // Strangers get no more than half of the places, and a quarter of those from one source: the
    // others stay for everybody else.
    let places = u32::try_from(shared.places.most() / 2).unwrap_or(u32::MAX).max(1);
    let handshakes = handshakes.min(places);
    let options = Front::options().handshakes_max(handshakes).handshakes_per_source(handshakes.div_ceil(4));
    let server = Server::new(vault.clone(), Arc::new(offer.clone()), options, 0)?;
    server.observe(log)?;
    Ok(Arc::new(Front { shared: shared.clone(), end: End::Serve(server, offer) }))
}

fn run_configured(path: &Path, args: &Args) -> Outcome {
    let config: config::Serve = config::read(path)?;
    let routes = routes(path, &config)?;
    let vault = config.key.open(path)?;
    let services = Arc::new(Services::default());
    let shared = Shared::new(places());
    let handshakes = config.handshakes_max.unwrap_or(HANDSHAKES);
    let mut fronts = Vec::new();
    for listener in config.listener.values() {
        let offer = Offer { services: services.clone(), only: listener.services.clone() };
        fronts.push((listener.listen.clone(), front(&shared, &vault, &listener.listen, offer, handshakes)?));
    }
    if args.check {
        let (listeners, services) = (counted(fronts.len(), "listener"), counted(routes.len(), "service"));
        print(format_args!("{}: {listeners}, {services}", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    args.process.begin_log();
    services.set(routes);
    let fixed = fixed_of(&config);
    let process =
        Process { shared, fronts, drain: args.process.drain, metrics: args.process.metrics.clone() };
    process.run(|| match reload(path, &fixed) {
        Ok(routes) => {
            services.set(routes);
            tracing::info!("reloaded {}", path.display());
            if args.recheck { Reloaded::Recheck } else { Reloaded::Quietly }
        }
        Err(failure) => {
            tracing::error!("not reloaded: {failure}; what was read before stays in force");
            Reloaded::Quietly
        }
    })
}

/// Returns the services of a configuration, with their registries open.
fn routes(path: &Path, config: &config::Serve) -> Result<BTreeMap<ServiceName, Arc<Route>>, Failure> {
    let at = path.display();
    if config.listener.is_empty() || config.service.is_empty() {
        return Err(Failure::new(format_args!("{at}: there is no listener, or no service"))
            .hint("It takes at least one [listener.NAME] and one [service.NAME]."));
    }
    for (listener, settings) in &config.listener {
        let mut names = settings.services.iter().flatten();
        if let Some(name) = names.find(|name| !config.service.contains_key(*name)) {
            return Err(Failure::new(format_args!("{at}: listener {listener}: there is no service {name}"))
                .hint(format_args!("Add a [service.{name}], or take it off the list.")));
        }
    }
    let mut routes = BTreeMap::new();
    for (name, target) in &config.service {
        let registry = open_registry(&config::beside(path, &target.registry))?;
        let (to, idle, lifetime) = (target.to.clone(), target.idle, target.max_lifetime);
        routes.insert(
            name.clone(),
            Arc::new(Route {
                name: name.to_string(),
                to,
                registry: Some(registry),
                proxy: target.proxy,
                idle,
                lifetime,
            }),
        );
    }
    Ok(routes)
}

/// What a reload does not change: the key, where a process listens, and what is to be had there.
type Fixed = (config::Key, Vec<(String, Option<BTreeSet<ServiceName>>)>);

fn fixed_of(config: &config::Serve) -> Fixed {
    let listeners = config.listener.values();
    let listeners = listeners.map(|listener| (listener.listen.to_string(), listener.services.clone()));
    (config.key.clone(), listeners.collect())
}

fn reload(path: &Path, fixed: &Fixed) -> Result<BTreeMap<ServiceName, Arc<Route>>, Failure> {
    let config: config::Serve = config::read(path)?;
    let routes = routes(path, &config)?;
    let (key, listeners) = fixed_of(&config);
    if key != fixed.0 {
        return Err(Failure::new(format_args!(
            "{}: its key has changed, which takes a restart",
            path.display()
        )));
    }
    if listeners != fixed.1 {
        return Err(Failure::new(format_args!(
            "{}: its listeners have changed, which takes a restart",
            path.display()
        )));
    }
    Ok(routes)
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
