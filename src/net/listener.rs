//! Accepting. Many handshakes run at once, so that no client waits for another.

use super::handshakes::{Handshakes, LEFT_BATCH, Port};
use super::shake::Lifeline;
use super::{Socket, TimedServer, Timeout, dial, io};
use crate::connection::{HandshakeEvent, Options};
use crate::error::{Error, Result};
use crate::registry::Registry;
use crate::sys::Deadline;
use crate::sys::ForkGuard;
use crate::vault::Vault;
use nix::poll::{PollFd, PollFlags};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// A TCP port at which tunnels are accepted.
///
/// Any thread may call any method, and several may accept at once;
/// [`Listener::shutdown`] wakes them. Handshakes that [`Listener::accept`] has
/// begun make progress whenever a thread is in that call.
///
/// ```no_run
/// # use curve_tun::{registry::MemoryRegistry, vault::MemoryVault};
/// # use std::sync::Arc;
/// use curve_tun::net::Listener;
///
/// # fn main() -> curve_tun::Result<()> {
/// # let (vault, registry) = (Arc::new(MemoryVault::generate()?), Arc::new(MemoryRegistry::new()));
/// let listener = Listener::builder(vault, registry)
///     .observe(|event| eprintln!("{}: {:?}", event.address, event.outcome))
///     .bind("::", 7000)?;
/// loop {
///     let socket = match listener.accept(None) {
///         Ok(socket) => socket,
///         // As if there are too few descriptors just now.
///         Err(error) if error.is_transient() => continue,
///         Err(error) => return Err(error),
///     };
///     std::thread::spawn(move || socket.send(b"Welcome", None));
/// }
/// # }
/// ```
pub struct Listener {
    port: Port,
    local: SocketAddr,
    queue: Mutex<Queue>,
    changed: Condvar,
    handshakes: Mutex<Handshakes>,
    /// The handshakes that [`Listener::transport_accept`] has left to its callers, as long as they
    /// last.
    given: Mutex<Vec<Weak<Lifeline>>>,
    closed: AtomicBool,
    fork_guard: ForkGuard,
}

/// Sets up a [`Listener`]: [`Listener::builder`].
#[must_use = "it listens when it is bound"]
pub struct ListenerBuilder {
    vault: Arc<dyn Vault>,
    registry: Arc<dyn Registry>,
    options: Options,
    observer: Option<Observer>,
}

type Observer = Box<dyn Fn(&HandshakeEvent) + Send + Sync>;

impl ListenerBuilder {
    /// Sets the options of the server and its connections.
    pub fn options(mut self, options: Options) -> ListenerBuilder {
        self.options = options;
        self
    }

    /// Calls `observer` when a client's handshake ends, as described at
    /// [`Server::observe`](crate::connection::Server::observe).
    pub fn observe(mut self, observer: impl Fn(&HandshakeEvent) + Send + Sync + 'static) -> ListenerBuilder {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Starts the server, and listens as [`Listener::bind`] does.
    ///
    /// # Errors
    /// Those of [`TimedServer::new`] and of [`Listener::bind`].
    pub fn bind(self, host: &str, port: u16) -> Result<Listener> {
        let server = TimedServer::new(self.vault, self.registry, self.options)?;
        if let Some(observer) = self.observer {
            server.server().observe(observer)?;
        }
        Listener::bind(host, port, server)
    }
}

impl fmt::Debug for ListenerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What the threads in [`Listener::accept`] share.
#[derive(Default)]
struct Queue {
    ready: VecDeque<Socket>,
    /// Whether one of them drives the handshakes; the others wait for the sockets it makes ready.
    driven: bool,
}

impl Listener {
    /// Returns a builder for a listener with a server of its own, over `vault` and `registry`.
    pub fn builder(vault: Arc<dyn Vault>, registry: Arc<dyn Registry>) -> ListenerBuilder {
        ListenerBuilder { vault, registry, options: Options::default(), observer: None }
    }

