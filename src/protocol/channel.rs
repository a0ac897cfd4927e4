//! The two directions of an established connection.

use crate::crypto::{MessageKey, SharedKey};
use crate::error::{Error, Result};
use crate::protocol::{nonce, packet};

/// The counter that is never sent and never accepted.
const END: u64 = u64::MAX;

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end that connected and said hello.
    Client,
    /// The end that accepted.
    Server,
}

/// Makes both directions from the key that the short-term key pairs agreed on. That key is wiped
/// here.
pub(crate) fn channel(shared: SharedKey, role: Role) -> Result<(Sealer, Opener)> {
    let client = shared.message_key(nonce::CLIENT_MESSAGE)?;
    let server = shared.message_key(nonce::SERVER_MESSAGE)?;
    let (ours, theirs) = match role {
        Role::Client => (client, server),
        Role::Server => (server, client),
    };
    let next = packet::FIRST_MESSAGE_COUNTER;
    Ok((Sealer { key: ours, next }, Opener { key: theirs, next }))
}

/// The direction in which we send: a key, and the next counter to seal under.
pub(crate) struct Sealer {
    key: MessageKey,
    next: u64,
}

impl Sealer {
    /// Returns `CounterExhausted` if no more messages can be sealed.
    pub(crate) fn ready(&self) -> Result<()> {
        if self.next == END { Err(Error::CounterExhausted) } else { Ok(()) }
    }

    /// Appends the packet of `message` to `out`.
    #[inline]
    pub(crate) fn seal(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.ready()?;
        let counter = self.next.to_be_bytes();
        out.extend_from_slice(&packet::message_head(counter));
        self.key.seal(counter, message, out);
        self.next += 1;
        Ok(())
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn set_counter(&mut self, next: u64) {
        self.next = next;
    }
}

/// The direction in which we receive: a key, and the only counter that opens next.
pub(crate) struct Opener {
    key: MessageKey,
    next: u64,
}

impl Opener {
    /// Opens a message packet in place. The message then starts after the first 32 bytes.
    ///
    /// The counter moves on only after a packet that opens.
    #[inline]
    pub(crate) fn open(&mut self, packet: &mut [u8]) -> Result<()> {
        if self.next == END {
            return Err(Error::CounterExhausted);
        }
        let counter = self.next.to_be_bytes();
        let (head, rest) = packet.split_first_chunk_mut().ok_or(Error::BadPacket)?;
        let (tag, sealed) = rest.split_first_chunk_mut().ok_or(Error::BadPacket)?;
        if *head != packet::message_head(counter) {
            return Err(Error::BadPacket);
        }
        self.key.open(counter, tag, sealed)?;
        self.next += 1;
        Ok(())
    }

    /// Like [`Opener::open`], but opens into the place that `make` returns for the length of the
    /// message.
    #[cfg(feature = "nif")]
    pub(crate) fn open_apart<M: std::ops::DerefMut<Target = [u8]>>(
        &mut self,
        packet: &[u8],
        make: impl FnOnce(usize) -> M,
    ) -> Result<M> {
        if self.next == END {
            return Err(Error::CounterExhausted);
        }
        let counter = self.next.to_be_bytes();
        let (head, rest) = packet.split_first_chunk().ok_or(Error::BadPacket)?;
        let (tag, sealed) = rest.split_first_chunk().ok_or(Error::BadPacket)?;
        if *head != packet::message_head(counter) {
            return Err(Error::BadPacket);
        }
        let mut message = make(sealed.len());
        self.key.open_apart(counter, tag, sealed, &mut message)?;
        self.next += 1;
        Ok(message)
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn set_counter(&mut self, next: u64) {
        self.next = next;
    }
}
