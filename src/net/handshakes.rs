//! Many handshakes at once, driven by whichever thread is in [`Listener::accept`](super::Listener::accept).

use super::deadline::Deadline;
use super::shake::{Step, server_end, step};
use super::socket::answerers;
use super::{Socket, TimedServer, io};
use crate::connection::{Answer, Connection, Server};
use crate::crew::Asked;
use crate::error::{Error, Result};
use nix::poll::{PollFd, PollFlags};
use socket2::{Domain, Protocol, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// Connections that the system keeps for us until they are accepted: as many as Linux allows by default. A client that
/// finds no place among them tries again after a second.
const BACKLOG: i32 = 4096;
/// How many connections are taken before the handshakes in flight get their turn.
const ACCEPT_BATCH: usize = 64;
/// How long no connection is taken after the system refused one for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// What all threads that accept share, and need no lock for.
pub(super) struct Port {
    pub listener: TcpListener,
    pub server: Arc<TimedServer>,
    wake: Arc<UnixStream>,
    pub woken: UnixStream,
}

impl Port {
    pub(super) fn open(address: SocketAddr, server: Arc<TimedServer>) -> Result<Port> {
        let open = || {
            let (wake, woken) = wake_pair()?;
            let listener = listen(address)?;
            io::configure_listener(&listener, server.server().options())?;
            Ok(Port { listener, server, wake: Arc::new(wake), woken })
        };
        open().map_err(|e| io::error(&e))
    }

    /// Wakes the thread that waits for the handshakes.
    pub(super) fn wake(&self) {
        // A full pipe wakes as well.
        let _ = (&*self.wake).write(&[1]);
    }
}

/// The handshakes in flight, oldest first.
pub(super) struct Handshakes {
    shaking: VecDeque<Shaking>,
    next_id: u64,
    tell: mpsc::Sender<(u64, Answer)>,
    answers: mpsc::Receiver<(u64, Answer)>,
    /// No connection is taken before.
    paused_until: Option<Deadline>,
}

struct Shaking {
    id: u64,
    stream: Arc<TcpStream>,
    peer: SocketAddr,
    connection: Connection,
    deadline: Deadline,
    /// What the socket is to be ready for.
    events: PollFlags,
    /// The question whose answer is awaited; the socket is left alone meanwhile.
    asked: Option<Asked>,
    /// Whether one has come.
    answered: bool,
}

/// What a round of [`Listener::accept`] brought.
#[derive(Default)]
pub(super) struct Round {
    pub ready: Vec<Socket>,
    pub error: Option<Error>,
}

impl Handshakes {
    pub(super) fn new() -> Handshakes {
        let (tell, answers) = mpsc::channel();
        Handshakes { shaking: VecDeque::new(), next_id: 0, tell, answers, paused_until: None }
    }

    /// Until when no connection is to be taken, if that is not over.
    pub(super) fn pause(&self) -> Option<Deadline> {
        self.paused_until.filter(|pause| !pause.has_passed())
    }

    /// One connection from the system and where it is from, if there is one; errors of the connection alone are its
    /// own affair.
    pub(super) fn take(&mut self, port: &Port) -> Result<Option<(TcpStream, SocketAddr)>> {
        match port.listener.accept() {
            Ok((stream, peer)) => {
                let configured = io::configure_accepted(&stream, port.server.server().options());
                Ok(configured.ok().map(|()| (stream, peer)))
            }
            Err(e) => match io::error(&e) {
                error @ (Error::TooManyFiles | Error::OutOfMemory) => {
                    // The connection stays where it is; without a pause it would wake us for ever.
                    self.paused_until = Some(Deadline::after(Some(PAUSE)));
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
    pub(super) fn round(&mut self, port: &Port, deadline: Deadline) -> Round {
        let mut round = Round::default();
        let paused = self.pause();
        let listening = if paused.is_some() { PollFlags::empty() } else { PollFlags::POLLIN };
        let mut until = self.shaking.iter().fold(deadline, |until, s| until.min(s.deadline));
        if let Some(pause) = paused {
            until = until.min(pause);
        }
        if self.shaking.iter().any(|s| s.answered) {
            until = Deadline::after(Some(Duration::ZERO));
        }
        let (accepting, woken, ready) = {
            let mut fds = vec![
                PollFd::new(port.listener.as_fd(), listening),
                PollFd::new(port.woken.as_fd(), PollFlags::POLLIN),
            ];
            let polled = self.shaking.iter().filter(|s| s.asked.is_none());
            fds.extend(polled.map(|s| PollFd::new(s.stream.as_fd(), s.events)));
            if let Err(error) = until.wait(&mut fds) {
                return Round { error: Some(error), ..round };
            }
            let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
            let (accepting, woken) = (ready.next() == Some(true), ready.next() == Some(true));
            let ready = self.shaking.iter().map(|s| s.asked.is_none() && ready.next() == Some(true));
            (accepting, woken, ready.collect::<Vec<_>>())
        };
        if woken {
            self.hear(port);
        }
        let server = port.server.server();
        for (mut shaking, ready) in std::mem::take(&mut self.shaking).into_iter().zip(ready) {
            if shaking.deadline.has_passed() {
                continue;
            }
            let moving = ready || std::mem::take(&mut shaking.answered);
            match if moving { shaking.go_on(port, &self.tell, server) } else { Ok(false) } {
                Ok(false) => self.shaking.push_back(shaking),
                Ok(true) => round.ready.extend(shaking.establish()),
                Err(_) => {}
            }
        }
        if accepting {
            round.error = self.accept_some(port, &mut round.ready).err();
        }
        round
    }

    /// Takes connections and begins their handshakes.
    fn accept_some(&mut self, port: &Port, established: &mut Vec<Socket>) -> Result<()> {
        let server = port.server.server();
        for _ in 0..ACCEPT_BATCH {
            let Some((stream, peer)) = self.take(port)? else { return Ok(()) };
            let stream = Arc::new(stream);
            let connection = match server_end(server, &stream, peer) {
                Ok(connection) => connection,
                Err(Error::TooManyHandshakes) => continue,
                Err(error) => return Err(error),
            };
            let deadline = Deadline::after_ms(server.options().handshake_timeout_ms);
            let id = self.next_id;
            self.next_id += 1;
            let events = PollFlags::POLLIN;
            let mut shaking =
                Shaking { id, stream, peer, connection, deadline, events, asked: None, answered: false };
            match shaking.go_on(port, &self.tell, server) {
                Ok(false) => self.shaking.push_back(shaking),
                Ok(true) => established.extend(shaking.establish()),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Takes the answers that have come.
    pub(super) fn hear(&mut self, port: &Port) {
        // The pipe only wakes; its bytes mean nothing.
        while matches!((&port.woken).read(&mut [0; 64]), Ok(count) if count > 0) {}
        while let Ok((id, answer)) = self.answers.try_recv() {
            // A handshake that is no longer there needs no answer; one that the answer ends is seen by `go_on`.
            if let Some(shaking) = self.shaking.iter_mut().find(|s| s.id == id) {
                let _ = shaking.connection.answer(answer);
                (shaking.asked, shaking.answered) = (None, true);
            }
        }
    }
}

impl Shaking {
    /// Goes as far as it can without waiting; gives whether it is connected.
    fn go_on(&mut self, port: &Port, tell: &mpsc::Sender<(u64, Answer)>, server: &Server) -> Result<bool> {
        match step(&self.stream, &mut self.connection)? {
            Step::Done => Ok(true),
            Step::Wait(events) => {
                self.events = events;
                Ok(false)
            }
            Step::Ask => {
                let request = self.connection.request().ok_or(Error::Internal)?.clone();
                let (id, tell) = (self.id, tell.clone());
                let wake = port.wake.clone();
                let asked = answerers(server).ask(self.connection.source(), request, move |answer| {
                    // The listener may be gone by now; then nobody is to be told.
                    let _ = tell.send((id, answer));
                    let _ = (&*wake).write(&[1]);
                })?;
                self.asked = Some(asked);
                Ok(false)
            }
        }
    }

    fn establish(self) -> Option<Socket> {
        // It fails only if the peer is gone already.
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
