//! A tunnel over one TCP connection.

use super::evicted::Held;
use super::handshakes::Port;
use super::listener::forget_if_in_use;
use super::providers::Providers;
use super::shake::{self, Lifeline};
use super::{TimedServer, Timeout, dial, io};
use crate::connection::{Connection, Options, RecvHalf, Reports, Role, SendHalf, Server};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::sys::Deadline;
use crate::sys::ForkGuard;
use crate::vault::Vault;
use nix::poll::{PollFd, PollFlags};
use parking_lot::Mutex;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// How much a closing socket reads and drops, so that the system does not reset the connection
/// before the peer has read what was sent.
const DRAIN_MAX: usize = 1 << 20;

/// One end of a tunnel over TCP.
///
/// Any thread may call any method; one may send while another receives, and
/// [`Socket::shutdown`] from a third wakes both. Two that send, or two that
/// receive, take turns; each keeps its own deadline while it waits for its turn.
///
/// An error that ends the connection is returned once, by the call that met it;
/// from then on every call says `Closed`. Messages that arrived before can still
/// be received. In a forked child every call says `Forked`.
///
/// ```
/// use curve_tun::net::Socket;
/// use std::time::Duration;
///
/// /// Asks for a number, and waits for it as long as that may take.
/// fn ask(socket: &Socket) -> curve_tun::Result<u64> {
///     let patience = Some(Duration::from_secs(5));
///     socket.send(b"How many?", patience)?;
///     socket.recv_with(patience, |answer| {
///         let answer = std::str::from_utf8(answer).ok().and_then(|text| text.parse().ok());
///         answer.ok_or(curve_tun::Error::BadPacket)
///     })
/// }
/// ```
pub struct Socket {
    pub(super) stream: Arc<TcpStream>,
    local: SocketAddr,
    peer: SocketAddr,
    role: Role,
    /// Present until it is connected.
    handshake: Mutex<Option<Handshake>>,
    /// Ends the handshake while a thread runs it.
    line: Weak<Lifeline>,
    pub(super) sender: Mutex<Option<SendHalf>>,
    receiver: Mutex<Option<Receiver>>,
    /// Set when connected, after the halves.
    peer_key: OnceLock<PublicKey>,
    closed: AtomicBool,
    pub(super) fork_guard: ForkGuard,
    /// For a handshake that the program runs. Declared, and so dropped, after the descriptor.
    held: Option<Arc<Held>>,
}

struct Handshake {
    line: Arc<Lifeline>,
    connection: Connection,
    /// Held so that its minute keys rotate as long as the handshake may need them.
    server: Arc<TimedServer>,
    /// Counted from the accept.
    deadline: Deadline,
    /// Where its end is reported; outlasts the handshake.
    reports: Arc<Reports>,
}

impl Handshake {
    /// Ends a handshake that no thread runs. The caller holds no lock.
    fn give_up(handshake: Option<Handshake>) {
        if let Some(Handshake { connection, reports, .. }) = handshake {
            drop(connection);
            reports.tell();
        }
    }
}

/// What a look at a message gave, and whether the message stays.
pub(super) enum Look<R> {
    Keep(R),
    Consume(R),
}

struct Receiver {
    half: RecvHalf,
    /// The error that ended the connection, until it is returned.
    failure: Option<Error>,
    /// Whether the last read took all bytes that had arrived.
    drained: bool,
}

impl Socket {
    /// Connects to `host` and `port`, and runs the handshake with the server whose key is
    /// `server_key`.
    pub(super) fn connect_to(
        host: &str,
        port: u16,
        vault: Arc<dyn Vault>,
        server_key: PublicKey,
        options: &Options,
        timeout: Timeout,
    ) -> Result<Socket> {
        let mut connection = Connection::client(vault.clone(), server_key, options)?;
        let deadline = Deadline::after(timeout).min(Deadline::after_ms(options.handshake_timeout_ms()));
        let stream = Arc::new(dial::dial(&dial::resolve(host, port, deadline)?, deadline)?);
        // The socket is configured while the server answers the hello.
        shake::step(&stream, &mut connection)?;
        io::configure(&stream, options)?;
        let line = Lifeline::new(stream.clone());
        shake::run(&line, &mut connection, &Providers { vault, registry: None }, deadline)?;
        let peer = stream.peer_addr().map_err(|e| Error::of_socket(&e))?;
        Socket::established(stream, peer, connection)
    }

