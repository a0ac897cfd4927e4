//! The send buffer: bytes for the transport, framed and sealed in place.

use crate::error::{Error, Result};
use crate::protocol::channel::Sealer;
use crate::protocol::{LENGTH_BYTES, MESSAGE_MAX, MESSAGE_OVERHEAD, length_field};

pub(super) struct SendBuffer {
    buffer: Vec<u8>,
    /// How many bytes of `buffer` the transport has taken.
    head: usize,
    high_water: usize,
}

impl SendBuffer {
    pub(super) fn new(high_water: usize) -> SendBuffer {
        SendBuffer { buffer: Vec::new(), head: 0, high_water }
    }

    /// Removes the high-water mark, for a driver that writes before much is queued.
    #[cfg(feature = "net")]
    pub(super) fn without_high_water(self) -> SendBuffer {
        SendBuffer { high_water: usize::MAX, ..self }
    }

    /// Frames a packet of the handshake, given in parts.
    pub(super) fn push_packet(&mut self, parts: &[&[u8]]) {
        let len = parts.iter().map(|part| part.len()).sum();
        self.buffer.extend_from_slice(&length_field(len));
        parts.iter().for_each(|part| self.buffer.extend_from_slice(part));
    }

    /// Frames and seals a message. On failure nothing is added and no counter is used.
    #[inline]
    pub(super) fn push_message(&mut self, sealer: &mut Sealer, message: &[u8]) -> Result<()> {
        if message.len() <= MESSAGE_MAX && self.bytes().len() >= self.high_water {
            return Err(Error::WouldBlock);
        }
        seal_frame(sealer, message, &mut self.buffer)
    }

    /// Returns the bytes that wait for the transport.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.head..]
    }

    /// Reports that the transport took the first `count` of [`SendBuffer::bytes`].
    pub(super) fn taken(&mut self, count: usize) {
        self.head = self.head.saturating_add(count).min(self.buffer.len());
        if self.head == self.buffer.len() {
            self.buffer.clear();
            self.head = 0;
        } else if self.head >= self.buffer.len() / 2 {
            // Each byte is moved at most once for each byte taken.
            self.buffer.drain(..self.head);
            self.head = 0;
        }
    }

    /// Says whether it holds memory.
    pub(super) fn is_allocated(&self) -> bool {
        self.buffer.capacity() > 0
    }

    /// Frees the buffer if it is empty.
    pub(super) fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
    }

    /// Drops the bytes that the transport has not taken.
    pub(super) fn clear(&mut self) {
        self.buffer = Vec::new();
        self.head = 0;
    }
}

/// Appends a message, framed and sealed, to `out`. On failure nothing is added and no counter is
/// used.
#[inline]
pub(super) fn seal_frame(sealer: &mut Sealer, message: &[u8], out: &mut Vec<u8>) -> Result<()> {
    if message.len() > MESSAGE_MAX {
        return Err(Error::TooLarge);
    }
    sealer.ready()?;
    let len = MESSAGE_OVERHEAD + message.len();
    out.reserve(LENGTH_BYTES + len);
    out.extend_from_slice(&length_field(len));
    sealer.seal(message, out)
}
