//! Accepting: many handshakes at once, so that no client waits for another.

use super::deadline::Deadline;
use super::shake::{Step, step};
use super::socket::answerers;
use super::{Socket, TimedServer, Timeout, dial, io};
use crate::connection::{Answer, Connection, Server};
use crate::crypto::Origin;
use crate::error::{Error, Result};
use nix::poll::{PollFd, PollFlags};
use parking_lot::{Condvar, Mutex};
use socket2::{Domain, Protocol, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Connections that the system keeps for us until they are accepted.
const BACKLOG: i32 = 1024;
/// How many connections are taken before the handshakes in flight get their turn.
const ACCEPT_BATCH: usize = 64;
/// How long no connection is taken after the system refused one for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// A TCP port at which tunnels are accepted.
///
/// Any thread may call any method, several may accept at once.
/// [`Listener::shutdown`] wakes them. Handshakes that [`Listener::accept`] has
/// begun go on whenever a thread is in it.
pub struct Listener {
    listener: TcpListener,
    local: SocketAddr,
    server: Arc<TimedServer>,
    queue: Mutex<Queue>,
    changed: Condvar,
    driver: Mutex<Driver>,
    wake: Arc<UnixStream>,
    closed: AtomicBool,
    origin: Origin,
}

/// What threads in [`Listener::accept`] share.
#[derive(Default)]
struct Queue {
    ready: VecDeque<Socket>,
    /// Whether one of them drives the handshakes; the others wait for what it brings.
    driven: bool,
}

/// The handshakes in flight, oldest first.
struct Driver {
    shaking: VecDeque<Shaking>,
    next_id: u64,
    woken: UnixStream,
    tell: mpsc::Sender<(u64, Answer)>,
    answers: mpsc::Receiver<(u64, Answer)>,
    paused_until: Option<Deadline>,
}

struct Shaking {
    id: u64,
    stream: TcpStream,
    connection: Connection,
    deadline: Deadline,
    /// What the socket is to be ready for.
    events: PollFlags,
    /// Whether an answer is awaited; the socket is left alone meanwhile.
    asked: bool,
    /// Whether one has come.
    answered: bool,
}

impl Listener {
    /// Listens at `host`, an address or a name of this machine, and `port`; port 0 picks a free one. `::` takes IPv4
    /// connections too.
    ///
    /// # Errors
    /// `NameNotFound`, `AddressInUse`, `AddressNotAvailable`, `PermissionDenied`, `TooManyFiles`, `Io`.
    pub fn bind(host: &str, port: u16, server: Arc<TimedServer>) -> Result<Listener> {
        let addresses = dial::resolve(host, port, Deadline::after(None))?;
        let mut result = Err(Error::NameNotFound);
        for address in addresses {
            result = listen(address).map_err(|e| io::error(&e));
            if result.is_ok() {
                break;
            }
        }
        let listener = result?;
        let local = listener.local_addr().map_err(|e| io::error(&e))?;
        let (wake, woken) = wake_pair().map_err(|e| io::error(&e))?;
        let (tell, answers) = mpsc::channel();
        let driver =
            Driver { shaking: VecDeque::new(), next_id: 0, woken, tell, answers, paused_until: None };
        Ok(Listener {
            listener,
            local,
            server,
            queue: Mutex::default(),
            changed: Condvar::new(),
            driver: Mutex::new(driver),
            wake: Arc::new(wake),
            closed: AtomicBool::new(false),
            origin: Origin::here(),
        })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.local.port()
    }

    /// The address and port.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The next client whose handshake is done. Blocks until there is one.
    ///
    /// All handshakes in flight go on meanwhile. A client that fails its handshake is closed and not reported; at the
    /// limit of [`Options::handshakes_max`](crate::connection::Options::handshakes_max) the oldest handshake gives
    /// way to a new client.
    ///
    /// # Errors
    /// `Timeout`, and no client is lost by it; `TooManyFiles` or `OutOfMemory` when the system cannot take a
    /// connection, at most ten times a second, and the listener goes on; `Closed` after [`Listener::shutdown`];
    /// `Io`, `Forked`.
    pub fn accept(&self, timeout: Timeout) -> Result<Socket> {
        let deadline = Deadline::after(timeout);
        let mut queue = self.queue.lock();
        loop {
            self.check()?;
            if let Some(socket) = queue.ready.pop_front() {
                return Ok(socket);
            }
            if queue.driven {
                let timed_out = match deadline.instant() {
                    Some(end) => self.changed.wait_until(&mut queue, end).timed_out(),
                    None => {
                        self.changed.wait(&mut queue);
                        false
                    }
                };
                if timed_out && queue.ready.is_empty() {
                    return Err(Error::Timeout);
                }
                continue;
            }
            queue.driven = true;
            drop(queue);
            let round = match deadline.lock(&self.driver) {
                Ok(mut driver) => self.round(&mut driver, deadline),
                Err(error) => Round { error: Some(error), ready: Vec::new() },
            };
            queue = self.queue.lock();
            queue.driven = false;
            self.changed.notify_all();
            queue.ready.extend(round.ready);
            if let Some(error) = round.error {
                return Err(error);
            }
            if queue.ready.is_empty() {
                deadline.check()?;
            }
        }
    }

    /// The next client that connects; [`Socket::handshake`] is the caller's to run, on a thread of its own if others
    /// are not to wait for it.
    ///
    /// A client that comes while as many handshakes are in flight as
    /// [`Options::handshakes_max`](crate::connection::Options::handshakes_max) allows is closed.
    ///
    /// # Errors
    /// Those of [`Listener::accept`]. Not to be used beside it on one listener: each would wait for the other's turn.
    pub fn transport_accept(&self, timeout: Timeout) -> Result<Socket> {
        let deadline = Deadline::after(timeout);
        let mut driver = deadline.lock(&self.driver)?;
        let driver = &mut *driver;
        loop {
            self.check()?;
            let until = driver.paused_until.filter(|pause| !pause.has_passed());
            let mut fds = vec![PollFd::new(driver.woken.as_fd(), PollFlags::POLLIN)];
            if until.is_none() {
                fds.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
            }
            let ready = deadline.min(until.unwrap_or(deadline)).wait(&mut fds)?;
            if !ready {
                deadline.check()?;
                continue;
            }
            if fds[0].any() == Some(true) {
                driver.hear();
                continue;
            }
            match self.take(driver) {
                Ok(Some(stream)) => match Socket::accepted(stream, self.server.server()) {
                    Ok(socket) => return Ok(socket),
                    Err(Error::TooManyHandshakes | Error::Closed) => {}
                    Err(error) => return Err(error),
                },
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends it from any thread: every accept, now and later, says `Closed`. The port is free when it is dropped.
    pub fn shutdown(&self) {
        if self.origin.check().is_ok() {
            self.closed.store(true, Ordering::Release);
            self.wake_driver();
            // Taking the lock makes sure that a thread between its check and its wait is not missed.
            drop(self.queue.lock());
            self.changed.notify_all();
        }
    }

    fn check(&self) -> Result<()> {
        self.origin.check()?;
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    fn wake_driver(&self) {
        // A full pipe wakes as well.
        let _ = (&*self.wake).write(&[1]);
    }

    /// One connection from the system, if there is one; errors of the connection alone are its own affair.
    fn take(&self, driver: &mut Driver) -> Result<Option<TcpStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                Ok(io::configure(&stream, self.server.server().options()).ok().map(|()| stream))
            }
            Err(e) => match io::error(&e) {
                error @ (Error::TooManyFiles | Error::OutOfMemory) => {
                    // The connection stays where it is; without a pause it would wake us for ever.
                    driver.paused_until = Some(Deadline::after(Some(PAUSE)));
                    Err(error)
                }
                Error::WouldBlock | Error::Closed => Ok(None),
                _ if e.kind() == ErrorKind::Interrupted => Ok(None),
                // Linux reports errors of the network here that concern one connection (accept(2)).
                Error::Unreachable | Error::Timeout => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Waits once, then moves every handshake that can move.
    fn round(&self, driver: &mut Driver, deadline: Deadline) -> Round {
        let mut round = Round::default();
        let paused = driver.paused_until.filter(|pause| !pause.has_passed());
        let listening = if paused.is_some() { PollFlags::empty() } else { PollFlags::POLLIN };
        let mut until = driver.shaking.iter().fold(deadline, |until, s| until.min(s.deadline));
        if let Some(pause) = paused {
            until = until.min(pause);
        }
        if driver.shaking.iter().any(|s| s.answered) {
            until = Deadline::after(Some(Duration::ZERO));
        }
        let (accepting, woken, ready) = {
            let mut fds = vec![
                PollFd::new(self.listener.as_fd(), listening),
                PollFd::new(driver.woken.as_fd(), PollFlags::POLLIN),
            ];
            let polled = driver.shaking.iter().filter(|s| !s.asked);
            fds.extend(polled.map(|s| PollFd::new(s.stream.as_fd(), s.events)));
            if let Err(error) = until.wait(&mut fds) {
                return Round { error: Some(error), ..round };
            }
            let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
            let (accepting, woken) = (ready.next() == Some(true), ready.next() == Some(true));
            let ready = driver.shaking.iter().map(|s| !s.asked && ready.next() == Some(true));
            (accepting, woken, ready.collect::<Vec<_>>())
        };
        if woken {
            driver.hear();
        }
        let server = self.server.server();
        for (mut shaking, ready) in std::mem::take(&mut driver.shaking).into_iter().zip(ready) {
            if shaking.deadline.has_passed() {
                continue;
            }
            let moving = ready || std::mem::take(&mut shaking.answered);
            match if moving { shaking.go_on(self, driver, server) } else { Ok(false) } {
                Ok(false) => driver.shaking.push_back(shaking),
                Ok(true) => round.ready.extend(shaking.establish()),
                Err(_) => {}
            }
        }
        if accepting {
            round.error = self.accept_some(driver, &mut round.ready).err();
        }
        round
    }

    /// Takes connections and begins their handshakes.
    fn accept_some(&self, driver: &mut Driver, established: &mut Vec<Socket>) -> Result<()> {
        let server = self.server.server();
        for _ in 0..ACCEPT_BATCH {
            let Some(stream) = self.take(driver)? else { return Ok(()) };
            let Ok(peer) = stream.peer_addr() else { continue };
            let mut connection = Connection::server(server, peer.ip());
            if matches!(connection, Err(Error::TooManyHandshakes)) && driver.shaking.pop_front().is_some() {
                connection = Connection::server(server, peer.ip());
            }
            let connection = match connection {
                Ok(connection) => connection,
                Err(Error::TooManyHandshakes) => continue,
                Err(error) => return Err(error),
            };
            let deadline = Deadline::after_ms(server.options().handshake_timeout_ms);
            let id = driver.next_id;
            driver.next_id += 1;
            let events = PollFlags::POLLIN;
            let mut shaking =
                Shaking { id, stream, connection, deadline, events, asked: false, answered: false };
            match shaking.go_on(self, driver, server) {
                Ok(false) => driver.shaking.push_back(shaking),
                Ok(true) => established.extend(shaking.establish()),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// What a round of [`Listener::accept`] brought.
#[derive(Default)]
struct Round {
    ready: Vec<Socket>,
    error: Option<Error>,
}

impl Driver {
    /// Takes the answers that have come.
    fn hear(&mut self) {
        // The pipe only wakes; its bytes mean nothing.
        while matches!((&self.woken).read(&mut [0; 64]), Ok(count) if count > 0) {}
        while let Ok((id, answer)) = self.answers.try_recv() {
            // A handshake that is no longer there needs no answer; one that the answer ends is seen by `go_on`.
            if let Some(shaking) = self.shaking.iter_mut().find(|s| s.id == id) {
                let _ = shaking.connection.answer(answer);
                (shaking.asked, shaking.answered) = (false, true);
            }
        }
    }
}

impl Shaking {
    /// Goes as far as it can without waiting; gives whether it is connected.
    fn go_on(&mut self, listener: &Listener, driver: &Driver, server: &Server) -> Result<bool> {
        match step(&self.stream, &mut self.connection)? {
            Step::Done => Ok(true),
            Step::Wait(events) => {
                self.events = events;
                Ok(false)
            }
            Step::Ask => {
                self.asked = true;
                let request = self.connection.request().ok_or(Error::Internal)?.clone();
                let (id, tell) = (self.id, driver.tell.clone());
                let wake = listener.wake.clone();
                answerers(server).ask(request, move |answer| {
                    // The listener may be gone by now; then nobody is to be told.
                    let _ = tell.send((id, answer));
                    let _ = (&*wake).write(&[1]);
                })?;
                Ok(false)
            }
        }
    }

    fn establish(self) -> Option<Socket> {
        // It fails only if the peer is gone already.
        Socket::established(self.stream, self.connection).ok()
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn wake_pair() -> std::io::Result<(UnixStream, UnixStream)> {
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    Ok((wake, woken))
}

impl AsRawFd for Listener {
    /// The descriptor, to wait on beside others.
    fn as_raw_fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }
}
