//! The server: what all its connections share.

use super::limiter::{Limiter, OnEvict, Source};
use super::observer::{Observer, Reports};
use super::{HandshakeEvent, HandshakeOutcome, Options};
use crate::contain::contain;
use crate::cookie::MinuteKeys;
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::registry::Registry;
use crate::sys::ForkGuard;
use crate::vault::Vault;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A server's vault, minute keys, registry and limits, shared by its connections and by any number
/// of threads.
pub struct Server {
    pub(super) vault: Arc<dyn Vault>,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) minute_keys: MinuteKeys,
    options: Options,
    limiter: Mutex<Limiter>,
    observer: OnceLock<Observer>,
    fork_guard: ForkGuard,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Server {
    /// Makes a server over `vault` and `registry`. `now_ms` is the time in monotonic milliseconds,
    /// from any origin that [`Server::tick`] also uses.
    ///
    /// # Errors
    /// `InvalidArgument` for options out of range, `OutOfMemory`, `CryptoUnavailable`.
    pub fn new(
        vault: Arc<dyn Vault>,
        registry: Arc<dyn Registry>,
        options: Options,
        now_ms: u64,
    ) -> Result<Arc<Server>> {
        options.check()?;
        let minute_keys = MinuteKeys::new(now_ms)?;
        let limiter = Mutex::new(Limiter::new(options.handshakes_max, options.share()));
        let (observer, fork_guard) = (OnceLock::new(), ForkGuard::here());
        Ok(Arc::new(Server { vault, registry, minute_keys, options, limiter, observer, fork_guard }))
    }

    /// Rotates the minute keys that are due at `now_ms`, and returns the time of the next rotation.
    ///
    /// The driver of a server calls this at those times, even without traffic, so that an old key
    /// is wiped on time. [`net::Listener`](crate::net::Listener) and the C API have a timer of
    /// their own for it.
    ///
    /// # Errors
    /// `OutOfMemory`: no new key could be made; the current one stays, the previous one is wiped.
    /// `Forked`.
    pub fn tick(&self, now_ms: u64) -> Result<u64> {
        self.fork_guard.check()?;
        self.minute_keys.tick(now_ms)
    }

    /// Calls `observer` once for each client's handshake, when it ends: with the client connected,
    /// refused or evicted. Set it before the first client comes: handshakes that have ended by then
    /// are not reported.
    ///
    /// Nothing on the wire tells of a failure, so to a client, a server whose vault fails looks
    /// like one with another key; the observer tells the server's own program the truth. A client
    /// that left before [`net`](crate::net) accepted it had no handshake.
    ///
    /// The observer runs on the thread that drives the handshake, with no lock of this crate held:
    /// in the call on the connection that ends it, or in the drop of the connection; under
    /// [`net`](crate::net) in the calls that accept, run the handshake or shut down, after the
    /// fact. It may call this server, but not the connection that is being served. While it runs,
    /// that thread serves nobody, so it should not wait. A panic in it is contained. A forked child
    /// reports nothing.
    ///
    /// # Errors
    /// `WrongState` if the server has an observer already, which stays. `Forked`.
    pub fn observe(&self, observer: impl Fn(&HandshakeEvent) + Send + Sync + 'static) -> Result<()> {
        self.fork_guard.check()?;
        self.observer.set(Box::new(observer)).map_err(|_| Error::WrongState)
    }

    /// Returns the options that it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns the vault that it was made with.
    pub fn vault(&self) -> &Arc<dyn Vault> {
        &self.vault
    }

    /// Returns the registry that it was made with.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// Returns how many handshakes are in flight; 0 in a forked child.
    pub fn handshakes_in_flight(&self) -> usize {
        // In a forked child, the lock may be held for ever by a thread that only the parent has.
        self.fork_guard.check().map_or(0, |()| self.limiter().taken())
    }

    /// Returns `Forked` in a child of the process that made it.
    #[cfg(feature = "net")]
    pub(crate) fn check(&self) -> Result<()> {
        self.fork_guard.check()
    }

    pub(super) fn tell(&self, event: &HandshakeEvent) {
        if let Some(observer) = self.observer.get() {
            let _ = contain(|| observer(event));
        }
    }

    fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit for a handshake in flight. Dropping it gives it back and tells the server's observer
/// how the handshake ended.
pub(super) struct Permit {
    server: Arc<Server>,
    address: IpAddr,
    source: Source,
    number: u64,
    /// The key that the client has proven.
    pub(super) key: Option<PublicKey>,
    outcome: HandshakeOutcome,
    /// Collects the event where it cannot be told at once.
    reports: Option<Arc<Reports>>,
}

impl Permit {
    /// Takes a permit for a client from `address`; another handshake may be evicted for it.
    pub(super) fn take(
        server: &Arc<Server>,
        address: IpAddr,
        reports: Option<Arc<Reports>>,
    ) -> Result<Box<Permit>> {
        server.fork_guard.check()?;
        let (address, source) = (address.to_canonical(), address.into());
        let taken = server.limiter().take(source);
        let outcome = HandshakeOutcome::Refused(Error::Closed);
        match taken {
            Ok(number) => {
                let (server, key) = (server.clone(), None);
                Ok(Box::new(Permit { server, address, source, number, key, outcome, reports }))
            }
            Err(error) => {
                let outcome = HandshakeOutcome::Refused(error);
                report(server, reports.as_deref(), HandshakeEvent { address, key: None, outcome });
                Err(error)
            }
        }
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Returns the address that the client comes from.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    #[cfg(any(feature = "net", feature = "nif"))]
    pub(super) fn source(&self) -> Source {
        self.source
    }

    /// Returns `TooManyHandshakes` once the handshake is evicted.
    pub(super) fn check(&self) -> Result<()> {
        let has = self.server.limiter().has(self.source, self.number);
        if has { Ok(()) } else { Err(Error::TooManyHandshakes) }
    }

    /// Lets the handshake be evicted: `tell` is called once when it is, and never after this permit
    /// is dropped.
    pub(super) fn on_evict(&self, tell: OnEvict) {
        self.server.limiter().on_evict(self.source, self.number, tell);
    }

    /// Gives the permit back, since the client is connected or refused. If the handshake was
    /// evicted, that is reported instead of `outcome`.
    pub(super) fn end(mut self, outcome: HandshakeOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // In a forked child another thread of the parent may hold the lock for ever.
        if self.server.fork_guard.check().is_ok() {
            let left = self.server.limiter().leave(self.source, self.number);
            let outcome = if left.is_some() { self.outcome } else { HandshakeOutcome::Evicted };
            // What the callback holds may use the server when dropped, so it is dropped unlocked.
            let _ = contain(|| drop(left));
            let event = HandshakeEvent { address: self.address, key: self.key, outcome };
            report(&self.server, self.reports.as_deref(), event);
        }
    }
}

/// Tells the observer, or leaves that to a driver that holds locks of its own. The caller holds no
/// lock of the server's.
fn report(server: &Server, reports: Option<&Reports>, event: HandshakeEvent) {
    match reports {
        Some(reports) if server.observer.get().is_some() => reports.push(event),
        Some(_) => {}
        None => server.tell(&event),
    }
}
