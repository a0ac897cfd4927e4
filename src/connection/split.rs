//! An established connection split into two halves, for two threads.

use super::recv_buffer::RecvBuffer;
#[cfg(feature = "net")]
use super::send_buffer::SendBuffer;
#[cfg(feature = "nif")]
use super::send_buffer::seal_frame;
use super::{Connection, State};
use crate::error::{Error, Result};
use crate::protocol::channel::{Opener, Sealer};
#[cfg(feature = "nif")]
use crate::protocol::{LENGTH_BYTES, MESSAGE_OVERHEAD, frame_length};
use crate::sys::ForkGuard;
#[cfg(feature = "nif")]
use std::ops::DerefMut;

/// The half that sends: see the methods of [`Connection`] of the same names.
pub(crate) struct SendHalf {
    #[cfg(feature = "net")]
    send_buffer: SendBuffer,
    sealer: Sealer,
    fork_guard: ForkGuard,
}

/// The half that receives: see the methods of [`Connection`] of the same names.
pub(crate) struct RecvHalf {
    recv_buffer: RecvBuffer,
    /// `None` once nothing more will be opened.
    opener: Option<Opener>,
    #[cfg(feature = "nif")]
    fork_guard: ForkGuard,
}

impl Connection {
    /// Splits an established connection; `WrongState` in any other state.
    pub(crate) fn split(self) -> Result<(SendHalf, RecvHalf)> {
        let State::Connected(sealer, opener) = self.state else { return Err(Error::WrongState) };
        let fork_guard = self.fork_guard;
        Ok((
            SendHalf {
                #[cfg(feature = "net")]
                send_buffer: self.send_buffer.without_high_water(),
                sealer,
                fork_guard,
            },
            RecvHalf {
                recv_buffer: self.recv_buffer,
                opener: Some(opener),
                #[cfg(feature = "nif")]
                fork_guard,
            },
        ))
    }
}

#[cfg(feature = "net")]
impl SendHalf {
    pub(crate) fn send(&mut self, message: &[u8]) -> Result<()> {
        self.fork_guard.check()?;
        self.send_buffer.push_message(&mut self.sealer, message)
    }

    pub(crate) fn pending(&self) -> &[u8] {
        self.send_buffer.bytes()
    }

    pub(crate) fn written(&mut self, count: usize) {
        self.send_buffer.taken(count);
    }

    pub(crate) fn release(&mut self) {
        self.send_buffer.release();
    }
}

#[cfg(feature = "nif")]
impl SendHalf {
    /// Appends a message to `frames`, in its wire format, for a driver that hands bytes to the
    /// transport itself.
    pub(crate) fn seal_onto(&mut self, message: &[u8], frames: &mut Vec<u8>) -> Result<()> {
        self.fork_guard.check()?;
        seal_frame(&mut self.sealer, message, frames)
    }
}

impl RecvHalf {
    #[cfg(feature = "nif")]
    pub(crate) fn check(&self) -> Result<()> {
        self.fork_guard.check()
    }

    #[cfg(feature = "net")]
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.recv_buffer.room()
    }

    /// Reports `count` bytes read into the room, and opens the packets that they complete. After an
    /// error nothing more is to be read; messages before it stay.
    pub(crate) fn filled(&mut self, count: usize) -> Result<()> {
        self.recv_buffer.filled(count);
        let opener = self.opener.as_mut().ok_or(Error::Closed)?;
        let opened = self.recv_buffer.open_all(opener);
        if opened.is_err() {
            self.stop();
        }
        opened
    }

    /// Wipes the key and drops bytes that have not been opened; opened messages stay.
    pub(crate) fn stop(&mut self) {
        self.opener = None;
        self.recv_buffer.stop();
    }

    /// Opens the next frame, directly from `bytes` into memory that `make` returns for the length
    /// of its message, and advances `bytes` past it. `None` when the rest of `bytes` has been taken
    /// and does not complete a frame.
    #[cfg(feature = "nif")]
    pub(crate) fn open_next<M: DerefMut<Target = [u8]>>(
        &mut self,
        bytes: &mut &[u8],
        make: impl FnOnce(usize) -> M,
    ) -> Result<Option<M>> {
        // The receive buffer holds the messages that came with the end of the handshake, and frames
        // that come in pieces are put together there.
        while !self.recv_buffer.is_empty() || bytes.len() < LENGTH_BYTES {
            if let Some(message) = self.recv_buffer.message() {
                let mut made = make(message.len());
                made.copy_from_slice(message);
                self.recv_buffer.consume();
                return Ok(Some(made));
            }
            if bytes.is_empty() {
                return Ok(None);
            }
            let count = self.recv_buffer.push(&bytes[..bytes.len().min(self.recv_buffer.lacks())]);
            *bytes = &bytes[count..];
            self.filled(0)?;
        }
        let (field, rest) = bytes.split_first_chunk().ok_or(Error::Internal)?;
        let len = frame_length(*field);
        if len < MESSAGE_OVERHEAD {
            return self.refuse(Error::BadPacket);
        }
        let Some((packet, rest)) = rest.split_at_checked(len) else {
            self.recv_buffer.push(bytes);
            *bytes = &[];
            return Ok(None);
        };
        *bytes = rest;
        match self.opener.as_mut().ok_or(Error::Closed)?.open_apart(packet, make) {
            Ok(message) => Ok(Some(message)),
            Err(error) => self.refuse(error),
        }
    }

    #[cfg(feature = "nif")]
    fn refuse<T>(&mut self, error: Error) -> Result<T> {
        self.stop();
        Err(error)
    }

    #[cfg(feature = "net")]
    pub(crate) fn message(&self) -> Option<&[u8]> {
        self.recv_buffer.message()
    }

    #[cfg(feature = "net")]
    pub(crate) fn consume(&mut self) {
        self.recv_buffer.consume();
    }

    pub(crate) fn release(&mut self) {
        self.recv_buffer.release();
    }
}
