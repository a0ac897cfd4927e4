//! Many handshakes at once, driven by whichever thread is in
//! [`Listener::accept`](super::Listener::accept).

use super::evicted::Evicted;
use super::providers::Pending;
use super::shake::{Step, ask, step, take_answer};
use super::socket::providers;
use super::{Socket, TimedServer, io};
use crate::connection::{Answer, Connection, Reports};
use crate::error::{Error, Result};
use crate::sys::Deadline;
use nix::poll::{PollFd, PollFlags};
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Type};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How many connections the system holds for us until they are accepted: as many as Linux allows by
/// default. A client for which there is no room tries again after a second.
const BACKLOG: i32 = 4096;
/// How many connections are accepted before the handshakes in flight get their turn.
const ACCEPT_BATCH: usize = 64;
/// The same for connections whose peers have left already.
pub(super) const LEFT_BATCH: usize = 1024;
/// How long accepting pauses after the system has failed to give a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// What all accepting threads share and use without a lock.
pub(super) struct Port {
    pub listener: TcpListener,
    pub server: Arc<TimedServer>,
    wake: Arc<UnixStream>,
    pub woken: UnixStream,
    /// Handshakes that have ended, for the server's observer.
    pub reports: Arc<Reports>,
    /// Evicted sockets among those whose handshakes the program runs.
    pub evicted: Arc<Evicted>,
}

impl Port {
    pub(super) fn open(address: SocketAddr, server: Arc<TimedServer>) -> Result<Port> {
        let open = || {
            let (wake, woken) = wake_pair()?;
            let listener = listen(address)?;
            io::configure_listener(&listener, server.server().options())?;
            let reports = Reports::new(server.server());
            Ok(Port { listener, server, wake: Arc::new(wake), woken, reports, evicted: Arc::default() })
        };
        open().map_err(|e| Error::of_socket(&e))
    }

    /// Wakes the thread that waits for the handshakes.
    pub(super) fn wake(&self) {
        // A full pipe wakes as well.
        let _ = (&*self.wake).write(&[1]);
    }

    /// Empties the pipe after a wake-up.
    pub(super) fn hear(&self) {
        // The pipe only wakes; its bytes mean nothing.
        while matches!((&self.woken).read(&mut [0; 64]), Ok(count) if count > 0) {}
    }
}

/// The handshakes in flight.
pub(super) struct Handshakes {
    /// The oldest first, which is also the order of their deadlines.
    shaking: BTreeMap<u64, Shaking>,
    next_id: u64,
    shared: Arc<Shared>,
    /// How many accepts have failed in a row.
    refused: usize,
    /// When accepting may resume.
    paused_until: Option<Deadline>,
}

/// What other threads report about handshakes, by their ids.
#[derive(Default)]
struct Shared {
    answers: Mutex<Vec<(u64, Answer)>>,
    evicted: Mutex<Vec<u64>>,
}

struct Shaking {
    stream: Arc<TcpStream>,
    peer: SocketAddr,
    connection: Connection,
    deadline: Deadline,
    /// The events to wait for; while an answer is awaited, those that show that the peer has left.
    events: PollFlags,
    /// The request whose answer is awaited.
    asked: Option<Pending>,
}

/// What a round of [`Listener::accept`](super::Listener::accept) brought.
#[derive(Default)]
pub(super) struct Round {
    pub ready: Vec<Socket>,
    pub error: Option<Error>,
}

impl Handshakes {
    pub(super) fn new() -> Handshakes {
        let (shaking, shared) = (BTreeMap::new(), Arc::default());
        Handshakes { shaking, next_id: 0, shared, refused: 0, paused_until: None }
    }

    /// Ends them all.
    pub(super) fn clear(&mut self) {
        self.shaking.clear();
    }

    /// Returns when accepting may resume, if it is paused.
    pub(super) fn pause(&self) -> Option<Deadline> {
        self.paused_until.filter(|pause| !pause.has_passed())
    }

