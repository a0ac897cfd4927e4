//! What all connections of a server share.

use super::Options;
use crate::cookie::MinuteKeys;
use crate::error::{Error, Result};
use crate::registry::Registry;
use crate::vault::Vault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A server's vault, minute keys, registry and limits, shared by its connections and by any number of threads.
pub struct Server {
    pub(super) vault: Arc<dyn Vault>,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) minute_keys: MinuteKeys,
    options: Options,
    in_flight: AtomicU32,
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
        Ok(Arc::new(Server { vault, registry, minute_keys, options, in_flight: AtomicU32::new(0) }))
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
    pub fn handshakes_in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// A place among the handshakes in flight, given back when dropped.
pub(super) struct Slot(Arc<Server>);

impl Slot {
    pub(super) fn take(server: &Arc<Server>) -> Result<Slot> {
        let max = server.options.handshakes_max;
        server
            .in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1))
            .map_err(|_| Error::TooManyHandshakes)?;
        Ok(Slot(server.clone()))
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
