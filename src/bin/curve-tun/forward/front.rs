//! Where connections come in, and where they lead.

use super::address::Address;
use super::asker::Asker;
use super::dial::Resolver;
use super::metrics::Metrics;
use super::proxy::Header;
use curve_tun::connection::{self, Connection, Server};
use curve_tun::registry::{Candidate, FileRegistry, Registry};
use curve_tun::stream::{self, Machine, Open, ServiceName};
use curve_tun::vault::Vault;
use curve_tun::{PublicKey, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long connecting to a target, an OPEN and its answer may take, each.
pub const STEP_LIMIT: Duration = Duration::from_secs(10);
/// How long a pair may be half-open without a byte.
pub const HALF_OPEN_LIMIT: Duration = Duration::from_secs(3600);
/// How many received bytes of a tunnel wait for its local side.
const RECEIVE_MARK: usize = 64 << 10;
/// The service of a client that names none, where there is more than one.
const DEFAULT: &str = "default";

/// What all of a process have in common.
pub struct Shared {
    pub resolver: Resolver,
    pub metrics: Arc<Metrics>,
    pub places: Arc<Places>,
    pub asker: Asker,
    /// The origin of the times that connections are told.
    pub origin: Instant,
}

impl Shared {
    pub fn new(places: Arc<Places>) -> Arc<Shared> {
        let (resolver, metrics) = (Resolver::default(), Arc::new(Metrics::new()));
        let asker = Asker::default();
        Arc::new(Shared { resolver, metrics, places, asker, origin: Instant::now() })
    }

    /// Returns the time as connections are told it.
    pub fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Where a pair leads, and its limits.
pub struct Route {
    /// What the log calls it.
    pub name: String,
    pub to: Address,
    /// Who may have it; a client's end asks nobody.
    pub registry: Option<Arc<FileRegistry>>,
    /// What its target hears first.
    pub proxy: Option<Header>,
    pub idle: Option<Duration>,
    pub lifetime: Option<Duration>,
}

/// The services of a process by their names, which a reload replaces as a whole.
#[derive(Default)]
pub struct Services(RwLock<Arc<BTreeMap<ServiceName, Arc<Route>>>>);

impl Services {
    pub fn set(&self, services: BTreeMap<ServiceName, Arc<Route>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(services);
    }

    pub fn get(&self) -> Arc<BTreeMap<ServiceName, Arc<Route>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The services that one listener has.
#[derive(Clone)]
pub struct Offer {
    pub services: Arc<Services>,
    /// Some of them; `None` for all.
    pub only: Option<BTreeSet<ServiceName>>,
}

/// Why a client does not get a service. It is told the same of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    Unknown,
    NotAllowed,
}

impl Offer {
    fn routes(&self) -> Vec<(ServiceName, Arc<Route>)> {
        let offered = |name: &ServiceName| self.only.as_ref().is_none_or(|only| only.contains(name));
        let services = self.services.get();
        let offered = services.iter().filter(|(name, _)| offered(name));
        offered.map(|(name, route)| (name.clone(), route.clone())).collect()
    }

    /// Returns the service that a client asks for, if it may have it. Who asks for none gets the
    /// only one, or the default one.
    fn route(
        &self,
        asked: Option<&ServiceName>,
        client: Candidate,
    ) -> std::result::Result<Arc<Route>, NoRoute> {
        let routes = self.routes();
        let found = match (asked, &*routes) {
            (None, [only]) => Some(only),
            (Some(name), [only]) if name.as_str() == DEFAULT => Some(only),
            (name, routes) => {
                let name = name.map_or(DEFAULT, ServiceName::as_str);
                routes.iter().find(|(service, _)| service.as_str() == name)
            }
        };
        let (name, route) = found.ok_or(NoRoute::Unknown)?;
        if allows(name, route, client).unwrap_or(false) {
            Ok(route.clone())
        } else {
            Err(NoRoute::NotAllowed)
        }
    }
}

fn allows(name: &ServiceName, route: &Route, client: Candidate) -> Result<bool> {
    route.registry.as_ref().map_or(Ok(true), |registry| registry.verify(&client.at(name.as_str())))
}

/// Lets in whom at least one of the services does.
impl Registry for Offer {
    fn verify(&self, candidate: &Candidate) -> Result<bool> {
        let mut answer = Ok(false);
        for (name, route) in self.routes() {
            match allows(&name, &route, candidate.clone()) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                failed => answer = failed,
            }
        }
        answer
    }
}

/// Which end of its tunnels a listener is.
pub enum End {
    /// Tunnels come in, and lead to connections of its own.
    Serve(Arc<Server>, Offer),
    /// Connections come in, and lead to tunnels of its own.
    Connect { vault: Arc<dyn Vault>, server: PublicKey, service: Option<ServiceName>, route: Arc<Route> },
}

/// Where connections come in.
pub struct Front {
    pub shared: Arc<Shared>,
    pub end: End,
}

impl Front {
    pub fn serves(&self) -> bool {
        matches!(self.end, End::Serve(..))
    }

    /// The options of every connection.
    pub fn options() -> connection::Options {
        connection::Options::default().receive_high_water(RECEIVE_MARK)
    }

    /// Makes the two machines of a new tunnel; `peer` is who connected, if that has an address.
    pub fn machines(&self, peer: Option<SocketAddr>) -> Result<(Connection, Machine)> {
        match &self.end {
            End::Serve(server, _) => {
                let machine = Machine::server(&stream::Options::stream());
                Ok((Connection::server(server, address_of(peer))?, machine))
            }
            End::Connect { vault, server, service, .. } => {
                let options = stream::Options::stream().service(service.clone()).client_address(peer);
                let connection = Connection::client(vault.clone(), *server, &Front::options())?;
                Ok((connection, Machine::client(&options)))
            }
        }
    }

    /// Returns whom a connection asks.
    pub fn providers(&self) -> (Arc<dyn Vault>, Option<Arc<dyn Registry>>) {
        match &self.end {
            End::Serve(server, _) => (server.vault().clone(), Some(server.registry().clone())),
            End::Connect { vault, .. } => (vault.clone(), None),
        }
    }

    /// Returns where a pair leads before its peer has said anything; a server's end hears of that
    /// first.
    pub fn route(&self) -> Option<Arc<Route>> {
        match &self.end {
            End::Serve(..) => None,
            End::Connect { route, .. } => Some(route.clone()),
        }
    }

    /// Returns where the stream of a client leads, who has proven its key.
    pub fn route_of(
        &self,
        open: &Open,
        peer: Option<SocketAddr>,
        key: PublicKey,
    ) -> std::result::Result<Arc<Route>, NoRoute> {
        match &self.end {
            End::Serve(_, offer) => offer.route(open.service.as_ref(), Candidate::new(address_of(peer), key)),
            End::Connect { route, .. } => Ok(route.clone()),
        }
    }
}

fn address_of(peer: Option<SocketAddr>) -> IpAddr {
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip())
}

/// How many pairs there may be, by the descriptors that the process may have: two for each.
pub struct Places {
    taken: AtomicUsize,
    most: usize,
}

/// The place of one pair.
pub struct Place(Arc<Places>);

impl Places {
    pub fn new(most: usize) -> Arc<Places> {
        Arc::new(Places { taken: AtomicUsize::new(0), most })
    }

    /// Takes a place, if one is free.
    pub fn take(self: &Arc<Places>) -> Option<Place> {
        let more = |taken| (taken < self.most).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Place(self.clone()))
    }

    pub fn most(&self) -> usize {
        self.most
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