    /// Makes a socket whose handshake the caller runs ([`Socket::handshake`]), and the handle that
    /// ends that handshake.
    pub(super) fn accepted(
        stream: TcpStream,
        peer: SocketAddr,
        port: &Port,
    ) -> Result<(Socket, Arc<Lifeline>)> {
        let line = Lifeline::new(Arc::new(stream));
        let (server, reports) = (port.server.clone(), port.reports.clone());
        let mut connection = Connection::server_reporting(server.server(), peer.ip(), &reports)?;
        let evicted_line = line.clone();
        let held = Held::new(&port.evicted);
        let evicted = held.clone();
        connection.on_evict(move || {
            evicted.evict();
            evicted_line.cut();
        })?;
        let deadline = Deadline::after_ms(server.server().options().handshake_timeout_ms());
        let handshake = Handshake { line: line.clone(), connection, server, deadline, reports };
        let mut socket = Socket::new(line.stream.clone(), peer, Role::Server, Some(handshake))?;
        socket.held = Some(held);
        Ok((socket, line))
    }

    /// Makes a socket whose handshake is over.
    pub(super) fn established(
        stream: Arc<TcpStream>,
        peer: SocketAddr,
        connection: Connection,
    ) -> Result<Socket> {
        let socket = Socket::new(stream, peer, connection.role(), None)?;
        socket.establish(connection)?;
        Ok(socket)
    }

    fn new(
        stream: Arc<TcpStream>,
        peer: SocketAddr,
        role: Role,
        handshake: Option<Handshake>,
    ) -> Result<Socket> {
        let local = io::canonical(stream.local_addr().map_err(|e| Error::of_socket(&e))?);
        Ok(Socket {
            stream,
            local,
            peer: io::canonical(peer),
            role,
            line: handshake.as_ref().map_or_else(Weak::new, |handshake| Arc::downgrade(&handshake.line)),
            handshake: Mutex::new(handshake),
            sender: Mutex::new(None),
            receiver: Mutex::new(None),
            peer_key: OnceLock::new(),
            closed: AtomicBool::new(false),
            fork_guard: ForkGuard::here(),
            held: None,
        })
    }

    fn establish(&self, connection: Connection) -> Result<()> {
        let key = connection.peer_key().ok_or(Error::Internal)?;
        let (send, half) = connection.split()?;
        *self.sender.lock() = Some(send);
        *self.receiver.lock() = Some(Receiver { half, failure: None, drained: true });
        self.peer_key.set(key).map_err(|_| Error::Internal)
    }

    /// Runs the handshake of a socket that
    /// [`Listener::transport_accept`](super::Listener::transport_accept) returned.
    ///
    /// Blocks until connected, at most for `timeout`, and no longer than
    /// [`Options::handshake_timeout`] after the accept.
    ///
    /// # Errors
    /// `WrongState` if it is connected already; `Timeout`, `BadPacket`, `CookieExpired`,
    /// `UnknownPeer`, `TooManyHandshakes` if it was evicted, `Closed`, or an error of
    /// the vault or the registry: the socket is closed. `Forked`.
    pub fn handshake(&self, timeout: Timeout) -> Result<()> {
        self.fork_guard.check()?;
        let mut reports = None;
        let shaken = self.shake(timeout, &mut reports);
        if let Some(reports) = reports {
            reports.tell();
        }
        shaken
    }

    /// Runs the handshake on one thread while others wait for it. Puts into `reports` where its end
    /// is to be reported.
    fn shake(&self, timeout: Timeout, reports: &mut Option<Arc<Reports>>) -> Result<()> {
        let deadline = Deadline::after(timeout);
        let mut place = deadline.lock(&self.handshake)?;
        let Some(mut handshake) = place.take() else {
            return Err(if self.is_closed() { Error::Closed } else { Error::WrongState });
        };
        let deadline = deadline.min(handshake.deadline);
        let providers = providers(handshake.server.server());
        *reports = Some(handshake.reports.clone());
        let run = shake::run(&handshake.line, &mut handshake.connection, &providers, deadline);
        run.map_err(|error| handshake.connection.fail(error))
            .and_then(|()| self.establish(handshake.connection))
            .map_err(|error| self.abort(error))
    }

