//! A stream over a connection without I/O: moves the messages between the two. Nothing waits in
//! here but one message that the connection had no room for, and the part of a large message that
//! has come.

use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::stream::{AbortCode, Event, Machine, Mode};

pub(super) struct StreamDriver {
    pub(super) machine: Machine,
    /// A message that the connection had no room for. It goes before all others.
    held: Option<Vec<u8>>,
    /// How much was taken of the DATA that is next in the connection, its kind included; 0 if the
    /// machine has not seen that message.
    taken: usize,
    /// What has come of a large message.
    part: Vec<u8>,
    /// The message that was received last.
    message: Vec<u8>,
    /// The message that is being sent.
    unsent: Option<Unsent>,
}

/// A message that has begun: its length, and how much of it was taken.
#[derive(Clone, Copy)]
struct Unsent {
    total: usize,
    taken: usize,
}

impl StreamDriver {
    pub(super) fn new(machine: Machine) -> StreamDriver {
        StreamDriver { machine, held: None, taken: 0, part: Vec::new(), message: Vec::new(), unsent: None }
    }

    /// Sees messages until the peer's OPEN has come.
    pub(super) fn await_peer(&mut self, connection: &mut Connection) -> Result<()> {
        self.send_what_fits(connection);
        while self.machine.peer().is_none() {
            self.machine.received_end()?;
            self.receive(connection, |_| None::<()>)?;
        }
        Ok(())
    }

    pub(super) fn accept(&mut self, connection: &mut Connection) -> Result<()> {
        self.machine.accept()?;
        self.send_what_fits(connection);
        Ok(())
    }

