//! Who a server let in, and whom it turned away: for a program that wants to log or count them.

use super::Server;
use crate::crypto::PublicKey;
use crate::error::Error;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// How the handshake of one client ended: what [`Server::observe`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeEvent {
    /// Where the client came from. An IPv4 address is one, also where the socket takes both kinds.
    pub address: IpAddr,
    /// The client's long-term key, if it came so far as to prove it.
    pub key: Option<PublicKey>,
    /// What became of it.
    pub outcome: HandshakeOutcome,
}

/// What became of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeOutcome {
    /// The client is connected.
    Accepted,
    /// The handshake failed: the error is the one that ended the server's end, so that of the vault
    /// or the registry if it was theirs. `Closed` if the client left, or if the server's end was
    /// closed or dropped before.
    Refused(Error),
    /// It gave way to another at the limits of the options.
    Evicted,
}

/// What is told of each handshake.
pub(super) type Observer = Box<dyn Fn(&HandshakeEvent) + Send + Sync>;

/// Events that happen where a driver holds a lock, until it has let go of it and has them told.
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

    /// Tells what has happened. The caller holds no lock.
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
