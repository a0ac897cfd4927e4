//! The state machine of a connection, without I/O: bytes in, bytes out, messages in,
//! messages out. Blocking programs, event loops, processes of the BEAM and tests all
//! drive the same [`Connection`].

mod handshake;
mod limiter;
mod observer;
mod options;
mod recv_buffer;
mod request;
mod send_buffer;
mod server;
#[cfg(any(feature = "net", feature = "nif"))]
mod split;

#[cfg(any(feature = "net", feature = "nif"))]
pub(crate) use limiter::Source;
#[cfg(feature = "net")]
pub(crate) use observer::Reports;
pub use observer::{HandshakeEvent, HandshakeOutcome};
pub use options::Options;
pub use request::{Answer, Request};
pub use server::Server;
#[cfg(any(feature = "net", feature = "nif"))]
pub(crate) use split::{RecvHalf, SendHalf};

use crate::crypto::PublicKey;
use crate::error::{Error, Result};
pub use crate::protocol::channel::Role;
use crate::protocol::channel::{Opener, Sealer};
use crate::protocol::client::AwaitCookie;
use crate::sys::ForkGuard;
use crate::vault::Vault;
use handshake::{Accepting, Asked, Initiating, Ready};
use recv_buffer::RecvBuffer;
use send_buffer::SendBuffer;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A connection that has been idle for this long, by its ticks, frees its buffers.
const IDLE_MS: u64 = 1000;

/// The state of a connection (the original's states).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ConnectionState {
    /// A client that has not sent its hello, or a server that has not answered one.
    Ready = 0,
    /// A client that waits for the cookie, or for the vouch from its vault.
    Initiating = 1,
    /// A server that waits for the initiate, or for its vault or registry.
    Accepting = 2,
    /// Messages go both ways.
    Connected = 3,
    /// Over, for whatever reason.
    Closed = 4,
}

/// Each variant holds the secrets of its state and no others, so leaving the state wipes them.
enum State {
    Ready(Ready),
    Initiating(Initiating),
    Accepting(Accepting),
    Connected(Sealer, Opener),
    Closed,
}

