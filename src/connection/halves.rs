//! An established connection as two halves, for two threads.

use super::inbox::Inbox;
#[cfg(feature = "net")]
use super::outbox::Outbox;
use super::{Connection, State};
use crate::crypto::Origin;
use crate::error::{Error, Result};
use crate::protocol::channel::{Opener, Sealer};
#[cfg(feature = "nif")]
use crate::protocol::{LENGTH_BYTES, MESSAGE_MAX, MESSAGE_OVERHEAD, length_field};

/// What sends: see the methods of [`Connection`] of the same names.
pub(crate) struct SendHalf {
    #[cfg(feature = "net")]
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
            SendHalf {
                #[cfg(feature = "net")]
                outbox: self.outbox,
                sealer,
                origin,
            },
            ReceiveHalf { inbox: self.inbox, opener, origin },
        ))
    }
}

#[cfg(feature = "net")]
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

#[cfg(feature = "nif")]
impl SendHalf {
    /// Seals a message into `frame`, which is exactly as long as the message on the wire: for a driver that hands
    /// bytes to the transport itself.
    pub(crate) fn seal_into(&mut self, message: &[u8], frame: &mut [u8]) -> Result<()> {
        self.origin.check()?;
        let (field, packet) = frame.split_first_chunk_mut::<LENGTH_BYTES>().ok_or(Error::InvalidArgument)?;
        if message.len() > MESSAGE_MAX || packet.len() != MESSAGE_OVERHEAD + message.len() {
            return Err(Error::InvalidArgument);
        }
        *field = length_field(packet.len());
        packet[MESSAGE_OVERHEAD..].copy_from_slice(message);
        self.sealer.seal(packet)
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
