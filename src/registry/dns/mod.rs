//! Keys in DNS, validated by DNSSEC (`docs/REGISTRIES.md`).

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

/// Checks a text of [trust anchors](DnsOptions::trust_anchors), and names the line that is wrong.
///
/// # Errors
/// A [`WrongAnchors`].
pub fn check_trust_anchors(text: &str) -> std::result::Result<(), WrongAnchors> {
    Anchors::parse(text).map(drop)
}

/// Where and how a [`DnsRegistry`] asks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DnsOptions {
    /// Recursive name servers, or those of the zone itself; none means those that
    /// `/etc/resolv.conf` names at the time, at port 53. They must pass DNSSEC's records on.
    /// Default none.
    pub servers: Vec<SocketAddr>,
    /// DNSKEY and DS records that are trusted, as `keymgr` and `dig` print them, at least one;
    /// `None` means the keys of the root zone. One key of a zone, that which signs its keys, is
    /// enough. Default `None`.
    pub trust_anchors: Option<String>,
    /// Whether answers without a proof by DNSSEC are taken, bogus ones too. Then anybody on the
    /// path to the name server can decide who may come in. Default false.
    pub allow_unvalidated: bool,
    /// Time for an answer, with all that it takes to validate it: 1 ms to 1 h. Default 5 s.
    pub timeout: Duration,
    /// The longest time for which an answer is cached, however long its TTL and the signatures of
    /// its proof: for that long, a key that was taken out of DNS may still come in. Default 300 s.
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
/// Clients' keys are at the names of their addresses
/// (`7.2.0.192.in-addr.ZONE`, `….ip6.ZONE`), servers' keys at
/// `_curve_tun.HOST`. Only answers that DNSSEC proves are taken, from the trust
/// anchors down; see [`DnsOptions::allow_unvalidated`].
///
/// It answers [later](Registry::deferred), from its own thread, so a connection never waits inside
/// a call. Programs with an event loop use the calls that end in `_then`, which never block.
/// Answers are held for their TTL, and a name that is asked for is not asked for again: all are
/// told its answer. Any thread may call any method; in a forked child every call says `Forked`.
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
    /// `InvalidArgument` for what is no name, for trust anchors that [`check_trust_anchors`]
    /// refuses, or for options out of their range; `RegistryFailed` if `/etc/resolv.conf` names no
    /// server;
    /// `TooManyThreads`, `TooManyFiles`.
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

    /// Returns the keys that may come in from `address`; none if DNS knows none. Blocks at most for
    /// [`DnsOptions::timeout`] and `timeout`.
    ///
    /// # Errors
    /// `NotValidated`, `RegistryFailed`, `Timeout`, `Forked`.
    pub fn lookup(&self, address: IpAddr, timeout: Option<Duration>) -> Result<Vec<PublicKey>> {
        self.wait(timeout, |tell| self.lookup_then(address, timeout, tell))
    }

    /// As [`DnsRegistry::lookup`], without blocking: gives the answer if it is known, or `None` and
    /// hands it to `tell` later, once, also if it is a failure.
    ///
    /// `tell` runs on the registry's thread, on which all other answers wait meanwhile.
    pub fn lookup_then(
        &self,
        address: IpAddr,
        timeout: Option<Duration>,
        tell: impl FnOnce(Result<Vec<PublicKey>>) + Send + 'static,
    ) -> Option<Result<Vec<PublicKey>>> {
        let keys = |records: Records| Ok(records.iter().map(|record| record.key).collect());
        self.ask_then(self.zone.of_client(address), None, timeout, keys, tell)
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
        let source = self.zone.of_source(candidate.address);
        self.ask_then(self.zone.of_client(candidate.address), source.ok(), None, admits, tell)
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
        self.ask_then(self.zone.of_server(name).ok_or(Error::NotFound), None, timeout, keys, tell)
    }

    /// Returns what `read` makes of the records at `name`, at once if they are known, else told
    /// later.
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

/// Turns a timeout into a failure: `Timeout` is only for callers that wait.
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