/// One end of a tunnel, for a driver that moves its bytes.
///
/// The driver passes it the bytes that arrive ([`Connection::feed`]), writes the
/// bytes that it wants sent to the transport ([`Connection::transmit`]), answers
/// each [`Connection::request`], calls [`Connection::tick`] when that is due, and
/// reports the end of the transport ([`Connection::transport_ended`]).
///
/// An error that ends the connection is returned once, by the call that met it;
/// from then on every call says `Closed`, except that messages which arrived
/// before can still be received. In a child of the process that made the
/// connection, every call says `Forked`.
///
/// ```
/// use curve_tun::connection::{Connection, ConnectionState, Options, Server};
/// # use curve_tun::registry::MemoryRegistry;
/// # use curve_tun::vault::{MemoryVault, Vault};
/// # use std::{net::Ipv4Addr, sync::Arc};
/// # let vault = Arc::new(MemoryVault::generate()?);
/// # let client_vault = Arc::new(MemoryVault::generate()?);
/// # let registry = Arc::new(MemoryRegistry::new());
/// # registry.add_anywhere(client_vault.public_key());
/// # let server_key = vault.public_key();
///
/// let server = Server::new(vault, registry, Options::default(), 0)?;
/// let mut client = Connection::client(client_vault, server_key, &Options::default())?;
/// let mut served = Connection::server(&server, Ipv4Addr::LOCALHOST.into())?;
///
/// // In place of a transport: what one end has to say is fed to the other.
/// let carry = |from: &mut Connection, to: &mut Connection| -> curve_tun::Result<()> {
///     let count = to.feed(from.send_buffer())?;
///     from.sent(count);
///     Ok(())
/// };
/// while served.state() != ConnectionState::Connected {
///     carry(&mut client, &mut served)?;
///     carry(&mut served, &mut client)?;
/// }
/// client.send(b"hello")?;
/// carry(&mut client, &mut served)?;
/// assert_eq!(served.peek()?, b"hello");
/// served.consume();
/// # Ok::<(), curve_tun::Error>(())
/// ```
pub struct Connection {
    state: State,
    role: Role,
    recv_buffer: RecvBuffer,
    send_buffer: SendBuffer,
    request: Option<Box<Request>>,
    /// A server's permit for a handshake in flight, held until it is connected.
    permit: Option<Box<server::Permit>>,
    /// The peer's long-term key: set when a client is connected, and at a server once it is proven.
    key: Option<PublicKey>,
    was_connected: bool,
    handshake_timeout_ms: u64,
    handshake_deadline: Option<u64>,
    /// Whether anything moved since the last tick.
    touched: bool,
    idle_since: Option<u64>,
    fork_guard: ForkGuard,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("role", &self.role)
            .field("state", &self.state())
            .field("peer_key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Makes a client's end of a connection to the server whose key is `server`. The client's own
    /// key is the one in `vault`.
    ///
    /// # Errors
    /// `WeakKey` for a server key of low order, `InvalidArgument` for options out of range,
    /// `OutOfMemory`, `CryptoUnavailable`.
    pub fn client(vault: Arc<dyn Vault>, server: PublicKey, options: &Options) -> Result<Connection> {
        options.check()?;
        let (next, hello) = AwaitCookie::make_hello(&server)?;
        let ready = Ready::Client(Initiating::Cookie { vault, server, next });
        let mut connection = Connection::new(Role::Client, ready, options);
        connection.send_buffer.push_packet(&hello.parts());
        Ok(connection)
    }

    /// Makes a server's end of a connection to a client that came from `address`.
    ///
    /// At the limits of [`Options::handshakes_max`] and [`Options::handshakes_per_source`], the
    /// oldest handshake of the source that has the most is evicted, if it allows that
    /// ([`Connection::on_evict`]).
    ///
    /// # Errors
    /// `TooManyHandshakes` if no handshake can be evicted, `CryptoUnavailable`, `Forked`.
    pub fn server(server: &Arc<Server>, address: IpAddr) -> Result<Connection> {
        crate::crypto::init()?;
        let permit = server::Permit::take(server, address, None)?;
        Ok(Connection::of_server(permit))
    }

    /// As [`Connection::server`], for a driver that uses locks: events are collected in `reports`,
    /// and the driver has them told when it holds no lock.
    #[cfg(feature = "net")]
    pub(crate) fn server_reporting(
        server: &Arc<Server>,
        address: IpAddr,
        reports: &Arc<Reports>,
    ) -> Result<Connection> {
        crate::crypto::init()?;
        let permit = server::Permit::take(server, address, Some(reports.clone()))?;
        Ok(Connection::of_server(permit))
    }

    fn of_server(permit: Box<server::Permit>) -> Connection {
        let connection = Connection::new(Role::Server, Ready::Server, permit.server().options());
        Connection { permit: Some(permit), ..connection }
    }

    fn new(role: Role, ready: Ready, options: &Options) -> Connection {
        Connection {
            state: State::Ready(ready),
            role,
            recv_buffer: RecvBuffer::new(options.receive_high_water, options.recv_buffer_max()),
            send_buffer: SendBuffer::new(options.send_high_water),
            request: None,
            permit: None,
            key: None,
            was_connected: false,
            handshake_timeout_ms: options.handshake_timeout_ms(),
            handshake_deadline: None,
            touched: false,
            idle_since: None,
            fork_guard: ForkGuard::here(),
        }
    }

    /// Returns the state.
    pub fn state(&self) -> ConnectionState {
        match &self.state {
            State::Ready(_) => ConnectionState::Ready,
            State::Initiating(_) => ConnectionState::Initiating,
            State::Accepting(_) => ConnectionState::Accepting,
            State::Connected(..) => ConnectionState::Connected,
            State::Closed => ConnectionState::Closed,
        }
    }

    /// Returns which end this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the peer's proven long-term key once connected, even if closed since.
    pub fn peer_key(&self) -> Option<PublicKey> {
        self.key.filter(|_| self.was_connected)
    }

    /// As [`Connection::peer_key`], but from the proof on, even if the client is then refused.
    #[cfg(feature = "nif")]
    pub(crate) fn proven_key(&self) -> Option<PublicKey> {
        self.key
    }

    /// Takes bytes from the transport, in pieces of any size, and returns how many it took.
    ///
    /// It takes only some of them at the receive high-water mark. Pass the rest again once messages
    /// have been received, and read nothing more from the transport until then
    /// ([`Connection::wants_read`]).
    ///
    /// # Errors
    /// The error that ended the connection, once: `BadPacket`, `WrongServerKey`, `CookieExpired`,
    /// `UnknownPeer`, `CounterExhausted`, `TooManyHandshakes` if it was evicted, or an error of the
    /// vault or the registry. Then `Closed`. `Forked`.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize> {
        self.check_open()?;
        let mut taken = 0;
        loop {
            let count = self.recv_buffer.push(&bytes[taken..]);
            taken += count;
            self.came()?;
            if count == 0 || taken == bytes.len() {
                return Ok(taken);
            }
        }
    }