    /// Listens at `host`, an address or a name of this machine, and `port`; port 0 picks a free
    /// one. `::` takes IPv4 connections too. Several listeners may share a server, with its limits
    /// and its minute keys; [`Listener::builder`] makes one for a single listener.
    ///
    /// # Errors
    /// `NameNotFound`, `AddressInUse`, `AddressNotAvailable`, `PermissionDenied`, `TooManyFiles`,
    /// `TooManyThreads` for the lookup of a name, `NoBuffers`, `Io`, `Forked`.
    pub fn bind(host: &str, port: u16, server: Arc<TimedServer>) -> Result<Listener> {
        server.server().check()?;
        let addresses = dial::resolve(host, port, Deadline::after(None))?;
        let mut opened = Err(Error::NameNotFound);
        for address in addresses {
            opened = Port::open(address, server.clone());
            if opened.is_ok() {
                break;
            }
        }
        let port = opened?;
        let local = port.listener.local_addr().map_err(|e| Error::of_socket(&e))?;
        Ok(Listener {
            port,
            local,
            queue: Mutex::default(),
            changed: Condvar::new(),
            handshakes: Mutex::new(Handshakes::new()),
            given: Mutex::default(),
            closed: AtomicBool::new(false),
            fork_guard: ForkGuard::here(),
        })
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.local.port()
    }

    /// Returns the address and port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Returns the next client whose handshake is done. Blocks until there is one.
    ///
    /// All handshakes in flight go on meanwhile. A client that fails its handshake is closed and
    /// not reported. At the limits of
    /// [`Options::handshakes_max`](crate::connection::Options::handshakes_max) and
    /// [`Options::handshakes_per_source`](crate::connection::Options::handshakes_per_source), a new
    /// client evicts the oldest handshake of the source that has the most.
    ///
    /// # Errors
    /// `Timeout`, by which no client is lost; `TooManyFiles`, `NoBuffers` or `Io` when the system
    /// gives no connection, at most ten times a second, and the listener stays usable; `Closed`
    /// after [`Listener::shutdown`]; `Forked`.
    pub fn accept(&self, timeout: Timeout) -> Result<Socket> {
        self.check()?;
        let deadline = Deadline::after(timeout);
        let mut queue = self.queue.lock();
        loop {
            if let Err(error) = self.check() {
                drop(queue);
                self.end_handshakes();
                return Err(error);
            }
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
            let driven = self.drive(deadline);
            self.port.reports.tell();
            driven?;
            queue = self.queue.lock();
            if queue.ready.is_empty() {
                deadline.check()?;
            }
        }
    }

    /// Drives the handshakes for one round, and puts the sockets that are ready into the queue.
    fn drive(&self, deadline: Deadline) -> Result<()> {
        let mut driving = Driving { listener: self, ready: Vec::new() };
        let round = deadline.lock(&self.handshakes)?.round(&self.port, deadline);
        driving.ready = round.ready;
        round.error.map_or(Ok(()), Err)
    }

    /// Returns the next client that connects, before its handshake. The caller runs
    /// [`Socket::handshake`], on a thread of its own if other clients are not to wait for it. A
    /// client that has left already is closed and not returned. At the limits a handshake is
    /// evicted as in [`Listener::accept`]; the next call then waits until its socket is dropped, at
    /// most 100 ms, so that a flood leaves no more sockets than there may be handshakes.
    ///
    /// Do not use it beside [`Listener::accept`] on one listener: each call would wait for the
    /// other to end.
    ///
    /// # Errors
    /// Those of [`Listener::accept`].
    pub fn transport_accept(&self, timeout: Timeout) -> Result<Socket> {
        let accepted = self.accept_transport(timeout);
        self.port.reports.tell();
        accepted
    }

