//! The registry in DNS, validated by DNSSEC (`docs/REGISTRIES.md`).

mod anchors;
mod cache;
mod heard;
mod names;
mod proof;
mod record;
mod servers;
mod validity;
mod wildcard;
mod worker;

use super::{Candidate, Registry, ServerKeys, ServerName, TellVerdict};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::setters::setters;
use anchors::Anchors;
pub use anchors::WrongAnchors;
use cache::{Cache, Records};
use hickory_resolver::proto::rr::Name;
use names::Zone;
use servers::Servers;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use worker::{Asking, Worker};

const TIMEOUT_MIN: Duration = Duration::from_millis(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Checks a text of [trust anchors](DnsOptions::trust_anchors). The error names the line that is
/// wrong.
///
/// # Errors
/// A [`WrongAnchors`].
pub fn check_trust_anchors(text: &str) -> std::result::Result<(), WrongAnchors> {
    Anchors::parse(text).map(drop)
}

/// The options of a [`DnsRegistry`]: where and how it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DnsOptions {
    /// The name servers to ask: recursive ones, or those of the zone itself. If there are none,
    /// those are asked that `/etc/resolv.conf` names at the time, at port 53. They must pass on the
    /// records of DNSSEC. Default none.
    pub servers: Vec<SocketAddr>,
    /// The DNSKEY and DS records to trust, at least one, as `keymgr` and `dig` print them; `None`
    /// means the keys of the root zone. One key of a zone is enough: the one that signs its keys.
    /// Default `None`.
    pub trust_anchors: Option<String>,
    /// Whether to accept answers without a proof by DNSSEC, including bogus ones. If so, anybody on
    /// the path to the name server can decide who is admitted. Default false.
    pub allow_unvalidated: bool,
    /// The time allowed for an answer, including its validation: 1 ms to 1 h. Default 5 s.
    pub timeout: Duration,
    /// The longest time for which an answer is cached, however long its TTL and the signatures of
    /// its proof last. For that long, a key that was removed from DNS may still be admitted.
    /// Default 300 s.
    pub ttl_max: Duration,
    /// The most names whose answers are cached. Default 65,536.
    pub cache_max: usize,
}

setters!(DnsOptions {
    servers: Vec<SocketAddr>,
    trust_anchors: Option<String>,
    allow_unvalidated: bool,
    timeout: Duration,
    ttl_max: Duration,
    cache_max: usize,
});

impl Default for DnsOptions {
    fn default() -> DnsOptions {
        DnsOptions {
            servers: Vec::new(),
            trust_anchors: None,
            allow_unvalidated: false,
            timeout: Duration::from_secs(5),
            ttl_max: Duration::from_secs(300),
            cache_max: 65_536,
        }
    }
}

/// A registry in DNS: TXT records `v=ct1; k=KEY` under a zone.
///
/// Clients' keys are at the names of their addresses (`7.2.0.192.in-addr.ZONE`, `….ip6.ZONE`),
/// servers' keys at `_curve_tun.HOST`. Only answers that DNSSEC proves, from the trust anchors
/// down, are accepted; see [`DnsOptions::allow_unvalidated`].
///
/// It answers [later](Registry::deferred), from its own thread, so a connection never waits inside
/// a call. Programs with an event loop use the methods that end in `_then`, which never block.
/// Answers are cached for their TTL. While a question is under way, the same name is not asked for
/// again: all callers get the one answer. Any thread may call any method; in a forked child every
/// call returns `Forked`.
pub struct DnsRegistry {
    zone: Zone,
    worker: Worker,
    cache: Arc<Cache>,
}

impl fmt::Debug for DnsRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsRegistry").field("zone", &self.zone).finish_non_exhaustive()
    }
}