    /// Accepts one connection, if there is one, and returns it with its peer's address. Errors that
    /// concern only that connection are not reported.
    pub(super) fn take(&mut self, port: &Port) -> Result<Option<(TcpStream, SocketAddr)>> {
        let error = match port.listener.accept() {
            Ok((stream, peer)) => {
                self.refused = 0;
                let configured = io::configure_accepted(&stream, port.server.server().options());
                return Ok(configured.ok().map(|()| (stream, peer)));
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                self.refused = 0;
                return Ok(None);
            }
            Err(e) => e,
        };
        self.refused += 1;
        if io::is_of_one_connection(&error) && self.refused < ACCEPT_BATCH {
            return Ok(None);
        }
        // It would fail again at once, and the port stays readable: without a pause this spins.
        self.refused = 0;
        self.paused_until = Some(Deadline::after(Some(PAUSE)));
        Err(io::refused(&error))
    }

    /// Waits until `deadline` or until one of `fds` is ready. If `poll` itself fails, sleeps a
    /// little first, so that callers that try again do not spin.
    pub(super) fn wait(deadline: Deadline, fds: &mut [PollFd]) -> Result<bool> {
        let waited = deadline.wait(fds);
        if waited.is_err() {
            thread::sleep(deadline.remaining().map_or(PAUSE, |left| left.min(PAUSE)));
        }
        waited
    }

    /// Waits once, then moves every handshake that can move.
    pub(super) fn round(&mut self, port: &Port, deadline: Deadline) -> Round {
        let mut round = Round::default();
        self.drop_evicted();
        let (accepting, woken, mut moving) = match self.await_events(port, deadline) {
            Ok(ready) => ready,
            Err(error) => return Round { error: Some(error), ..round },
        };
        if woken {
            port.hear();
        }
        moving.extend(self.take_answers());
        // A handshake may both have its answer and be ready in `poll`.
        moving.sort_unstable();
        moving.dedup();
        while let Some(late) = self.shaking.first_entry().filter(|s| s.get().deadline.has_passed()) {
            late.remove().connection.fail(Error::Timeout);
        }
        for id in moving {
            self.go_on(id, port, &mut round.ready);
        }
        if accepting {
            round.error = self.accept_some(port, &mut round.ready).err();
        }
        round
    }

    /// Waits until there is something to do. Returns whether there are connections to accept,
    /// whether the pipe woke us, and which handshakes can move.
    fn await_events(&self, port: &Port, deadline: Deadline) -> Result<(bool, bool, Vec<u64>)> {
        let paused = self.pause();
        let oldest = self.shaking.values().next();
        let until = oldest.map_or(deadline, |oldest| deadline.min(oldest.deadline));
        let until = paused.map_or(until, |pause| until.min(pause));
        let answered = !self.shared.answers.lock().is_empty();
        let until = if answered { Deadline::after(Some(Duration::ZERO)) } else { until };
        let mut fds = Vec::with_capacity(2 + self.shaking.len());
        fds.push(PollFd::new(port.woken.as_fd(), PollFlags::POLLIN));
        fds.extend(self.shaking.values().map(|s| PollFd::new(s.stream.as_fd(), s.events)));
        if paused.is_none() {
            fds.push(PollFd::new(port.listener.as_fd(), PollFlags::POLLIN));
        }
        Handshakes::wait(until, &mut fds)?;
        let ready = |fd: &PollFd| fd.any().unwrap_or(true);
        let moving = self.shaking.keys().zip(&fds[1..]).filter(|(_, fd)| ready(fd)).map(|(id, _)| *id);
        let accepting = paused.is_none() && fds.last().is_some_and(ready);
        Ok((accepting, ready(&fds[0]), moving.collect()))
    }

    /// Moves one handshake on, unless it has ended. Ends it if it fails, or if its peer has left
    /// while an answer is awaited.
    fn go_on(&mut self, id: u64, port: &Port, established: &mut Vec<Socket>) {
        let Some(shaking) = self.shaking.get_mut(&id) else { return };
        let moved =
            if shaking.asked.is_some() { Err(Error::Closed) } else { shaking.go_on(id, port, &self.shared) };
        if let Ok(false) = moved {
            return;
        }
        let Some(mut ended) = self.shaking.remove(&id) else { return };
        match moved {
            Ok(_) => established.extend(ended.establish()),
            Err(error) => _ = ended.connection.fail(error),
        }
    }