    /// Returns space into which the driver may read from the transport directly, to save a copy;
    /// call [`Connection::received`] afterwards. Empty at the receive high-water mark.
    ///
    /// # Errors
    /// `Closed`, `Forked`.
    pub fn recv_buffer(&mut self) -> Result<&mut [u8]> {
        self.check_open()?;
        Ok(self.recv_buffer.room())
    }

    /// Reports that `count` bytes were read into [`Connection::recv_buffer`].
    ///
    /// # Errors
    /// Those of [`Connection::feed`].
    pub fn received(&mut self, count: usize) -> Result<()> {
        self.check_open()?;
        self.recv_buffer.filled(count);
        self.came()
    }

    fn came(&mut self) -> Result<()> {
        self.touched = true;
        self.check_place()?;
        self.go_on(|_| Ok(None))
    }

    /// Says whether it takes bytes from the transport now.
    pub fn wants_read(&self) -> bool {
        !matches!(self.state, State::Closed) && self.recv_buffer.allowance() > 0
    }

    /// Returns the bytes to write to the transport, in order; report with [`Connection::sent`] how
    /// many it took.
    ///
    /// They are kept when the connection closes because its send counter is exhausted, and dropped
    /// when it closes for any other reason.
    pub fn send_buffer(&self) -> &[u8] {
        if self.fork_guard.check().is_err() { &[] } else { self.send_buffer.bytes() }
    }

    /// Reports that the transport took the first `count` bytes of [`Connection::send_buffer`].
    pub fn sent(&mut self, count: usize) {
        if count > 0 {
            self.send_buffer.taken(count);
            self.touched = true;
            self.hello_said();
        }
    }

    /// Copies bytes for the transport into `buffer` and returns how many.
    ///
    /// The driver writes all of them to the transport, in order. 0 means that there are none.
    ///
    /// # Errors
    /// `Closed`, `Forked`.
    pub fn transmit(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.fork_guard.check()?;
        let count = buffer.len().min(self.send_buffer.bytes().len());
        if count == 0 {
            return self.check_open().map(|()| 0);
        }
        buffer[..count].copy_from_slice(&self.send_buffer.bytes()[..count]);
        self.sent(count);
        Ok(count)
    }

    /// Says whether there are bytes for the transport.
    pub fn wants_write(&self) -> bool {
        !self.send_buffer().is_empty()
    }

