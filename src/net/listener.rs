//! Accepting: many handshakes at once, so that no client waits for another.

use super::deadline::Deadline;
use super::handshakes::{Handshakes, Port, Round};
use super::{Socket, TimedServer, Timeout, dial, io};
use crate::crypto::Origin;
use crate::error::{Error, Result};
use nix::poll::{PollFd, PollFlags};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A TCP port at which tunnels are accepted.
///
/// Any thread may call any method, several may accept at once.
/// [`Listener::shutdown`] wakes them. Handshakes that [`Listener::accept`] has
/// begun go on whenever a thread is in it.
pub struct Listener {
    port: Port,
    local: SocketAddr,
    queue: Mutex<Queue>,
    changed: Condvar,
    handshakes: Mutex<Handshakes>,
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

impl Listener {
    /// Listens at `host`, an address or a name of this machine, and `port`; port 0 picks a free one. `::` takes IPv4
    /// connections too.
    ///
    /// # Errors
    /// `NameNotFound`, `AddressInUse`, `AddressNotAvailable`, `PermissionDenied`, `TooManyFiles`, `Io`.
    pub fn bind(host: &str, port: u16, server: Arc<TimedServer>) -> Result<Listener> {
        let addresses = dial::resolve(host, port, Deadline::after(None))?;
        let mut opened = Err(Error::NameNotFound);
        for address in addresses {
            opened = Port::open(address, server.clone());
            if opened.is_ok() {
                break;
            }
        }
        let port = opened?;
        let local = port.listener.local_addr().map_err(|e| io::error(&e))?;
        Ok(Listener {
            port,
            local,
            queue: Mutex::default(),
            changed: Condvar::new(),
            handshakes: Mutex::new(Handshakes::new()),
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
    /// All handshakes in flight go on meanwhile. A client that fails its handshake is closed and not reported. At the
    /// limits of [`Options::handshakes_max`](crate::connection::Options::handshakes_max) and
    /// [`Options::handshakes_per_source`](crate::connection::Options::handshakes_per_source), of the source that has
    /// most the oldest handshake gives way to a new client.
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
            let round = match deadline.lock(&self.handshakes) {
                Ok(mut handshakes) => handshakes.round(&self.port, deadline),
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
    /// are not to wait for it. At the limits a handshake gives way as it does in [`Listener::accept`].
    ///
    /// # Errors
    /// Those of [`Listener::accept`]. Not to be used beside it on one listener: each would wait for the other's turn.
    pub fn transport_accept(&self, timeout: Timeout) -> Result<Socket> {
        let deadline = Deadline::after(timeout);
        let mut handshakes = deadline.lock(&self.handshakes)?;
        loop {
            self.check()?;
            let until = handshakes.pause();
            let mut fds = vec![PollFd::new(self.port.woken.as_fd(), PollFlags::POLLIN)];
            if until.is_none() {
                fds.push(PollFd::new(self.port.listener.as_fd(), PollFlags::POLLIN));
            }
            let ready = deadline.min(until.unwrap_or(deadline)).wait(&mut fds)?;
            if !ready {
                deadline.check()?;
                continue;
            }
            if fds[0].any() == Some(true) {
                handshakes.hear(&self.port);
                continue;
            }
            match handshakes.take(&self.port) {
                Ok(Some((stream, peer))) => match Socket::accepted(stream, peer, self.port.server.server()) {
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
            self.port.wake();
            // Taking the lock makes sure that a thread between its check and its wait is not missed.
            drop(self.queue.lock());
            self.changed.notify_all();
        }
    }

    fn check(&self) -> Result<()> {
        self.origin.check()?;
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

impl AsRawFd for Listener {
    /// The descriptor, to wait on beside others.
    fn as_raw_fd(&self) -> RawFd {
        self.port.listener.as_raw_fd()
    }
}