    /// Returns how many bytes of the stream it has put into `buffer`; 0 at the end.
    pub(super) fn read(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> Result<usize> {
        if self.machine.mode() != Mode::Stream {
            return Err(Error::WrongState);
        }
        self.send_what_fits(connection);
        loop {
            if self.taken == 0 {
                if self.machine.received_end()? {
                    return Ok(0);
                }
                let Some(header) = self.receive_bytes(connection)? else { continue };
                self.taken = header;
            }
            let message = connection.peek()?;
            let count = buffer.len().min(message.len() - self.taken);
            buffer[..count].copy_from_slice(&message[self.taken..self.taken + count]);
            self.taken += count;
            if self.taken == message.len() {
                connection.consume();
                self.taken = 0;
            }
            return Ok(count);
        }
    }

    /// Sees the next message. If it has bytes of the stream it stays, and how much stands before
    /// them is returned.
    fn receive_bytes(&mut self, connection: &mut Connection) -> Result<Option<usize>> {
        let message = match connection.peek() {
            Ok(message) => message,
            Err(error) => return self.without_message(error).map(|()| None),
        };
        let seen = match self.machine.receive(message) {
            Ok(Event::Bytes(bytes)) => return Ok(Some(message.len() - bytes.len())),
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        connection.consume();
        self.send_what_fits(connection);
        seen
    }

    /// Has the machine see the next message, and gives what `take` makes of it, if anything.
    fn receive<R>(
        &mut self,
        connection: &mut Connection,
        take: impl FnOnce(Event) -> Option<R>,
    ) -> Result<Option<R>> {
        let message = match connection.peek() {
            Ok(message) => message,
            Err(error) => return self.without_message(error).map(|()| None),
        };
        let seen = self.machine.receive(message).map(take);
        connection.consume();
        self.send_what_fits(connection);
        seen
    }

    /// Says what it means for the stream that there is no message.
    fn without_message(&mut self, error: Error) -> Result<()> {
        if error != Error::Closed {
            return Err(error);
        }
        self.machine.transport_ended();
        self.machine.received_end().map(drop)
    }

    /// Returns the next message, which is kept until the next call; `None` at the end.
    pub(super) fn recv_message(&mut self, connection: &mut Connection) -> Result<Option<&[u8]>> {
        self.message = Vec::new();
        if self.machine.mode() != Mode::Messages {
            return Err(Error::WrongState);
        }
        self.send_what_fits(connection);
        while !self.machine.received_end()? {
            let mut part = std::mem::take(&mut self.part);
            let whole = self.receive(connection, |event| match event {
                Event::Message(bytes) => Some(bytes.to_vec()),
                Event::Part { total, offset, bytes } => {
                    part.extend_from_slice(bytes);
                    let whole = offset as usize + bytes.len() == total as usize;
                    whole.then(|| std::mem::take(&mut part))
                }
                _ => None,
            });
            self.part = part;
            if let Some(message) = whole? {
                self.message = message;
                return Ok(Some(&self.message));
            }
        }
        Ok(None)
    }

    /// Takes as many of `bytes` as the connection has room for, and adds them to `taken`; all of
    /// them, or `WouldBlock`.
    pub(super) fn write(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
        taken: &mut usize,
    ) -> Result<()> {
        if self.machine.mode() != Mode::Stream {
            return Err(Error::WrongState);
        }
        self.send_due(connection)?;
        loop {
            *taken += self.send_piece(connection, &bytes[*taken..])?;
            if *taken == bytes.len() {
                return Ok(());
            }
            self.send_due(connection)?;
        }
    }

    /// Sends a message, or goes on with it after `WouldBlock`.
    pub(super) fn send_message(&mut self, connection: &mut Connection, message: &[u8]) -> Result<()> {
        self.machine.check_send()?;
        if self.unsent.is_some_and(|unsent| unsent.total != message.len()) {
            return Err(Error::InvalidArgument);
        }
        self.send_due(connection)?;
        let mut unsent = match self.unsent {
            Some(unsent) => unsent,
            None => {
                self.machine.begin_message(message.len())?;
                Unsent { total: message.len(), taken: 0 }
            }
        };
        loop {
            unsent.taken += self.send_piece(connection, &message[unsent.taken..])?;
            self.unsent = (unsent.taken < unsent.total).then_some(unsent);
            if self.unsent.is_none() {
                return Ok(());
            }
            self.send_due(connection)?;
        }
    }

    pub(super) fn finish_write(&mut self, connection: &mut Connection) -> Result<()> {
        self.machine.finish()?;
        self.send_due(connection)
    }

    /// Whether both directions have ended, and the connection has all that is to be sent.
    pub(super) fn is_finished(&self) -> bool {
        self.machine.is_finished() && self.held.is_none() && !self.machine.is_pending()
    }

    pub(super) fn abort(&mut self, connection: &mut Connection, code: AbortCode, text: &str) {
        self.machine.abort(code, text);
        self.send_what_fits(connection);
    }

    /// Seals the next piece of data; returns how much it takes.
    fn send_piece(&mut self, connection: &mut Connection, bytes: &[u8]) -> Result<usize> {
        let Some(piece) = self.machine.data(bytes)? else { return Ok(0) };
        let message = [piece.header(), piece.body()].concat();
        let count = piece.body().len();
        self.send_or_hold(connection, message)?;
        Ok(count)
    }

    /// Seals what the machine has to send apart from data; `WouldBlock` if not all of it has room.
    fn send_due(&mut self, connection: &mut Connection) -> Result<()> {
        loop {
            let held = self.held.take();
            let Some(message) = held.or_else(|| self.machine.next_message()) else { return Ok(()) };
            self.send_or_hold(connection, message)?;
            if self.held.is_some() {
                return Err(Error::WouldBlock);
            }
        }
    }

    /// The same where it is no matter if it has to wait: the next call goes on, and says what is
    /// wrong with the connection.
    fn send_what_fits(&mut self, connection: &mut Connection) {
        let _ = self.send_due(connection);
    }

    /// Seals a message, or keeps it for later. It has been sent, as far as the stream goes.
    fn send_or_hold(&mut self, connection: &mut Connection, message: Vec<u8>) -> Result<()> {
        match connection.send(&message) {
            Err(Error::WouldBlock) => {
                self.held = Some(message);
                Ok(())
            }
            sent => sent,
        }
    }
}
