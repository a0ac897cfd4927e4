//! The agent: one thread that answers the requests of many clients for one vault.

use super::socket::{self, Identity};
use super::wire::{self, LENGTH_BYTES};
use crate::crypto::wipe;
use crate::error::{Error, Result};
use crate::sys::ForkGuard;
use crate::vault::Vault;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockFlag, accept4};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most clients served at once. When another one comes, the client that was silent longest is
/// disconnected; it may connect again.
const CLIENTS_MAX: usize = 256;
/// How long no client is accepted after the system had no descriptor for one, in milliseconds.
const PAUSE_MS: u8 = 100;

/// Answers requests for a vault over a Unix socket; clients use [`AgentVault`](super::AgentVault).
///
/// The socket has mode 0600, and only processes of this user or of root are answered. No request
/// reveals a secret key. The socket is removed when the agent is dropped.
pub struct Agent {
    listener: OwnedFd,
    path: PathBuf,
    identity: Identity,
    vault: Arc<dyn Vault>,
    fork_guard: ForkGuard,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Agent {
    /// Listens at `path`. A socket that a dead agent left there is replaced.
    ///
    /// # Errors
    /// `AddressInUse` if something listens at `path`; `AlreadyExists` if there is something other
    /// than a socket; `InvalidArgument` for a path of over 107 bytes; `FileNotFound` if the folder
    /// does not exist; `PermissionDenied`, `ReadOnly`, `DiskFull`, `TooManyFiles`, `Io`.
    pub fn bind(path: &Path, vault: Arc<dyn Vault>) -> Result<Agent> {
        let (listener, identity) = socket::listen_at(path)?;
        Ok(Agent { listener, path: path.to_owned(), identity, vault, fork_guard: ForkGuard::here() })
    }

    /// Serves until `stop` can be read or is at its end.
    ///
    /// # Errors
    /// `Io` if the system cannot wait for descriptors; `Forked`.
    pub fn run(&self, stop: BorrowedFd<'_>) -> Result<()> {
        let mut clients: Vec<Client> = Vec::new();
        loop {
            self.fork_guard.check()?;
            let mut fds = vec![
                PollFd::new(stop, PollFlags::POLLIN),
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            ];
            fds.extend(clients.iter().map(|client| PollFd::new(client.stream.as_fd(), client.waits_for())));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                waited => waited.map_err(|errno| Error::of_call(&errno.into()))?,
            };
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
            drop(fds);
            if ready[0] {
                return Ok(());
            }
            clients = self.serve(clients, &ready[2..]);
            if ready[1] && !self.accept(&mut clients) {
                // The system is out of something that we cannot give back: do not ask again at
                // once.
                let _ = poll(&mut [PollFd::new(stop, PollFlags::POLLIN)], PAUSE_MS);
            }
        }
    }

    /// Serves each client that is ready, and returns those that stay, the one that was silent
    /// longest first.
    fn serve(&self, clients: Vec<Client>, ready: &[bool]) -> Vec<Client> {
        let (mut silent, mut active) = (Vec::with_capacity(clients.len() + 1), Vec::new());
        for (mut client, ready) in clients.into_iter().zip(ready) {
            if !ready {
                silent.push(client);
            } else if client.get_on(&*self.vault).is_ok() {
                active.push(client);
            }
        }
        silent.append(&mut active);
        silent
    }

    /// Accepts another client; false if the system has no room for one.
    fn accept(&self, clients: &mut Vec<Client>) -> bool {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        match accept4(&self.listener, flags) {
            Ok(stream) => {
                if !socket::may_ask(&stream) {
                    return true;
                }
                if clients.len() >= CLIENTS_MAX {
                    clients.remove(0);
                }
                clients.push(Client::new(stream));
            }
            Err(errno) => match Error::of_call(&errno.into()) {
                Error::TooManyFiles | Error::NoBuffers if clients.is_empty() => return false,
                // The next round finds a descriptor free.
                Error::TooManyFiles | Error::NoBuffers => drop(clients.remove(0)),
                // A client that gave up waiting needs nothing.
                _ => {}
            },
        }
        true
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.fork_guard.check().is_ok() {
            socket::remove(&self.path, self.identity);
        }
    }
}

struct Client {
    stream: OwnedFd,
    /// The request so far, with its length before it; never more than one.
    request: Vec<u8>,
    /// What is left of the response; no request is read before it is gone.
    response: Vec<u8>,
}

impl Client {
    fn new(stream: OwnedFd) -> Client {
        Client { stream, request: Vec::new(), response: Vec::new() }
    }

    fn waits_for(&self) -> PollFlags {
        if self.response.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLOUT }
    }

    /// Reads, answers and writes as far as possible without waiting; one request at most.
    ///
    /// # Errors
    /// `Closed` when the client should be disconnected.
    fn get_on(&mut self, vault: &dyn Vault) -> Result<()> {
        if self.response.is_empty() && self.fill()? {
            self.response = wire::respond(vault, &self.request[LENGTH_BYTES..]);
            self.request.clear();
        }
        if !self.response.is_empty() {
            match socket::write(self.stream.as_fd(), &self.response) {
                Ok(count) => {
                    wipe(&mut self.response[..count]);
                    self.response.drain(..count);
                }
                Err(Error::WouldBlock) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what has arrived of one request, and nothing after it; true once it is complete.
    fn fill(&mut self) -> Result<bool> {
        loop {
            let whole = match self.request.first_chunk() {
                None => LENGTH_BYTES,
                Some(field) => LENGTH_BYTES + wire::frame_length(*field).ok_or(Error::Closed)?,
            };
            let have = self.request.len();
            if have == whole {
                return Ok(true);
            }
            self.request.resize(whole, 0);
            let read = socket::read(self.stream.as_fd(), &mut self.request[have..]);
            self.request.truncate(have + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(Error::Closed),
                Ok(_) => {}
                Err(Error::WouldBlock) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        wipe(&mut self.response);
    }
}
