//! Keys in DNS, validated by DNSSEC (`docs/REGISTRIES.md`).

mod cache;
mod names;
mod record;
mod worker;

use super::{Candidate, Registry, ServerKeys, ServerName, TellVerdict};
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
use std::sync::{Arc, mpsc};
use std::time::Duration;
use worker::Worker;

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
/// never waits inside a call. Who has an event loop asks by the calls that end
/// in `_then`: they never block. Answers are held for their TTL. Any thread may
/// call any method; in a forked child every call says `Forked`.
pub struct DnsRegistry {
    zone: Zone,
    worker: Worker,
    cache: Arc<Cache>,
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
        Ok(DnsRegistry { zone, worker, cache: Arc::new(Cache::new(options.cache_max, ttl_max)) })
    }

    /// The keys that may come in from `address`; none if DNS knows none. Blocks at most for
    /// [`DnsOptions::timeout_ms`] and `timeout`.
    ///
    /// # Errors
    /// `NotValidated`, `RegistryFailed`, `Timeout`, `Forked`.
    pub fn lookup(&self, address: IpAddr, timeout: Option<Duration>) -> Result<Vec<PublicKey>> {
        self.wait(timeout, |tell| self.lookup_then(address, timeout, tell))
    }

    /// As [`DnsRegistry::lookup`], without blocking: gives the answer if it is known, or `None` and hands it to `tell`
    /// later, once, also if it is a failure.
    ///
    /// `tell` runs on the registry's thread, on which all other answers wait meanwhile.
    pub fn lookup_then(
        &self,
        address: IpAddr,
        timeout: Option<Duration>,
        tell: impl FnOnce(Result<Vec<PublicKey>>) + Send + 'static,
    ) -> Option<Result<Vec<PublicKey>>> {
        let keys = |records: Records| Ok(records.iter().map(|record| record.key).collect());
        self.ask_then(self.zone.of_client(address), timeout, keys, tell)
    }

    /// As [`Registry::verify`], without blocking; as [`DnsRegistry::lookup_then`].
    pub fn verify_then(
        &self,
        candidate: &Candidate,
        tell: impl FnOnce(Result<bool>) + Send + 'static,
    ) -> Option<Result<bool>> {
        let key = candidate.key;
        let admits = move |records: Records| Ok(records.iter().any(|record| record.key == key));
        let tell = |verdict| tell(told_as_failure(verdict));
        self.ask_then(self.zone.of_client(candidate.address), None, admits, tell)
    }

    /// As [`ServerKeys::server_keys`], without blocking; as [`DnsRegistry::lookup_then`].
    pub fn server_keys_then(
        &self,
        name: &ServerName,
        timeout: Option<Duration>,
        tell: impl FnOnce(Result<Vec<PublicKey>>) + Send + 'static,
    ) -> Option<Result<Vec<PublicKey>>> {
        let port = name.port();
        let keys = move |records: Records| {
            let here = records.iter().filter(|record| record.port.is_none_or(|only| only == port));
            let keys: Vec<_> = here.map(|record| record.key).collect();
            if keys.is_empty() { Err(Error::NotFound) } else { Ok(keys) }
        };
        self.ask_then(self.zone.of_server(name).ok_or(Error::NotFound), timeout, keys, tell)
    }

    /// What `read` makes of the records at `name`, at once if they are known, else told later.
    fn ask_then<T>(
        &self,
        name: Result<Name>,
        timeout: Option<Duration>,
        read: impl FnOnce(Records) -> Result<T> + Send + 'static,
        tell: impl FnOnce(Result<T>) + Send + 'static,
    ) -> Option<Result<T>> {
        let ask = || {
            self.worker.check()?;
            let name = name?;
            if let Some(records) = self.cache.get(&name) {
                return read(records).map(Some);
            }
            let (at, cache) = (name.clone(), self.cache.clone());
            let tell = move |found: Result<_>| tell(found.and_then(|found| read(cache.put(at, found))));
            self.worker.ask(name, timeout, tell).map(|()| None)
        };
        ask().transpose()
    }

    /// Waits for what is told later.
    fn wait<T: Send + 'static>(
        &self,
        timeout: Option<Duration>,
        ask: impl FnOnce(Box<dyn FnOnce(Result<T>) + Send>) -> Option<Result<T>>,
    ) -> Result<T> {
        let (tell, answer) = mpsc::sync_channel(1);
        let told = ask(Box::new(move |told| {
            // Whoever asked may have given up.
            let _ = tell.send(told);
        }));
        told.unwrap_or_else(|| match answer.recv_timeout(self.worker.patience(timeout)) {
            Ok(told) => told,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(Error::Timeout),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::RegistryFailed),
        })
    }
}

/// A decision that took too long has failed; `Timeout` is for those who wait for it.
fn told_as_failure(verdict: Result<bool>) -> Result<bool> {
    verdict.map_err(|error| if error == Error::Timeout { Error::RegistryFailed } else { error })
}

impl Registry for DnsRegistry {
    fn verify(&self, candidate: &Candidate) -> Result<bool> {
        told_as_failure(self.wait(None, |tell| self.verify_then(candidate, tell)))
    }

    fn verify_or_tell(&self, candidate: &Candidate, tell: TellVerdict) -> Option<Result<bool>> {
        self.verify_then(candidate, tell)
    }

    fn blocks(&self) -> bool {
        false
    }

    fn answers(&self) -> Answers {
        Answers::Later
    }
}

impl ServerKeys for DnsRegistry {
    fn server_keys(&self, name: &ServerName, timeout: Option<Duration>) -> Result<Vec<PublicKey>> {
        self.wait(timeout, |tell| self.server_keys_then(name, timeout, tell))
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