    /// Seals a message for the peer, directly into the send buffer.
    ///
    /// # Errors
    /// `TooLarge` for more than [`MESSAGE_MAX`](crate::protocol::MESSAGE_MAX) bytes, `WouldBlock`
    /// at the send high-water mark, `WrongState` before it is connected: nothing is sent, and the
    /// connection stays as it is. `CounterExhausted`: it is closed, and only pending bytes remain
    /// to be written. `Closed`, `Forked`.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        self.check_open()?;
        let State::Connected(sealer, _) = &mut self.state else { return Err(Error::WrongState) };
        match self.send_buffer.push_message(sealer, message) {
            Err(Error::CounterExhausted) => {
                self.state = State::Closed;
                self.recv_buffer.stop();
                Err(Error::CounterExhausted)
            }
            sent => sent,
        }
    }

    /// Returns the next message, in the buffer in which it was opened. [`Connection::consume`]
    /// removes it.
    ///
    /// # Errors
    /// `WouldBlock` if there is no message now, `Closed` if there will be none, `Forked`.
    pub fn peek(&self) -> Result<&[u8]> {
        self.fork_guard.check()?;
        match (self.recv_buffer.message(), &self.state) {
            (Some(message), _) => Ok(message),
            (None, State::Closed) => Err(Error::Closed),
            (None, _) => Err(Error::WouldBlock),
        }
    }

    /// Removes the message that [`Connection::peek`] returns, if there is one.
    pub fn consume(&mut self) {
        self.recv_buffer.consume();
        self.touched = true;
    }

    /// Copies the next message into `buffer`, removes it, and returns its length.
    ///
    /// # Errors
    /// `TooSmall` if the message is longer than `buffer` ([`Connection::peek`] tells its length):
    /// it stays. `WouldBlock` if there is no message now, `Closed` if there will be none, `Forked`.
    pub fn recv(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let message = self.peek()?;
        let len = message.len();
        buffer.get_mut(..len).ok_or(Error::TooSmall)?.copy_from_slice(message);
        self.consume();
        Ok(len)
    }

    /// Returns the request to a vault or registry that answers later, if one is open; the
    /// connection then waits for [`Connection::answer`].
    pub fn request(&self) -> Option<&Request> {
        self.request.as_deref()
    }

    /// Continues the handshake with the answer to [`Connection::request`].
    ///
    /// # Errors
    /// `WrongState` if there is no request, `InvalidArgument` if the answer does not fit the
    /// request, which stays open; both leave the connection as it is. Otherwise those of
    /// [`Connection::feed`].
    pub fn answer(&mut self, answer: Answer) -> Result<()> {
        self.check_open()?;
        let request = self.request.as_deref().ok_or(Error::WrongState)?;
        if !handshake::fits(request, &answer) {
            return Err(Error::InvalidArgument);
        }
        self.request = None;
        self.touched = true;
        self.check_place()?;
        self.go_on(|connection| connection.consume_answer(answer))
    }

    /// Tells the connection the time, in monotonic milliseconds from any origin. Returns the time
    /// by which to call it again, or `None` if no further call is due until another method was
    /// called.
    ///
    /// The handshake's time runs from the first call. Call it when the connection is made, whenever
    /// the returned time comes, and after the handshake: an established connection frees its idle
    /// buffers in this call.
    ///
    /// # Errors
    /// `Timeout` if the handshake was not over in time, or `TooManyHandshakes` if it was evicted;
    /// the connection is closed. `Closed`, `Forked`.
    pub fn tick(&mut self, now_ms: u64) -> Result<Option<u64>> {
        self.check_open()?;
        if !matches!(self.state, State::Connected(..)) {
            self.check_place()?;
            let timeout = self.handshake_timeout_ms;
            let deadline = *self.handshake_deadline.get_or_insert_with(|| now_ms.saturating_add(timeout));
            if now_ms >= deadline {
                return Err(self.fail(Error::Timeout));
            }
            return Ok(Some(deadline));
        }
        if !self.recv_buffer.is_allocated() && !self.send_buffer.is_allocated() {
            return Ok(None);
        }
        let moved = std::mem::take(&mut self.touched);
        let idle = !moved && self.recv_buffer.is_empty() && self.send_buffer.bytes().is_empty();
        let since = self.idle_since.filter(|_| idle).unwrap_or(now_ms);
        self.idle_since = Some(since);
        if idle && now_ms.saturating_sub(since) >= IDLE_MS {
            self.recv_buffer.release();
            self.send_buffer.release();
            self.idle_since = None;
            return Ok(None);
        }
        Ok(Some(since.saturating_add(IDLE_MS)))
    }

    /// Reports the orderly end of the transport (the peer closed its side). Messages that have
    /// arrived stay. Report a broken transport with [`Connection::close`].
    ///
    /// Returns what the end means: `Closed`; or `WrongServerKey` for a client whose hello was
    /// written and answered by nothing but the end, as a server does that cannot open it because it
    /// has another key or its vault fails; or `TooManyHandshakes` if the handshake was evicted; or
    /// `Forked`.
    pub fn transport_ended(&mut self) -> Error {
        if let Err(error) = self.fork_guard.check().and_then(|()| self.check_place()) {
            return error;
        }
        let unanswered = matches!(self.state, State::Initiating(Initiating::Cookie { .. }))
            && self.send_buffer.bytes().is_empty()
            && self.recv_buffer.is_empty();
        self.close();
        if unanswered { Error::WrongServerKey } else { Error::Closed }
    }

    /// Lets a server's handshake be evicted at the limits of the options. When that happens, every
    /// further call on the connection says so, and `tell` is called once. It runs on the thread of
    /// the new handshake, must not hold that thread up, and must not call this crate. It makes the
    /// driver drop the connection, for instance by shutting the transport down. It is not called
    /// once the handshake or the connection is over.
    ///
    /// # Errors
    /// `WrongState` for a client's end, and after the handshake; `Forked`.
    pub fn on_evict(&mut self, tell: impl FnOnce() + Send + 'static) -> Result<()> {
        self.fork_guard.check()?;
        self.permit.as_ref().ok_or(Error::WrongState)?.on_evict(Box::new(tell));
        Ok(())
    }

    /// Ends the connection. Secrets are wiped and pending bytes dropped; messages that have arrived
    /// stay.
    pub fn close(&mut self) {
        self.fail(Error::Closed);
    }

    fn clear(&mut self) {
        self.state = State::Closed;
        self.request = None;
        self.recv_buffer.stop();
        self.send_buffer.clear();
    }

    fn check_open(&self) -> Result<()> {
        self.fork_guard.check()?;
        if matches!(self.state, State::Closed) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Returns the source by which a server's handshake is limited and takes turns; `None` for a
    /// client's end, and for a server's once the handshake is over.
    #[cfg(any(feature = "net", feature = "nif"))]
    pub(crate) fn source(&self) -> Option<Source> {
        self.permit.as_ref().map(|permit| permit.source())
    }

    fn check_place(&mut self) -> Result<()> {
        let checked = self.permit.as_ref().map_or(Ok(()), |permit| permit.check());
        checked.map_err(|error| self.fail(error))
    }

    /// Runs `begin`, then goes as far as it can. An error ends the connection, and so does a panic
    /// in the program's own vault or registry.
    fn go_on(&mut self, begin: impl FnOnce(&mut Connection) -> Result<Option<Asked>>) -> Result<()> {
        let mut going = Going { connection: self, over: false };
        let result = begin(going.connection).and_then(|asked| going.connection.step(asked));
        going.over = true;
        result.map_err(|error| going.connection.fail(error))
    }

    /// Ends the connection because of `error`.
    pub(crate) fn fail(&mut self, error: Error) -> Error {
        self.clear();
        if let Some(permit) = self.permit.take() {
            permit.end(HandshakeOutcome::Refused(error));
        }
        error
    }
}

/// A connection in the middle of a step; a panic that unwinds through it ends the connection.
struct Going<'a> {
    connection: &'a mut Connection,
    over: bool,
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.connection.fail(Error::Internal);
        }
    }
}

#[cfg(feature = "test-util")]
impl Connection {
    /// Sets the counters of the next message sent and received, for the project's tests of
    /// exhausted counters.
    pub fn set_counters(&mut self, send: u64, receive: u64) {
        if let State::Connected(sealer, opener) = &mut self.state {
            sealer.set_counter(send);
            opener.set_counter(receive);
        }
    }
}
