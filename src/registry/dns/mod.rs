//! Keys in DNS, validated by DNSSEC (`docs/REGISTRIES.md`).

mod cache;
mod names;
mod record;
mod worker;

use super::{Candidate, Registry, ServerKeys, ServerName};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::vault::Answers;
use cache::{Cache, Records};
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{TokioResolver, system_conf};
use names::Zone;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use worker::Worker;

/// How long it is held that a name has no key: so long may a new one stay unseen.
const NEGATIVE_TTL: Duration = Duration::from_secs(10);

const TIMEOUT_MAX_MS: u64 = 3_600_000;

/// Where and how a [`DnsRegistry`] asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsOptions {
    /// Recursive name servers, or those of the zone itself; none means those of `/etc/resolv.conf`. They must hand
    /// DNSSEC's records on. Default none.
    pub servers: Vec<SocketAddr>,
    /// DNSKEY records in their text form, one a line, that are trusted; empty means those of the root zone. Default
    /// empty.
    pub trust_anchors: String,
    /// Whether answers without a proof by DNSSEC are taken, bogus ones too: whoever is on the way to the name server
    /// then decides who may come in. Default false.
    pub allow_unvalidated: bool,
    /// Milliseconds for an answer, with all that it takes to validate it: 1 to 3,600,000. Default 5,000.
    pub timeout_ms: u64,
    /// Seconds for which an answer is held at most, however long its TTL: so long may a key that was taken out of
    /// DNS come in. Default 300.
    pub ttl_max: u32,
    /// Names whose answers are held at most. Default 65,536.
    pub cache_max: usize,
}

impl Default for DnsOptions {
    fn default() -> DnsOptions {
        DnsOptions {
            servers: Vec::new(),
            trust_anchors: String::new(),
            allow_unvalidated: false,
            timeout_ms: 5_000,
            ttl_max: 300,
            cache_max: 65_536,
        }
    }
}

/// A registry in DNS: TXT records `v=ct1; k=KEY` under a zone.
///
/// Clients' keys are at the names of their addresses
/// (`7.2.0.192.in-addr.ZONE`, `….ip6.ZONE`), servers' keys at
/// `_curve_tun.HOST`. Only answers that DNSSEC proves are taken, from the trust
/// anchors down; see [`DnsOptions::allow_unvalidated`].
///
/// It answers [later](Answers::Later), by a thread of its own, so a connection
/// never waits inside a call. Answers are held for their TTL. Any thread may
/// call any method; in a forked child every call says `Forked`.
pub struct DnsRegistry {
    zone: Zone,
    worker: Worker,
    cache: Cache,
    ttl_max: Duration,
}

impl DnsRegistry {
    /// A registry of the keys under `zone`, a domain name.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no name, for trust anchors that are no DNSKEY records, or for options out of
    /// their range; `RegistryFailed` if `/etc/resolv.conf` names no server; `OutOfMemory`, `TooManyFiles`.
    pub fn open(zone: &str, options: &DnsOptions) -> Result<DnsRegistry> {
        if !(1..=TIMEOUT_MAX_MS).contains(&options.timeout_ms) {
            return Err(Error::InvalidArgument);
        }
        let zone = Zone::new(zone)?;
        let timeout = Duration::from_millis(options.timeout_ms);
        let worker = Worker::start(resolver(options)?, !options.allow_unvalidated, timeout)?;
        let ttl_max = Duration::from_secs(options.ttl_max.into());
        Ok(DnsRegistry { zone, worker, cache: Cache::new(options.cache_max), ttl_max })
    }

    /// The keys that may come in from `address`; none if DNS knows none. Blocks at most for
    /// [`DnsOptions::timeout_ms`] and `timeout`.
    ///
    /// # Errors
    /// `NotValidated`, `RegistryFailed`, `Timeout`, `Forked`.
    pub fn lookup(&self, address: IpAddr, timeout: Option<Duration>) -> Result<Vec<PublicKey>> {
        let records = self.records(self.zone.of_client(address)?, timeout)?;
        Ok(records.iter().map(|record| record.key).collect())
    }

    fn records(&self, name: Name, timeout: Option<Duration>) -> Result<Records> {
        if let Some(records) = self.cache.get(&name) {
            return Ok(records);
        }
        let found = self.worker.ask(name.clone(), timeout)?;
        let records: Records = found.records.into();
        let most = if records.is_empty() { self.ttl_max.min(NEGATIVE_TTL) } else { self.ttl_max };
        let most = Instant::now() + most;
        self.cache.put(name, records.clone(), found.until.map_or(most, |until| until.min(most)));
        Ok(records)
    }
}

impl Registry for DnsRegistry {
    fn verify(&self, candidate: &Candidate) -> Result<bool> {
        let keys = self.lookup(candidate.address, None).map_err(|error| match error {
            Error::Timeout => Error::RegistryFailed,
            error => error,
        })?;
        Ok(keys.contains(&candidate.key))
    }

    fn answers(&self) -> Answers {
        Answers::Later
    }
}

impl ServerKeys for DnsRegistry {
    fn server_keys(&self, name: &ServerName, timeout: Option<Duration>) -> Result<Vec<PublicKey>> {
        let at = self.zone.of_server(name).ok_or(Error::NotFound)?;
        let records = self.records(at, timeout)?;
        let here = records.iter().filter(|record| record.port.is_none_or(|port| port == name.port()));
        let keys: Vec<_> = here.map(|record| record.key).collect();
        if keys.is_empty() { Err(Error::NotFound) } else { Ok(keys) }
    }
}

fn resolver(options: &DnsOptions) -> Result<TokioResolver> {
    let servers = if options.servers.is_empty() {
        let (system, _) = system_conf::read_system_conf().map_err(|_| Error::RegistryFailed)?;
        system.name_servers().to_vec()
    } else {
        options.servers.iter().map(name_server).collect()
    };
    let config = ResolverConfig::from_name_servers(servers);
    let mut resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(resolver_options(options));
    if !options.allow_unvalidated {
        let anchors = if options.trust_anchors.is_empty() {
            TrustAnchors::default()
        } else {
            options.trust_anchors.parse().map_err(|_| Error::InvalidArgument)?
        };
        resolver = resolver.with_trust_anchor(Arc::new(anchors));
    }
    resolver.build().map_err(|_| Error::RegistryFailed)
}

fn resolver_options(options: &DnsOptions) -> ResolverOpts {
    let mut resolver = ResolverOpts::default();
    resolver.validate = !options.allow_unvalidated;
    resolver.timeout = Duration::from_millis(options.timeout_ms.div_ceil(2));
    resolver.try_tcp_on_error = true;
    resolver.use_hosts_file = ResolveHosts::Never;
    // The cache here has bounds of its own.
    resolver.cache_size = 0;
    resolver
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}
