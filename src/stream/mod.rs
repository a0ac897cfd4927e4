//! Byte streams and large messages, inside the messages of a tunnel (PROTOCOL.md, section 13).
//!
//! [`Machine`] is one end of a stream without I/O: it says what to send, and what a message that
//! has come means. Blocking sockets and event loops drive the same machine.

mod code;
mod message;
mod open;
mod receiver;
mod sender;

pub use code::{Abort, AbortCode};
pub use open::{Mode, Open, ServiceName};
pub use sender::Piece;

use crate::error::{Error, Result};
use crate::protocol::channel::Role;
use crate::setters::setters;
use message::{PIECE_MAX, PONG, encode_probe};
use receiver::{Received, Receiver, Refusal};
use sender::Sender;
use std::fmt;
use std::net::SocketAddr;

/// The largest message that an end takes if it is told nothing else, in bytes.
pub const DEFAULT_MESSAGE_MAX: u32 = 16 << 20;

/// How a stream is used. Both ends must be told the same mode.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What the stream carries.
    pub mode: Mode,
    /// The largest message that this end takes, in bytes. Less than 65,502 counts as 65,502. Has no
    /// meaning in the mode `Stream`.
    pub message_max: u32,
    /// The service that a client asks for. A server has none.
    pub service: Option<ServiceName>,
    /// For whom a client forwards. A server has none.
    pub client_address: Option<SocketAddr>,
}

impl Options {
    /// Returns the options of a stream of bytes.
    #[must_use]
    pub fn stream() -> Options {
        Options { mode: Mode::Stream, message_max: DEFAULT_MESSAGE_MAX, service: None, client_address: None }
    }

    /// Returns the options of messages that may be larger than a packet.
    #[must_use]
    pub fn messages() -> Options {
        Options { mode: Mode::Messages, ..Options::stream() }
    }
}

setters!(Options {
    message_max: u32,
    service: Option<ServiceName>,
    client_address: Option<SocketAddr>,
});