impl DnsRegistry {
    /// Makes a registry of the keys under `zone`, a domain name.
    ///
    /// # Errors
    /// `InvalidArgument` for a zone that is not a name, for trust anchors that
    /// [`check_trust_anchors`] refuses, or for options out of their range; `RegistryFailed` if
    /// `/etc/resolv.conf` names no server; `TooManyThreads`, `TooManyFiles`.
    pub fn open(zone: &str, options: &DnsOptions) -> Result<DnsRegistry> {
        if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&options.timeout) {
            return Err(Error::InvalidArgument);
        }
        let zone = Zone::new(zone)?;
        let anchors = match &options.trust_anchors {
            None => Anchors::of_the_root(),
            Some(text) => Anchors::parse(text)?,
        };
        let anchors = (!options.allow_unvalidated).then_some(anchors);
        let cache = Arc::new(Cache::new(options.cache_max, options.ttl_max));
        let servers = Mutex::new(Servers::new(options)?);
        let worker = Worker::start(Asking { servers, anchors, cache: cache.clone() }, options.timeout)?;
        Ok(DnsRegistry { zone, worker, cache })
    }

    /// Returns the keys that may connect from `address`; empty if DNS has none. Blocks for at most
    /// [`DnsOptions::timeout`] and at most `timeout`.
    ///
    /// # Errors
    /// `NotValidated`, `RegistryFailed`, `Timeout`, `Forked`.
    pub fn lookup(&self, address: IpAddr, timeout: Option<Duration>) -> Result<Vec<PublicKey>> {
        self.wait(timeout, |tell| self.lookup_then(address, timeout, tell))
    }

    /// Like [`DnsRegistry::lookup`], without blocking. Returns the answer if it is known already.
    /// Otherwise returns `None`, and calls `tell` with the answer or the failure later, once.
    ///
    /// `tell` runs on the registry's thread; all other answers wait for it.
    pub fn lookup_then(
        &self,
        address: IpAddr,
        timeout: Option<Duration>,
        tell: impl FnOnce(Result<Vec<PublicKey>>) + Send + 'static,
    ) -> Option<Result<Vec<PublicKey>>> {
        let keys = |records: Records| Ok(records.iter().map(|record| record.key).collect());
        self.ask_then(self.zone.of_client(address), None, timeout, keys, tell)
    }

    /// Like [`Registry::verify`], without blocking; see [`DnsRegistry::lookup_then`].
    pub fn verify_then(
        &self,
        candidate: &Candidate,
        tell: impl FnOnce(Result<bool>) + Send + 'static,
    ) -> Option<Result<bool>> {
        let key = candidate.key;
        let admits = move |records: Records| Ok(records.iter().any(|record| record.key == key));
        let tell = |verdict| tell(told_as_failure(verdict));
        let source = self.zone.of_source(candidate.address);
        self.ask_then(self.zone.of_client(candidate.address), source.ok(), None, admits, tell)
    }

    /// Like [`ServerKeys::server_keys`], without blocking; see [`DnsRegistry::lookup_then`].
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
        self.ask_then(self.zone.of_server(name).ok_or(Error::NotFound), None, timeout, keys, tell)
    }

    /// Returns what `read` makes of the records at `name` if they are known already. Otherwise
    /// calls `tell` with it later.
    fn ask_then<T>(
        &self,
        name: Result<Name>,
        source: Option<Name>,
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
            let tell = move |found: Result<_>| tell(found.and_then(read));
            self.worker.ask(name, source.as_ref(), timeout, tell).map(|()| None)
        };
        ask().transpose()
    }

    /// Waits for an answer that comes later.
    fn wait<T: Send + 'static>(
        &self,
        timeout: Option<Duration>,
        ask: impl FnOnce(Box<dyn FnOnce(Result<T>) + Send>) -> Option<Result<T>>,
    ) -> Result<T> {
        let (tell, answer) = mpsc::sync_channel(1);
        let told = ask(Box::new(move |told| {
            // The caller may have given up.
            let _ = tell.send(told);
        }));
        told.unwrap_or_else(|| match answer.recv_timeout(self.worker.patience(timeout)) {
            Ok(told) => told,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(Error::Timeout),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::RegistryFailed),
        })
    }
}

/// Turns a timeout into a failure, because `Timeout` is only for callers that wait.
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

    fn deferred(&self) -> bool {
        true
    }
}

impl ServerKeys for DnsRegistry {
    fn server_keys(&self, name: &ServerName, timeout: Option<Duration>) -> Result<Vec<PublicKey>> {
        self.wait(timeout, |tell| self.server_keys_then(name, timeout, tell))
    }
}