    /// Receives one message into `buffer` and returns its length. Blocks until there is one.
    ///
    /// # Errors
    /// `TooSmall` if the message is longer than `buffer`: it stays ([`Socket::recv_with`] tells its
    /// length). `Timeout`: nothing is lost. `WrongState` before the handshake. `BadPacket`,
    /// `CounterExhausted`: the socket is closed. `Closed`, `Forked`.
    pub fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<usize> {
        self.recv_with(timeout, |message| {
            buffer.get_mut(..message.len()).ok_or(Error::TooSmall)?.copy_from_slice(message);
            Ok(message.len())
        })
    }

    /// Passes the next message to `take`, without copying it, and consumes it if `take` succeeds.
    /// Blocks until there is one.
    ///
    /// # Errors
    /// Those of `take`, after which the message stays, and those of [`Socket::recv`].
    pub fn recv_with<R>(&self, timeout: Timeout, take: impl FnOnce(&[u8]) -> Result<R>) -> Result<R> {
        self.look(Deadline::after(timeout), |message| match take(message) {
            Ok(taken) => Look::Consume(Ok(taken)),
            Err(error) => Look::Keep(Err(error)),
        })?
    }

    /// Shows the next message to `see`, which says whether it stays. Blocks until there is one.
    pub(super) fn look<R>(&self, deadline: Deadline, see: impl FnOnce(&[u8]) -> Look<R>) -> Result<R> {
        self.fork_guard.check()?;
        let mut place = deadline.lock(&self.receiver)?;
        let Some(receiver) = place.as_mut() else { return Err(self.not_connected()) };
        while receiver.half.message().is_none() {
            if let Some(failure) = receiver.failure.take() {
                return Err(failure);
            }
            if self.is_closed() {
                receiver.half.stop();
                return Err(Error::Closed);
            }
            self.receive_more(receiver, deadline)?;
        }
        Ok(match see(receiver.half.message().ok_or(Error::Internal)?) {
            Look::Keep(seen) => seen,
            Look::Consume(seen) => {
                receiver.half.consume();
                seen
            }
        })
    }

