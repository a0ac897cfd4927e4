//! Which clients a server let in and which it turned away, for a program that logs or counts them.

use super::Server;
use crate::crypto::PublicKey;
use crate::error::Error;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// How the handshake of one client ended, as reported by [`Server::observe`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeEvent {
    /// Where the client came from. That of an IPv4 client is an IPv4 address, even on a socket that
    /// takes both kinds.
    pub address: IpAddr,
    /// The client's long-term key, if it got so far as to prove it.
    pub key: Option<PublicKey>,
    /// How the handshake ended.
    pub outcome: HandshakeOutcome,
}

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeOutcome {
    /// The client is connected.
    Accepted,
    /// The handshake failed with the error that closed the server's end: that of the vault or the
    /// registry, if one of them failed; `Closed` if the client left, or if the server's end was
    /// closed or dropped before.
    Refused(Error),
    /// It was evicted for another handshake at the limits of the options.
    Evicted,
}

/// The callback that gets the end of each handshake.
pub(super) type Observer = Box<dyn Fn(&HandshakeEvent) + Send + Sync>;

/// Events that happen while a driver holds a lock, collected until it holds none and tells them.
#[cfg_attr(not(feature = "net"), allow(dead_code, reason = "only sockets have locks"))]
pub(crate) struct Reports {
    server: Arc<Server>,
    events: Mutex<Vec<HandshakeEvent>>,
}

#[cfg(feature = "net")]
impl Reports {
    pub(crate) fn new(server: &Arc<Server>) -> Arc<Reports> {
        Arc::new(Reports { server: server.clone(), events: Mutex::default() })
    }

    /// Tells the observer the collected events. The caller holds no lock.
    pub(crate) fn tell(&self) {
        if self.server.check().is_ok() {
            let events = std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner));
            events.iter().for_each(|event| self.server.tell(event));
        }
    }
}

impl Reports {
    pub(super) fn push(&self, event: HandshakeEvent) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

#[cfg(feature = "net")]
impl Drop for Reports {
    fn drop(&mut self) {
        self.tell();
    }
}
