//! An established connection as two halves, for two threads.

use super::inbox::Inbox;
use super::outbox::Outbox;
use super::{Connection, State};
use crate::crypto::Origin;
use crate::error::{Error, Result};
use crate::protocol::channel::{Opener, Sealer};

/// What sends: see the methods of [`Connection`] of the same names.
pub(crate) struct SendHalf {
    outbox: Outbox,
    sealer: Sealer,
    origin: Origin,
}

/// What receives: see the methods of [`Connection`] of the same names.
pub(crate) struct ReceiveHalf {
    inbox: Inbox,
    opener: Opener,
    origin: Origin,
}

impl Connection {
    /// Takes an established connection apart; `WrongState` in any other state.
    pub(crate) fn into_halves(self) -> Result<(SendHalf, ReceiveHalf)> {
        let State::Connected(sealer, opener) = self.state else { return Err(Error::WrongState) };
        let origin = self.origin;
        Ok((
            SendHalf { outbox: self.outbox, sealer, origin },
            ReceiveHalf { inbox: self.inbox, opener, origin },
        ))
    }
}

impl SendHalf {
    pub(crate) fn check(&self) -> Result<()> {
        self.origin.check()
    }

    pub(crate) fn send(&mut self, message: &[u8]) -> Result<()> {
        self.origin.check()?;
        self.outbox.push_message(&mut self.sealer, message)
    }

    pub(crate) fn pending(&self) -> &[u8] {
        self.outbox.bytes()
    }

    pub(crate) fn written(&mut self, count: usize) {
        self.outbox.taken(count);
    }

    pub(crate) fn release(&mut self) {
        self.outbox.release();
    }
}

impl ReceiveHalf {
    pub(crate) fn check(&self) -> Result<()> {
        self.origin.check()
    }

    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.inbox.room()
    }

    /// Opens what came. On an error nothing more is to be read; messages before it stay.
    pub(crate) fn filled(&mut self, count: usize) -> Result<()> {
        self.inbox.filled(count);
        let opened = self.inbox.open_all(&mut self.opener);
        if opened.is_err() {
            self.inbox.stop();
        }
        opened
    }

    pub(crate) fn message(&self) -> Option<&[u8]> {
        self.inbox.message()
    }

    pub(crate) fn consume(&mut self) {
        self.inbox.consume();
    }

    pub(crate) fn release(&mut self) {
        self.inbox.release();
    }
}