    /// Waits for bytes and opens the packets that they complete.
    fn receive_more(&self, receiver: &mut Receiver, deadline: Deadline) -> Result<()> {
        // A blocking read saves the call to `poll`, but its only deadline is `io::IDLE`.
        let waits = receiver.drained && !deadline.is_before(io::IDLE);
        if receiver.drained && !waits && !self.wait(PollFlags::POLLIN, deadline)? {
            return Err(Error::Timeout);
        }
        let room = receiver.half.room();
        let offered = room.len();
        let read = if waits { (&*self.stream).read(room) } else { io::read_now(&self.stream, room) };
        let failure = match read {
            Ok(0) => Error::Closed,
            Ok(count) => {
                receiver.drained = count < offered;
                match receiver.half.filled(count) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                }
            }
            Err(e) => match io::broken(&e) {
                _ if e.kind() == ErrorKind::Interrupted => return Ok(()),
                Error::WouldBlock if waits => return self.idle(receiver, deadline),
                Error::WouldBlock => {
                    receiver.drained = true;
                    return Ok(());
                }
                error => error,
            },
        };
        receiver.half.stop();
        receiver.failure = Some(self.abort(failure));
        Ok(())
    }

    /// Frees idle buffers after a while without bytes, and waits on.
    fn idle(&self, receiver: &mut Receiver, deadline: Deadline) -> Result<()> {
        receiver.half.release();
        if let Some(mut sender) = self.sender.try_lock() {
            sender.iter_mut().for_each(SendHalf::release);
        }
        if !self.wait(PollFlags::POLLIN, deadline)? {
            return Err(Error::Timeout);
        }
        receiver.drained = false;
        Ok(())
    }

    pub(super) fn wait(&self, events: PollFlags, deadline: Deadline) -> Result<bool> {
        deadline.wait(&mut [PollFd::new(self.stream.as_fd(), events)])
    }

    /// Returns the half in `place`, or the reason why there is none.
    pub(super) fn connected<'a, T>(&self, place: &'a mut Option<T>) -> Result<&'a mut T> {
        if self.is_closed() {
            *place = None;
        }
        place.as_mut().ok_or_else(|| self.not_connected())
    }

    fn not_connected(&self) -> Error {
        if self.is_closed() { Error::Closed } else { Error::WrongState }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Returns the peer's proven long-term key.
    ///
    /// # Errors
    /// `WrongState` before the handshake, `Closed` if it failed, `Forked`.
    pub fn peer_key(&self) -> Result<PublicKey> {
        self.fork_guard.check()?;
        self.peer_key.get().copied().ok_or_else(|| self.not_connected())
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Returns the peer's address. That of an IPv4 peer is an IPv4 address, even on an IPv6 socket.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Returns the address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Has the peer see the end of what this end writes.
    pub(super) fn end_writing(&self) {
        // It fails if the transport has ended already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Wakes whoever waits for bytes of the peer, as if it had ended.
    pub(super) fn end_reading(&self) {
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Ends both directions, from any thread, and wakes calls that wait. Messages that have arrived
    /// can still be received; queued ones are lost.
    pub fn shutdown(&self) {
        // A forked child must not end its parent's connection.
        if self.fork_guard.check().is_ok() {
            self.abort(Error::Closed);
        }
    }

    /// Marks the socket closed, wakes the threads that wait for it and wipes its keys. Returns
    /// `error`.
    pub(super) fn abort(&self, error: Error) -> Error {
        self.closed.store(true, Ordering::Release);
        // This fails only if the peer has ended the connection already, which is just as good.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(line) = self.line.upgrade() {
            line.cut();
        }
        let handshake = self.handshake.try_lock().and_then(|mut handshake| handshake.take());
        Handshake::give_up(handshake);
        // A half in use is ended by the call that uses it, as soon as it finds the socket closed.
        if let Some(mut sender) = self.sender.try_lock() {
            *sender = None;
        }
        if let Some(Some(receiver)) = self.receiver.try_lock().as_deref_mut() {
            receiver.half.stop();
        }
        error
    }

    /// Closes the socket without waiting. What was sent still arrives if the peer keeps reading; of
    /// what is queued, only what the system takes at once is sent.
    pub fn close(self) {}
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.fork_guard.check().is_err() {
            forget_if_in_use(&mut self.handshake, None);
            forget_if_in_use(&mut self.sender, None);
            forget_if_in_use(&mut self.receiver, None);
            // Dropping it takes a lock that may be in use.
            std::mem::forget(self.held.take());
            return;
        }
        Handshake::give_up(self.handshake.get_mut().take());
        if self.is_closed() {
            return;
        }
        self.write_last();
        // Bytes left unread would make the system reset the connection and drop what the peer has
        // yet to read.
        let _ = self.stream.shutdown(Shutdown::Write);
        let (mut scratch, mut drained) = ([0; 16 * 1024], 0);
        while drained < DRAIN_MAX {
            match io::read_now(&self.stream, &mut scratch) {
                Ok(count) if count > 0 => drained += count,
                _ => return,
            }
        }
    }
}

impl fmt::Debug for Socket {
    /// Shows the addresses and the peer's public key, none of which is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("local_addr", &self.local)
            .field("peer_addr", &self.peer)
            .field("peer_key", &self.peer_key.get())
            .finish_non_exhaustive()
    }
}

impl AsFd for Socket {
    /// Returns the descriptor, to poll beside others. A message may be waiting although it is not
    /// readable.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// Returns the vault and registry that answer the requests of a server's connections.
pub(super) fn providers(server: &Server) -> Providers {
    Providers { vault: server.vault().clone(), registry: Some(server.registry().clone()) }
}
