//! Drives one handshake over one socket.

use super::io;
use super::providers::{Pending, Providers, Waiter};
use crate::connection::{Answer, Connection, ConnectionState, Request};
use crate::contain::contain;
use crate::error::{Error, Result};
use crate::sys::Deadline;
use nix::poll::{PollFd, PollFlags};
use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// How often a thread that waits for an answer checks whether the peer has left.
const LOOK: Duration = Duration::from_millis(50);

/// What a handshake needs next.
pub(super) enum Step {
    /// Nothing: it is connected, and everything has been written.
    Done,
    /// The socket to be ready for these events.
    Wait(PollFlags),
    /// An answer to the connection's request. Meanwhile these events show that the peer has left.
    /// `poll` reports unasked that the transport is broken or shut down, as that of an evicted
    /// handshake is.
    Ask(PollFlags),
}

/// Goes as far as the socket and the vault allow without waiting.
pub(super) fn step(stream: &TcpStream, connection: &mut Connection) -> Result<Step> {
    contain(|| advance(stream, connection)).flatten()
}

fn advance(stream: &TcpStream, connection: &mut Connection) -> Result<Step> {
    loop {
        while !connection.send_buffer().is_empty() {
            match io::write_now(stream, connection.send_buffer()) {
                Ok(count) => connection.sent(count),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Step::Wait(PollFlags::POLLOUT)),
                Err(e) => return Err(io::broken(&e)),
            }
        }
        if connection.state() == ConnectionState::Connected {
            return Ok(Step::Done);
        }
        if let Some(request) = connection.request() {
            return Ok(Step::Ask(leaving(request)));
        }
        match io::read_now(stream, connection.recv_buffer()?) {
            Ok(0) => return Err(connection.transport_ended()),
            Ok(count) => connection.received(count)?,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Step::Wait(PollFlags::POLLIN)),
            Err(e) => return Err(io::broken(&e)),
        }
    }
}

/// Returns the events that show, while `request` is answered, that the peer has left. A peer that
/// ends its side while it still needs our reply has left. A client that has sent its initiate may
/// simply have nothing more to say.
fn leaving(request: &Request) -> PollFlags {
    match request {
        Request::AnswerHello { .. } | Request::SealVouch { .. } => io::PEER_ENDED,
        Request::OpenVouch { .. } | Request::Verify(_) => PollFlags::empty(),
    }
}

/// Puts the connection's request to its provider, and passes the answer to `done`.
pub(super) fn ask(
    providers: &Providers,
    connection: &Connection,
    done: impl FnOnce(Answer) + Send + 'static,
) -> Result<Pending> {
    let request = connection.request().ok_or(Error::Internal)?.clone();
    contain(|| providers.ask(connection.source(), request, done)).flatten()
}

/// Continues the handshake with an answer.
pub(super) fn take_answer(connection: &mut Connection, answer: Answer) -> Result<()> {
    contain(|| connection.answer(answer)).flatten()
}

/// A handle on a handshake that one thread runs, by which other threads can end it.
pub(super) struct Lifeline {
    pub stream: Arc<TcpStream>,
    waiter: Waiter,
}

impl Lifeline {
    pub(super) fn new(stream: Arc<TcpStream>) -> Arc<Lifeline> {
        Arc::new(Lifeline { stream, waiter: Waiter::default() })
    }

    /// Ends the handshake: the thread that runs it finds its transport shut down.
    pub(super) fn cut(&self) {
        // This fails only if the peer has gone, which is just as good.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.waiter.wake();
    }
}

/// Runs a handshake to its end; `Timeout` at the deadline.
pub(super) fn run(
    line: &Arc<Lifeline>,
    connection: &mut Connection,
    providers: &Providers,
    deadline: Deadline,
) -> Result<()> {
    loop {
        deadline.check()?;
        match step(&line.stream, connection)? {
            Step::Done => return Ok(()),
            Step::Wait(events) => {
                if !deadline.wait(&mut [PollFd::new(line.stream.as_fd(), events)])? {
                    return Err(Error::Timeout);
                }
            }
            Step::Ask(leaving) => {
                let told = line.clone();
                let _put = ask(providers, connection, move |answer| told.waiter.put(answer))?;
                let answer = await_answer(line, connection, leaving, deadline)?;
                take_answer(connection, answer)?;
            }
        }
    }
}

/// Waits for an answer until the deadline, and no longer than the peer stays.
fn await_answer(
    line: &Lifeline,
    connection: &mut Connection,
    leaving: PollFlags,
    deadline: Deadline,
) -> Result<Answer> {
    loop {
        if let Some(answer) = line.waiter.wait(deadline.min(Deadline::after(Some(LOOK)))) {
            return Ok(answer);
        }
        deadline.check()?;
        let now = Deadline::after(Some(Duration::ZERO));
        if now.wait(&mut [PollFd::new(line.stream.as_fd(), leaving)])? {
            return Err(connection.transport_ended());
        }
    }
}