/// What a message of the peer means to the program.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The peer has opened the stream: [`Machine::peer`].
    Opened,
    /// The next bytes of a stream, at least one.
    Bytes(&'a [u8]),
    /// A whole message, of at most 65,502 bytes.
    Message(&'a [u8]),
    /// The next part of a larger message; the last one if it ends at `total`.
    Part {
        /// Bytes of the whole message, as it was announced.
        total: u32,
        /// Bytes of it that came before.
        offset: u32,
        /// The part, at least one byte.
        bytes: &'a [u8],
    },
    /// The peer has finished: all that it sent has come.
    End,
    /// The peer has given the stream up ([`Machine::abort_received`]).
    Aborted,
    /// The peer has answered a ping.
    Pong,
    /// Nothing that a program has to know.
    Nothing,
}

/// One end of a stream, for a driver that moves the messages of a tunnel.
///
/// The driver gives each message that comes to [`Machine::receive`], and sends what
/// [`Machine::next_message`] and [`Machine::data`] give, each as one message and in that order.
/// Before it asks for data it takes what `next_message` has, and it looks there again after each
/// `receive`.
///
/// When the transport has ended it says so ([`Machine::transport_ended`]). The end of a stream is
/// [`Event::End`] and nothing else: a transport that ends before it has been cut.
///
/// A client's machine has its OPEN to send at once; a server's after [`Machine::accept`].
pub struct Machine {
    role: Role,
    /// What this end says when it opens.
    open: Open,
    sender: Sender,
    receiver: Receiver,
    /// What the ping that is not answered carries.
    ping: Option<[u8; 8]>,
    abort: Option<Abort>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("role", &self.role)
            .field("mode", &self.open.mode)
            .field("send_ended", &self.sender.ended())
            .field("recv_ended", &self.receiver.ended())
            .field("failure", &self.receiver.failure())
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// Returns the end of a client, whose OPEN is to be sent.
    #[must_use]
    pub fn client(options: &Options) -> Machine {
        Machine::new(Role::Client, options.clone())
    }

    /// Returns the end of a server, which awaits the client's OPEN.
    #[must_use]
    pub fn server(options: &Options) -> Machine {
        let options = Options { service: None, client_address: None, ..options.clone() };
        Machine::new(Role::Server, options)
    }

    fn new(role: Role, options: Options) -> Machine {
        let Options { mode, message_max, service, client_address } = options;
        let message_max = if mode == Mode::Messages { message_max.max(PIECE_MAX) } else { 0 };
        let open = Open { mode, message_max, service, client_address };
        Machine {
            role,
            sender: Sender::new(mode, (role == Role::Client).then_some(&open)),
            receiver: Receiver::new(mode, message_max, role == Role::Server),
            open,
            ping: None,
            abort: None,
        }
    }

    /// Returns what the peer said when it opened; `None` before.
    #[must_use]
    pub fn peer(&self) -> Option<&Open> {
        self.receiver.open()
    }

    /// Returns what the stream carries.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.open.mode
    }

    /// Says whether [`Machine::finish`] was called.
    #[must_use]
    pub fn has_finished(&self) -> bool {
        self.sender.finished()
    }

    /// Takes the stream that a client has opened: the server's OPEN is to be sent.
    ///
    /// # Errors
    /// `WrongState` for a client, before the peer's OPEN, and a second time; what has ended the
    /// stream.
    pub fn accept(&mut self) -> Result<()> {
        if self.role == Role::Client || self.peer().is_none() {
            return Err(self.sender.check().err().unwrap_or(Error::WrongState));
        }
        self.sender.open(&self.open)
    }

    /// Returns the next message that is to be sent apart from data, if there is one.
    #[must_use = "it is to be sent before anything else"]
    pub fn next_message(&mut self) -> Option<Vec<u8>> {
        self.sender.next_message()
    }

    /// Says whether [`Machine::next_message`] has something.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.sender.pending()
    }

    /// Says whether anything but the own END has ended what this end sends.
    ///
    /// # Errors
    /// What has: `Aborted`, `BadPacket`, `NotAStream`, `TooLarge`, `Closed`.
    pub fn check_send(&self) -> Result<()> {
        self.sender.check()
    }

    /// Returns the next message of data, with as many of `bytes` as go into it; `None` if there are
    /// no bytes.
    ///
    /// Of a message ([`Machine::begin_message`]) it takes no byte beyond its length; one of 0 bytes
    /// is sent by a call without any. A message of at most 65,502 bytes goes in one piece, so all
    /// of it has to be there.
    ///
    /// # Errors
    /// `WrongState` before the own OPEN was taken from [`Machine::next_message`], after
    /// [`Machine::finish`], and outside of a message; `InvalidArgument` if a part of a small
    /// message is given; what has ended the stream: `Aborted`, `BadPacket`, `NotAStream`,
    /// `TooLarge`, `Closed`.
    pub fn data<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Piece<'a>>> {
        self.sender.data(bytes)
    }

    /// Begins a message of `total` bytes, which [`Machine::data`] is given next.
    ///
    /// # Errors
    /// `TooLarge` if it is larger than the peer takes, or than 4,294,967,295 bytes: nothing is
    /// sent, and the stream goes on. `WouldBlock` for more than 65,502 bytes before the peer has
    /// said what it takes. `WrongState` in mode `Stream` and within a message; else as
    /// [`Machine::data`].
    pub fn begin_message(&mut self, total: usize) -> Result<()> {
        self.sender.begin(total, self.peer_max())
    }

    /// Says whether [`Machine::begin_message`] would take a message of `total` bytes, now or when
    /// the message that has begun is whole.
    ///
    /// # Errors
    /// Those of [`Machine::begin_message`].
    pub fn check_message(&self, total: usize) -> Result<()> {
        self.sender.check_message(total, self.peer_max()).map(|_| ())
    }

    /// Returns the largest message that the peer takes; `None` before it has opened.
    fn peer_max(&self) -> Option<u32> {
        self.receiver.open().map(|open| open.message_max)
    }

    /// Ends what this end sends: END is to be sent. Does nothing a second time.
    ///
    /// # Errors
    /// `WrongState` within a message, and on a server before [`Machine::accept`]; else as
    /// [`Machine::data`].
    pub fn finish(&mut self) -> Result<()> {
        self.sender.finish()
    }

    /// Gives the stream up, in both directions: ABORT is to be sent, and then nothing.
    ///
    /// Of `text` at most 255 bytes are sent, for an operator to read; mostly it is empty. Does
    /// nothing once both directions have ended, or the stream has.
    pub fn abort(&mut self, code: AbortCode, text: &str) {
        if !self.is_finished() {
            self.abort_as(code, text, Error::Closed);
        }
    }

    fn abort_as(&mut self, code: AbortCode, text: &str, failure: Error) {
        self.sender.abort(code, text, failure);
        self.receiver.fail(failure);
    }

    /// Asks the peer whether it is there: a PING with `value` is to be sent.
    ///
    /// # Errors
    /// `WouldBlock` while one is not answered; `WrongState` before the own OPEN was taken; what has
    /// ended the stream.
    pub fn ping(&mut self, value: [u8; 8]) -> Result<()> {
        self.sender.check()?;
        if !self.sender.opened() {
            return Err(Error::WrongState);
        }
        if self.ping.is_some() {
            return Err(Error::WouldBlock);
        }
        self.ping = Some(value);
        self.sender.ping(value);
        Ok(())
    }

    /// Says what a message of the peer means.
    ///
    /// # Errors
    /// The stream is over: `BadPacket` if the message breaks a rule of the layer, `TooLarge` if it
    /// begins one that is larger than this end takes ([`Machine::next_message`] has an ABORT that
    /// says so), `NotAStream` if the peer does not speak the layer. What comes after is dropped.
    pub fn receive<'a>(&mut self, message: &'a [u8]) -> Result<Event<'a>> {
        if self.is_finished() {
            return Ok(self.receive_after_end(message));
        }
        if self.receiver.failure().is_some() || self.sender.check().is_err() {
            return Ok(Event::Nothing);
        }
        let received = self.receiver.receive(message, self.sender.opened());
        match received.and_then(|received| self.consume(received)) {
            Ok(event) => Ok(event),
            Err(Refusal::Violation) => {
                self.abort_as(AbortCode::Protocol, "", Error::BadPacket);
                Err(Error::BadPacket)
            }
            Err(Refusal::TooLarge) => {
                self.abort_as(AbortCode::TooLarge, "", Error::TooLarge);
                Err(Error::TooLarge)
            }
            Err(Refusal::NotAStream) => {
                self.sender.fail(Error::NotAStream);
                self.receiver.fail(Error::NotAStream);
                Err(Error::NotAStream)
            }
        }
    }

    /// Once both directions have ended nothing takes that back, and nothing is awaited but the
    /// answer to a ping, which may have been on its way.
    fn receive_after_end<'a>(&mut self, message: &[u8]) -> Event<'a> {
        match self.ping.map(|value| encode_probe(PONG, value)) {
            Some(pong) if pong == message => {
                self.ping = None;
                Event::Pong
            }
            _ => Event::Nothing,
        }
    }

    fn consume<'a>(&mut self, received: Received<'a>) -> std::result::Result<Event<'a>, Refusal> {
        Ok(match received {
            Received::Open => Event::Opened,
            Received::Bytes(bytes) => Event::Bytes(bytes),
            Received::Message(message) => Event::Message(message),
            Received::Part { total, offset, bytes } => Event::Part { total, offset, bytes },
            Received::End => Event::End,
            Received::Abort(abort) => {
                self.abort = Some(abort);
                self.sender.fail(Error::Aborted);
                self.receiver.fail(Error::Aborted);
                Event::Aborted
            }
            Received::Ping(value) if self.sender.owe(value) => Event::Nothing,
            Received::Pong(value) if self.ping == Some(value) => {
                self.ping = None;
                Event::Pong
            }
            Received::Ping(_) | Received::Pong(_) => return Err(Refusal::Violation),
        })
    }

    /// Says that the transport brings nothing more: without END before, the stream was cut.
    pub fn transport_ended(&mut self) {
        self.receiver.fail(Error::Truncated);
        if !self.is_finished() {
            self.sender.fail(Error::Closed);
        }
    }

    /// Says how receiving has ended: `Ok(true)` by the peer's END, `Ok(false)` if it has not.
    ///
    /// # Errors
    /// `Truncated` if the transport ended before END; `Aborted`; `Closed` after the own
    /// [`Machine::abort`]; what [`Machine::receive`] said.
    pub fn received_end(&self) -> Result<bool> {
        self.receiver.failure().map_or(Ok(self.receiver.ended()), Err)
    }

    /// Returns the peer's ABORT, if one has come.
    #[must_use]
    pub fn abort_received(&self) -> Option<&Abort> {
        self.abort.as_ref()
    }

    /// Says whether both directions have ended as they should, END for END.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.sender.ended() && self.receiver.ended()
    }
}
