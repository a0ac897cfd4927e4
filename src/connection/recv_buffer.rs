//! The receive buffer: bytes from the transport, opened in place and kept for the receiver.
//!
//! ```text
//! 0 ...... head ........ opened ........ filled ...... buffer.len()
//!          | messages,   | not yet      | room for
//!          | opened      | opened       | more bytes
//! ```
//! A frame keeps its two length bytes after its packet is opened, so the buffer is
//! its own index: there is no list of messages, and no allocation for one.

use crate::error::{Error, Result};
use crate::protocol::channel::Opener;
use crate::protocol::{LENGTH_BYTES, MESSAGE_OVERHEAD, frame_length};

/// The size of the first allocation, and the least space that is offered to the transport.
const ROOM_MIN: usize = 4096;

pub(super) struct RecvBuffer {
    buffer: Vec<u8>,
    head: usize,
    opened: usize,
    filled: usize,
    high_water: usize,
    /// The most bytes that `buffer` may ever have.
    max: usize,
    /// How much space to offer to the transport: doubled whenever the transport fills it.
    appetite: usize,
}

impl RecvBuffer {
    pub(super) fn new(high_water: usize, max: usize) -> RecvBuffer {
        RecvBuffer { buffer: Vec::new(), head: 0, opened: 0, filled: 0, high_water, max, appetite: ROOM_MIN }
    }

    /// Returns how many more bytes may come before the receiver takes messages: none at the
    /// high-water mark.
    pub(super) fn allowance(&self) -> usize {
        if self.opened - self.head >= self.high_water { 0 } else { self.max - (self.filled - self.head) }
    }

    /// Returns space to read bytes from the transport into; empty at the high-water mark.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let room = self.make_room(self.appetite);
        &mut self.buffer[self.filled..self.filled + room]
    }

    /// Reports that the first `count` bytes of [`RecvBuffer::room`] were filled.
    pub(super) fn filled(&mut self, count: usize) {
        if count == self.appetite {
            self.appetite = (2 * self.appetite).min(self.max);
        }
        self.filled = self.filled.saturating_add(count).min(self.buffer.len());
    }

    /// Copies as many of `bytes` as are allowed, and returns how many.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let count = self.make_room(bytes.len());
        self.buffer[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
        self.filled += count;
        count
    }

    /// Makes room for `wanted` bytes, or as many as are allowed, and returns how many.
    fn make_room(&mut self, wanted: usize) -> usize {
        let wanted = wanted.min(self.allowance());
        if self.buffer.len() - self.filled < wanted && self.head > 0 {
            self.buffer.copy_within(self.head..self.filled, 0);
            self.opened -= self.head;
            self.filled -= self.head;
            self.head = 0;
        }
        if self.buffer.len() - self.filled < wanted {
            let size = (self.filled + wanted).max(ROOM_MIN).next_power_of_two().min(self.max);
            // Exact: growth by doubling would go beyond the bound.
            self.buffer.reserve_exact(size - self.buffer.len());
            self.buffer.resize(size, 0);
        }
        wanted
    }

    /// Returns the packet of the next frame, if that frame is complete. `check` sees the announced
    /// length as soon as the length field is there, so that a bad frame is refused before its bytes
    /// come.
    fn next_packet(&mut self, check: impl Fn(usize) -> bool) -> Result<Option<&mut [u8]>> {
        let waiting = &mut self.buffer[self.opened..self.filled];
        let Some((field, rest)) = waiting.split_first_chunk_mut::<LENGTH_BYTES>() else { return Ok(None) };
        let len = frame_length(*field);
        if !check(len) {
            return Err(Error::BadPacket);
        }
        Ok(rest.get_mut(..len))
    }

    /// Takes the next packet of the handshake, which must have exactly `N` bytes.
    pub(super) fn handshake_packet<const N: usize>(&mut self) -> Result<Option<[u8; N]>> {
        let packet = self.next_packet(|len| len == N)?;
        let Some(packet) = packet.and_then(|packet| packet.first_chunk::<N>().copied()) else {
            return Ok(None);
        };
        self.opened += LENGTH_BYTES + N;
        self.head = self.opened;
        self.rewind();
        Ok(Some(packet))
    }

    /// Opens every complete message packet. The first bad one is an error; those before it are
    /// opened.
    pub(super) fn open_all(&mut self, opener: &mut Opener) -> Result<()> {
        while let Some(packet) = self.next_packet(|len| len >= MESSAGE_OVERHEAD)? {
            opener.open(packet)?;
            let len = packet.len();
            self.opened += LENGTH_BYTES + len;
        }
        Ok(())
    }

    /// Returns how many bytes the frame after the opened ones still lacks: first of its length
    /// field, then, once that is known, of the whole frame.
    #[cfg(feature = "nif")]
    pub(super) fn lacks(&self) -> usize {
        let waiting = &self.buffer[self.opened..self.filled];
        match waiting.split_first_chunk::<LENGTH_BYTES>() {
            Some((field, rest)) => frame_length(*field).saturating_sub(rest.len()),
            None => LENGTH_BYTES - waiting.len(),
        }
    }

    /// Returns the next message.
    #[inline]
    pub(super) fn message(&self) -> Option<&[u8]> {
        let waiting = &self.buffer[self.head..self.opened];
        let (field, rest) = waiting.split_first_chunk()?;
        rest.get(MESSAGE_OVERHEAD..frame_length(*field))
    }

    /// Removes the next message, if there is one.
    #[inline]
    pub(super) fn consume(&mut self) {
        if let Some(message) = self.message() {
            self.head += LENGTH_BYTES + MESSAGE_OVERHEAD + message.len();
            self.rewind();
        }
    }

    fn rewind(&mut self) {
        if self.head == self.filled {
            (self.head, self.opened, self.filled) = (0, 0, 0);
        }
    }

    /// Drops the bytes that have not been opened, since nothing more will be.
    pub(super) fn stop(&mut self) {
        self.filled = self.opened;
        self.rewind();
        if self.filled == 0 {
            self.release();
        }
    }

    /// Says whether all that has come is delivered.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == self.head
    }

    /// Says whether it holds memory.
    pub(super) fn is_allocated(&self) -> bool {
        self.buffer.capacity() > 0
    }

    /// Frees the buffer if it is empty.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            self.buffer = Vec::new();
            self.appetite = ROOM_MIN;
        }
    }
}
