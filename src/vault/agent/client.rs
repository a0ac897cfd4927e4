//! The vault whose key an agent holds.

use super::socket;
use super::wire::{self, LENGTH_BYTES};
use crate::crypto::{KEY_BYTES, PublicKey, TAG_BYTES};
use crate::error::{Error, Result};
use crate::protocol::packet::{CookieBox, CookieMessage, HelloBox};
use crate::sys::{Deadline, ForkGuard};
use crate::vault::{LongTermNonce, Purpose, Vault};
use nix::poll::{PollFd, PollFlags};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long a request may take unless its caller says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before trying again to reach an agent that is away.
const RETRY: Duration = Duration::from_millis(10);
/// Connections to the agent; further requests wait for one to be free.
const LINES_MAX: usize = 4;

/// A vault whose key is in another process, the agent ([`Agent`](super::Agent), `curve-tun agent`).
///
/// Any number of processes may use one agent: they share its identity, and never repeat a counter.
/// The agent may be restarted while they run: a request waits for it as long as its timeout allows.
/// An agent that comes back with another key is refused. Requests block, so connections have this
/// vault answer later ([`Vault::deferred`]).
pub struct AgentVault {
    path: PathBuf,
    public: PublicKey,
    timeout: Duration,
    lines: Mutex<Lines>,
    freed: Condvar,
    fork_guard: ForkGuard,
}

impl fmt::Debug for AgentVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentVault")
            .field("path", &self.path)
            .field("public_key", &self.public)
            .finish_non_exhaustive()
    }
}

/// The connections to the agent.
struct Lines {
    idle: Vec<OwnedFd>,
    busy: usize,
}

impl AgentVault {
    /// Connects to the agent at `path`. Each request, including this one, may take 5 seconds,
    /// within which it waits for an agent that is not there yet.
    ///
    /// # Errors
    /// Once that time is over, `FileNotFound` if there is no socket, `ConnectionRefused` if no
    /// agent listens at it, `Closed` if it does not serve this user. At once, `PermissionDenied` if
    /// it is another user's, `VaultVersion` if it speaks a later protocol, `Timeout` if it does not
    /// answer, `VaultFailed` if it answers nonsense, `InvalidArgument` for a path of over 107
    /// bytes, `TooManyFiles`, `CryptoUnavailable`.
    pub fn open(path: &Path) -> Result<AgentVault> {
        AgentVault::open_with_timeout(path, TIMEOUT)
    }

    /// Like [`AgentVault::open`], but each request may take `timeout`. A timeout that is too long
    /// to be represented never ends.
    ///
    /// # Errors
    /// Those of [`AgentVault::open`].
    pub fn open_with_timeout(path: &Path, timeout: Duration) -> Result<AgentVault> {
        crate::crypto::init()?;
        let (public, stream) = reach(path, Deadline::after(Some(timeout)))?;
        let lines = Mutex::new(Lines { idle: vec![stream], busy: 0 });
        let (path, fork_guard) = (path.to_owned(), ForkGuard::here());
        Ok(AgentVault { path, public, timeout, lines, freed: Condvar::new(), fork_guard })
    }

    /// Sends a request and reads a response into `parts`, which it must fill exactly.
    fn ask(&self, request: &[&[u8]], parts: &mut [&mut [u8]]) -> Result<()> {
        self.fork_guard.check()?;
        let request = wire::frame(request)?;
        let deadline = Deadline::after(Some(self.timeout));
        let mut line = self.take_line(deadline)?;
        let asked = loop {
            // A request may be sent twice if its response is lost: that uses up a counter, but
            // repeats none.
            let stream = match line.take().map_or_else(|| self.connect(deadline), Ok) {
                Ok(stream) => stream,
                Err(error) => break Err(error),
            };
            match exchange(&stream, &request, parts, deadline) {
                Ok(()) => {
                    line = Some(stream);
                    break Ok(());
                }
                Err(Broken::Refused(error)) => {
                    line = Some(stream);
                    break Err(error);
                }
                Err(Broken::Line(Error::Closed)) => {
                    if let Err(timeout) = deadline.left() {
                        break Err(timeout);
                    }
                }
                Err(Broken::Line(error)) => break Err(error),
            }
        };
        self.give_line(line);
        asked
    }

    /// Takes a slot among the connections, with an idle connection if there is one.
    fn take_line(&self, deadline: Deadline) -> Result<Option<OwnedFd>> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        while lines.busy >= LINES_MAX {
            let left = deadline.left()?;
            lines = self.freed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        lines.busy += 1;
        Ok(lines.idle.pop())
    }

    fn give_line(&self, line: Option<OwnedFd>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.busy -= 1;
        lines.idle.extend(line);
        self.freed.notify_one();
    }

    /// Opens a new connection to the agent, which may be away for a while.
    fn connect(&self, deadline: Deadline) -> Result<OwnedFd> {
        match reach(&self.path, deadline) {
            Ok((public, stream)) if public == self.public => Ok(stream),
            // Another key: this agent cannot do what was asked.
            Ok(_) => Err(Error::VaultFailed),
            Err(Error::FileNotFound | Error::ConnectionRefused | Error::Closed) => Err(Error::Timeout),
            Err(error) => Err(error),
        }
    }
}

