//! What all connections of a server share.

use super::Options;
use super::shares::{GiveWay, Shares, Source};
use crate::contain::contain;
use crate::cookie::MinuteKeys;
use crate::crypto::Origin;
use crate::error::{Error, Result};
use crate::registry::Registry;
use crate::vault::Vault;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A server's vault, minute keys, registry and limits, shared by its connections and by any number of threads.
pub struct Server {
    pub(super) vault: Arc<dyn Vault>,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) minute_keys: MinuteKeys,
    options: Options,
    in_flight: Mutex<Shares>,
    origin: Origin,
}

impl Server {
    /// A server over `vault` and `registry`. `now_ms` is its clock: monotonic milliseconds from any origin, the same
    /// as [`Server::tick`]'s.
    ///
    /// # Errors
    /// `InvalidArgument` for options out of their range, `OutOfMemory`, `CryptoUnavailable`.
    pub fn new(
        vault: Arc<dyn Vault>,
        registry: Arc<dyn Registry>,
        options: Options,
        now_ms: u64,
    ) -> Result<Arc<Server>> {
        options.check()?;
        let minute_keys = MinuteKeys::new(now_ms)?;
        let in_flight = Mutex::new(Shares::new(options.handshakes_max, options.share()));
        Ok(Arc::new(Server { vault, registry, minute_keys, options, in_flight, origin: Origin::here() }))
    }

    /// Rotates the minute keys that are due at `now_ms`, and gives the time of the next rotation.
    ///
    /// Whoever drives a server calls this at those times, also when no traffic comes: then an old key is gone on
    /// time. [`net::Listener`](crate::net::Listener) and the C API do so by a timer of their own.
    ///
    /// # Errors
    /// `OutOfMemory`: no new key could be had; the current one stays, the previous one is wiped.
    pub fn tick(&self, now_ms: u64) -> Result<u64> {
        self.minute_keys.tick(now_ms)
    }

    /// The options that it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The vault that it was made with.
    pub fn vault(&self) -> &Arc<dyn Vault> {
        &self.vault
    }

    /// The registry that it was made with.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// How many handshakes are in flight.
    pub fn handshakes_in_flight(&self) -> usize {
        self.shares().taken()
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the handshakes in flight, given back when dropped.
pub(super) struct Slot {
    server: Arc<Server>,
    source: Source,
    number: u64,
}

impl Slot {
    /// A place for a client from `address`; another may have to give way.
    pub(super) fn take(server: &Arc<Server>, address: IpAddr) -> Result<Slot> {
        server.origin.check()?;
        let source = address.into();
        let number = server.shares().take(source)?;
        Ok(Slot { server: server.clone(), source, number })
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    #[cfg(any(feature = "net", feature = "nif"))]
    pub(super) fn source(&self) -> Source {
        self.source
    }

    /// `TooManyHandshakes` once it has given way.
    pub(super) fn check(&self) -> Result<()> {
        let has = self.server.shares().has(self.source, self.number);
        if has { Ok(()) } else { Err(Error::TooManyHandshakes) }
    }

    /// Lets it give way: `tell` is called once when it does, and never after this is dropped.
    pub(super) fn may_give_way(&self, tell: GiveWay) {
        self.server.shares().may_give_way(self.source, self.number, tell);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // In a forked child another thread of the parent may hold the lock for ever.
        if self.server.origin.check().is_ok() {
            let tell = self.server.shares().leave(self.source, self.number);
            // What it holds may itself use the server when it goes: not under the lock.
            let _ = contain(|| drop(tell));
        }
    }
}