    /// Accepts connections and begins their handshakes.
    fn accept_some(&mut self, port: &Port, established: &mut Vec<Socket>) -> Result<()> {
        let first = self.next_id;
        let taken = self.take_some(port);
        // Only now is anything read: the connections of a flood have evicted each other meanwhile,
        // and cost no more than their accept.
        for id in first..self.next_id {
            self.go_on(id, port, established);
        }
        taken
    }

    fn take_some(&mut self, port: &Port) -> Result<()> {
        let server = port.server.server();
        let (mut begun, mut left) = (0, 0);
        while begun < ACCEPT_BATCH && left < LEFT_BATCH {
            let Some((stream, peer)) = self.take(port)? else { return Ok(()) };
            if io::has_left(&stream) {
                // It costs no more than this, so that a flood of such clients is soon over.
                left += 1;
                continue;
            }
            begun += 1;
            let stream = Arc::new(stream);
            let id = self.next_id;
            self.next_id += 1;
            let connection = match self.begin(id, port, &stream, peer) {
                Ok(connection) => connection,
                Err(Error::TooManyHandshakes) => continue,
                Err(error) => return Err(error),
            };
            // It may have evicted another handshake, whose descriptor must not stay open.
            self.drop_evicted();
            let deadline = Deadline::after_ms(server.options().handshake_timeout_ms());
            let events = PollFlags::POLLIN;
            self.shaking.insert(id, Shaking { stream, peer, connection, deadline, events, asked: None });
        }
        Ok(())
    }

    /// Makes the server's end of a connection that was just accepted.
    fn begin(&self, id: u64, port: &Port, stream: &Arc<TcpStream>, peer: SocketAddr) -> Result<Connection> {
        let server = port.server.server();
        let mut connection = Connection::server_reporting(server, peer.ip(), &port.reports)?;
        let (stream, shared) = (stream.clone(), self.shared.clone());
        connection.on_evict(move || {
            // A thread that polls it finds it shut down. This fails only if the peer has gone,
            // which is just as good.
            let _ = stream.shutdown(Shutdown::Both);
            shared.evicted.lock().push(id);
        })?;
        Ok(connection)
    }

    /// Drops the handshakes that were evicted.
    pub(super) fn drop_evicted(&mut self) {
        let evicted = std::mem::take(&mut *self.shared.evicted.lock());
        for id in evicted {
            self.shaking.remove(&id);
        }
    }

    /// Takes the answers that have come; returns the ids of their handshakes.
    fn take_answers(&mut self) -> Vec<u64> {
        let answers = std::mem::take(&mut *self.shared.answers.lock());
        let taken = answers.into_iter().filter_map(|(id, answer)| {
            // A handshake that is gone needs no answer. If an answer ends its handshake, the next
            // step of that handshake says so.
            let shaking = self.shaking.get_mut(&id)?;
            shaking.asked = None;
            let _ = take_answer(&mut shaking.connection, answer);
            Some(id)
        });
        taken.collect()
    }
}

impl Shaking {
    /// Goes as far as it can without waiting; returns whether it is connected.
    fn go_on(&mut self, id: u64, port: &Port, shared: &Arc<Shared>) -> Result<bool> {
        match step(&self.stream, &mut self.connection)? {
            Step::Done => Ok(true),
            Step::Wait(events) => {
                self.events = events;
                Ok(false)
            }
            Step::Ask(leaving) => {
                let (shared, wake) = (shared.clone(), port.wake.clone());
                let done = move |answer| {
                    // The listener may be gone by now; then there is nobody to tell.
                    shared.answers.lock().push((id, answer));
                    let _ = (&*wake).write(&[1]);
                };
                self.asked = Some(ask(&providers(port.server.server()), &self.connection, done)?);
                self.events = leaving;
                Ok(false)
            }
        }
    }

    fn establish(self) -> Option<Socket> {
        // This fails only if the peer is gone already.
        Socket::established(self.stream, self.peer, self.connection).ok()
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