    fn accept_transport(&self, timeout: Timeout) -> Result<Socket> {
        self.check()?;
        let deadline = Deadline::after(timeout);
        let mut handshakes = deadline.lock(&self.handshakes)?;
        self.port.evicted.wait(deadline)?;
        let mut left = 0;
        loop {
            if let Err(error) = self.check() {
                handshakes.clear();
                return Err(error);
            }
            let until = handshakes.pause();
            let mut fds = vec![PollFd::new(self.port.woken.as_fd(), PollFlags::POLLIN)];
            if until.is_none() {
                fds.push(PollFd::new(self.port.listener.as_fd(), PollFlags::POLLIN));
            }
            if !Handshakes::wait(deadline.min(until.unwrap_or(deadline)), &mut fds)? {
                deadline.check()?;
                continue;
            }
            if fds[0].any() == Some(true) {
                self.port.hear();
                continue;
            }
            let Some((stream, peer)) = handshakes.take(&self.port)? else { continue };
            if io::has_left(&stream) {
                left += 1;
                if left % LEFT_BATCH == 0 {
                    deadline.check()?;
                }
                continue;
            }
            match Socket::accepted(stream, peer, &self.port) {
                Ok((socket, line)) => {
                    handshakes.drop_evicted();
                    self.give(&line)?;
                    return Ok(socket);
                }
                Err(Error::TooManyHandshakes | Error::Closed) => {
                    drop(handshakes);
                    self.port.reports.tell();
                    handshakes = deadline.lock(&self.handshakes)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Remembers a handshake that its caller will run, so that [`Listener::shutdown`] finds it.
    fn give(&self, line: &Arc<Lifeline>) -> Result<()> {
        let mut given = self.given.lock();
        if given.len() == given.capacity() {
            given.retain(|line| line.strong_count() > 0);
        }
        given.push(Arc::downgrade(line));
        drop(given);
        self.check()
    }

    /// Ends the listener, from any thread: every accept, now and later, says `Closed`, and
    /// handshakes in flight end. The port is free once the listener is dropped.
    pub fn shutdown(&self) {
        if self.fork_guard.check().is_ok() {
            self.closed.store(true, Ordering::Release);
            self.port.wake();
            // Taking the lock makes sure that no thread between its check and its wait is missed.
            let ready = std::mem::take(&mut self.queue.lock().ready);
            self.changed.notify_all();
            drop(ready);
            let given = std::mem::take(&mut *self.given.lock());
            given.iter().filter_map(Weak::upgrade).for_each(|line| line.cut());
            self.end_handshakes();
        }
    }

    /// Ends the handshakes in flight. If a thread is driving them, it does so itself as soon as it
    /// finds the listener closed.
    fn end_handshakes(&self) {
        if let Some(mut handshakes) = self.handshakes.try_lock() {
            handshakes.clear();
            drop(handshakes);
            self.port.reports.tell();
        }
    }

    fn check(&self) -> Result<()> {
        self.fork_guard.check()?;
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

/// Marks the thread that drives the handshakes. When it stops, even by a panic, another one may.
struct Driving<'a> {
    listener: &'a Listener,
    ready: Vec<Socket>,
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        let mut queue = self.listener.queue.lock();
        queue.driven = false;
        queue.ready.extend(self.ready.drain(..));
        self.listener.changed.notify_all();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.fork_guard.check().is_err() {
            forget_if_in_use(&mut self.handshakes, Handshakes::new());
            forget_if_in_use(&mut self.queue, Queue::default());
        }
    }
}

/// In a forked child, leaves alone a value that another thread of the parent was using, since it
/// may be in any state.
pub(super) fn forget_if_in_use<T>(place: &mut Mutex<T>, instead: T) {
    if place.is_locked() {
        std::mem::forget(std::mem::replace(place.get_mut(), instead));
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("local_addr", &self.local).finish_non_exhaustive()
    }
}

impl AsFd for Listener {
    /// Returns the descriptor, to poll beside others before [`Listener::transport_accept`]. It says
    /// nothing about the handshakes that [`Listener::accept`] drives, which have descriptors of
    /// their own.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.port.listener.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.port.listener.as_raw_fd()
    }
}