/// Connects to the agent at `path` and asks for its public key; while there is no agent, tries
/// again until the deadline.
///
/// # Errors
/// Once the deadline has passed, `FileNotFound` or `ConnectionRefused` if there still was no agent,
/// `Closed` if it closed the connection, as it does for other users' processes, `Timeout` if it did
/// not answer; at once, all others.
fn reach(path: &Path, deadline: Deadline) -> Result<(PublicKey, OwnedFd)> {
    let mut absent = Error::Timeout;
    loop {
        let stream = socket::connect_to(path).map_err(Broken::Line);
        match stream.and_then(|stream| Ok((greet(&stream, deadline)?, stream))) {
            Ok(reached) => return Ok(reached),
            Err(Broken::Line(error @ (Error::FileNotFound | Error::ConnectionRefused | Error::Closed))) => {
                absent = error;
            }
            Err(Broken::Line(Error::WouldBlock)) => absent = Error::Timeout,
            // The time was over before the last attempt could repeat its failure.
            Err(Broken::Line(Error::Timeout)) => return Err(absent),
            Err(Broken::Line(error) | Broken::Refused(error)) => return Err(error),
        }
        let left = deadline.left().map_err(|_| absent)?;
        std::thread::sleep(left.min(RETRY));
    }
}

/// Why a request did not get a valid response.
enum Broken {
    /// The agent refused the request: the connection is fine.
    Refused(Error),
    /// The connection must not be used any more.
    Line(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Broken {
        Broken::Line(error)
    }
}

/// Asks for the agent's public key, which also checks that it speaks this protocol.
fn greet(stream: &OwnedFd, deadline: Deadline) -> std::result::Result<PublicKey, Broken> {
    let (mut version, mut public) = ([0; 1], [0; KEY_BYTES]);
    let request = wire::frame(&[&[wire::PUBLIC_KEY, wire::VERSION]])?;
    exchange(stream, &request, &mut [&mut version, &mut public], deadline)?;
    if version == [wire::VERSION] { Ok(PublicKey(public)) } else { Err(Broken::Line(Error::VaultFailed)) }
}

/// Sends one request and reads its response.
fn exchange(
    stream: &OwnedFd,
    request: &[u8],
    parts: &mut [&mut [u8]],
    deadline: Deadline,
) -> std::result::Result<(), Broken> {
    let mut sent = 0;
    while sent < request.len() {
        let wrote = socket::write(stream.as_fd(), &request[sent..]);
        sent += or_wait(wrote, stream, PollFlags::POLLOUT, deadline)?;
    }
    let (mut length, mut status) = ([0; LENGTH_BYTES], [0; 1]);
    read_exactly(stream, &mut length, deadline)?;
    let length = wire::frame_length(length).ok_or(Error::VaultFailed)?;
    read_exactly(stream, &mut status, deadline)?;
    if status != [0] {
        let error = Error::from_code(status[0].into()).filter(|_| length == 1).ok_or(Error::VaultFailed)?;
        return Err(Broken::Refused(error));
    }
    if length != 1 + parts.iter().map(|part| part.len()).sum::<usize>() {
        return Err(Broken::Line(Error::VaultFailed));
    }
    for part in parts {
        read_exactly(stream, part, deadline)?;
    }
    Ok(())
}

fn read_exactly(stream: &OwnedFd, bytes: &mut [u8], deadline: Deadline) -> Result<()> {
    let mut got = 0;
    while got < bytes.len() {
        let read = match socket::read(stream.as_fd(), &mut bytes[got..]) {
            Ok(0) => Err(Error::Closed),
            read => read,
        };
        got += or_wait(read, stream, PollFlags::POLLIN, deadline)?;
    }
    Ok(())
}

/// Returns the result of a call; if it would have blocked, waits until the stream is ready for
/// `events` and returns 0.
fn or_wait(done: Result<usize>, stream: &OwnedFd, events: PollFlags, deadline: Deadline) -> Result<usize> {
    if done != Err(Error::WouldBlock) {
        return done;
    }
    if deadline.wait(&mut [PollFd::new(stream.as_fd(), events)])? { Ok(0) } else { Err(Error::Timeout) }
}

impl Vault for AgentVault {
    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn box_seal(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<LongTermNonce> {
        if purpose == Purpose::Hello || message.len().checked_add(TAG_BYTES) != Some(sealed.len()) {
            return Err(Error::InvalidArgument);
        }
        let mut nonce = [0; _];
        self.ask(&[&[wire::BOX, purpose as u8], &peer.0, message], &mut [&mut nonce, sealed])?;
        Ok(nonce)
    }

    fn box_open(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &[u8],
        sealed: &[u8],
        message: &mut [u8],
    ) -> Result<()> {
        let fits = message.len().checked_add(TAG_BYTES) == Some(sealed.len());
        if !fits || nonce.len() != purpose.nonce_len() {
            return Err(Error::InvalidArgument);
        }
        self.ask(&[&[wire::BOX_OPEN, purpose as u8], &peer.0, nonce, sealed], &mut [message])
    }

    fn answer_hello(
        &self,
        client_short: &PublicKey,
        hello: &HelloBox,
        cookie: &mut dyn FnMut() -> Result<CookieMessage>,
    ) -> Result<(LongTermNonce, CookieBox)> {
        let (mut nonce, mut sealed) = ([0; _], [0; _]);
        let request: [&[u8]; 4] = [&[wire::ANSWER_HELLO], &client_short.0, hello, &cookie()?];
        self.ask(&request, &mut [&mut nonce, &mut sealed])?;
        Ok((nonce, sealed))
    }

    fn deferred(&self) -> bool {
        true
    }

    fn max_concurrency(&self) -> usize {
        LINES_MAX
    }
}
