//! What all pairs of a process share: where they lead, and their limits.

use super::address::Address;
use super::dial::Resolver;
use super::ending::Counters;
use curve_tun::PublicKey;
use curve_tun::connection::{self, Connection, Server};
use curve_tun::stream::{self, Machine, Open, ServiceName};
use curve_tun::vault::Vault;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long connecting to a target, an OPEN and its answer may take, 10 s each.
pub const STEP_LIMIT: Duration = Duration::from_secs(10);
/// How long a pair may be half-open without a byte.
pub const HALF_OPEN_LIMIT: Duration = Duration::from_secs(3600);
/// How many received bytes of a tunnel wait for its local side.
const RECEIVE_MARK: usize = 64 << 10;

/// Which end of its tunnels a process is.
pub enum End {
    /// Tunnels come in, and lead to connections of its own.
    Serve(Arc<Server>),
    /// Connections come in, and lead to tunnels of its own.
    Connect { vault: Arc<dyn Vault>, server: PublicKey, service: Option<ServiceName> },
}

pub struct Service {
    pub end: End,
    /// The name that clients may ask for, besides none and "default".
    pub name: Option<ServiceName>,
    pub to: Address,
    pub idle: Option<Duration>,
    pub lifetime: Option<Duration>,
    pub resolver: Resolver,
    pub counters: Counters,
    pub places: Arc<Places>,
    /// The origin of the times that connections are told.
    pub origin: Instant,
}

impl Service {
    /// The options of every connection.
    pub fn options() -> connection::Options {
        connection::Options::default().receive_high_water(RECEIVE_MARK)
    }

    /// Makes the two machines of a new tunnel; `peer` is who connected, if that has an address.
    pub fn machines(&self, peer: Option<SocketAddr>) -> curve_tun::Result<(Connection, Machine)> {
        match &self.end {
            End::Serve(server) => {
                let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
                let machine = Machine::server(&stream::Options::stream());
                Ok((Connection::server(server, address)?, machine))
            }
            End::Connect { vault, server, service } => {
                let options = stream::Options::stream().service(service.clone()).client_address(peer);
                let connection = Connection::client(vault.clone(), *server, &Service::options())?;
                Ok((connection, Machine::client(&options)))
            }
        }
    }

    /// Says whether a client gets what it asks for.
    pub fn offers(&self, open: &Open) -> bool {
        let asked = open.service.as_ref();
        asked.is_none_or(|asked| asked.as_str() == "default" || self.name.as_ref() == Some(asked))
    }

    /// Returns the time as connections are told it.
    pub fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }
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
