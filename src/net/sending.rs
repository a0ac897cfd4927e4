//! Sending: one message, many in one go, or queued until there is enough for one system call.

use super::{Socket, Timeout, io};
use crate::connection::SendHalf;
use crate::error::{Error, Result};
use crate::protocol::MESSAGE_MAX;
use crate::sys::Deadline;
use nix::poll::PollFlags;
use std::io::ErrorKind;
use std::time::Duration;

/// [`Socket::send_many`] writes this many bytes at a time, or up to one message more.
const BATCH: usize = 256 * 1024;
/// [`Socket::queue`] writes the queued bytes once there are this many.
const QUEUE: usize = 64 * 1024;

impl Socket {
    /// Sends one message of at most 65,503 bytes. Blocks until the operating system has taken all
    /// of it, and all that was queued before it.
    ///
    /// # Errors
    /// `Timeout`: if any message was sealed by then, the socket is closed, since half a packet
    /// cannot be taken back; with a zero timeout and a full transport nothing was sealed, and the
    /// socket stays usable. `TooLarge`: nothing is sent and the socket stays usable. `WrongState`
    /// before the handshake. `CounterExhausted`, `Closed`, `Forked`.
    pub fn send(&self, message: &[u8], timeout: Timeout) -> Result<()> {
        self.send_many([message], timeout)
    }

    /// Sends messages, in order, in as few system calls as they need.
    ///
    /// # Errors
    /// Those of [`Socket::send`]. `TooLarge` if any message is too large: none is sent.
    pub fn send_many<'a, I>(&self, messages: I, timeout: Timeout) -> Result<()>
    where
        I: IntoIterator<Item = &'a [u8]>,
        I::IntoIter: Clone,
    {
        self.fork_guard.check()?;
        let deadline = Deadline::after(timeout);
        let messages = messages.into_iter();
        if messages.clone().any(|message| message.len() > MESSAGE_MAX) {
            return Err(Error::TooLarge);
        }
        let mut place = deadline.lock(&self.sender)?;
        let half = self.connected(&mut place)?;
        if timeout == Some(Duration::ZERO) && !self.wait(PollFlags::POLLOUT, deadline)? {
            return Err(Error::Timeout);
        }
        let sent = self.seal_and_write(half, messages, deadline);
        sent.map_err(|error| self.end_sending(&mut place, error))
    }

    fn seal_and_write<'a>(
        &self,
        half: &mut SendHalf,
        messages: impl Iterator<Item = &'a [u8]>,
        deadline: Deadline,
    ) -> Result<()> {
        for message in messages {
            if let Err(error) = half.send(message) {
                let _ = self.write_until(half, 0, deadline);
                return Err(error);
            }
            if half.pending().len() >= BATCH {
                self.write_until(half, 0, deadline)?;
            }
        }
        self.write_until(half, 0, deadline)
    }

    /// Seals one message of at most 65,503 bytes and queues it, for a program that sends many small
    /// messages one by one. The queue goes to the operating system, in order, when it reaches
    /// 64 KiB, on [`Socket::flush`], and before the next [`Socket::send`].
    ///
    /// `Ok` means that the message is queued, not that it is sent: flush before waiting for an
    /// answer. Blocks only while 64 KiB are queued that the operating system does not take.
    ///
    /// # Errors
    /// `Timeout` and `TooLarge`: the message is not queued; earlier ones stay queued, and the
    /// socket stays usable. `WrongState` before the handshake. `CounterExhausted`, `Closed`,
    /// `Forked`, also for messages queued before.
    pub fn queue(&self, message: &[u8], timeout: Timeout) -> Result<()> {
        self.fork_guard.check()?;
        if message.len() > MESSAGE_MAX {
            return Err(Error::TooLarge);
        }
        let deadline = Deadline::after(timeout);
        let mut place = deadline.lock(&self.sender)?;
        let half = self.connected(&mut place)?;
        let queued = self.seal_and_queue(half, message, deadline);
        queued.map_err(|error| self.unless_timeout(&mut place, error))
    }

    fn seal_and_queue(&self, half: &mut SendHalf, message: &[u8], deadline: Deadline) -> Result<()> {
        self.write_until(half, QUEUE - 1, deadline)?;
        if let Err(error) = half.send(message) {
            let _ = self.write_until(half, 0, deadline);
            return Err(error);
        }
        if half.pending().len() >= QUEUE {
            self.write_now(half)?;
        }
        Ok(())
    }

    /// Writes all that is queued. Blocks until the operating system has taken it.
    ///
    /// # Errors
    /// `Timeout`: what was not taken stays queued, and the socket stays usable. `WrongState`
    /// before the handshake. `Closed`, `Forked`.
    pub fn flush(&self, timeout: Timeout) -> Result<()> {
        self.fork_guard.check()?;
        let deadline = Deadline::after(timeout);
        let mut place = deadline.lock(&self.sender)?;
        let half = self.connected(&mut place)?;
        let flushed = self.write_until(half, 0, deadline);
        flushed.map_err(|error| self.unless_timeout(&mut place, error))
    }

    /// Waits until a message can be queued without a wait.
    pub(super) fn await_room(&self, deadline: Deadline) -> Result<()> {
        self.fork_guard.check()?;
        let mut place = deadline.lock(&self.sender)?;
        let half = self.connected(&mut place)?;
        let written = self.write_until(half, QUEUE - 1, deadline);
        written.map_err(|error| self.unless_timeout(&mut place, error))
    }

    /// Writes until at most `rest` bytes are left in the queue.
    fn write_until(&self, half: &mut SendHalf, rest: usize, deadline: Deadline) -> Result<()> {
        while half.pending().len() > rest {
            if !self.write_now(half)? && !self.wait(PollFlags::POLLOUT, deadline)? {
                return Err(Error::Timeout);
            }
        }
        Ok(())
    }

    /// Writes once, without waiting; says whether the operating system took anything.
    fn write_now(&self, half: &mut SendHalf) -> Result<bool> {
        match io::write_now(&self.stream, half.pending()) {
            Ok(count) => half.written(count),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(io::broken(&e)),
        }
        Ok(true)
    }

    /// Writes what is queued when a socket is dropped, as far as that is possible without waiting.
    pub(super) fn write_last(&mut self) {
        if let Some(mut half) = self.sender.get_mut().take() {
            while !half.pending().is_empty() && self.write_now(&mut half) == Ok(true) {}
        }
    }

    /// Ends the socket on every error but a timeout, which leaves the queue intact.
    fn unless_timeout(&self, place: &mut Option<SendHalf>, error: Error) -> Error {
        if error == Error::Timeout { error } else { self.end_sending(place, error) }
    }

    /// Ends the socket and wipes the sending key, so that nothing more is sealed.
    fn end_sending(&self, place: &mut Option<SendHalf>, error: Error) -> Error {
        *place = None;
        self.abort(error)
    }
}
