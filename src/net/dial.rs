//! Resolving a name to addresses, and opening a TCP connection to one of them.

use crate::error::{Error, Result};
use crate::sys::Deadline;
use crate::sys::spawn;
use nix::poll::{PollFd, PollFlags};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::Duration;

/// How long an address is tried before the next one is tried beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Returns the addresses of `host`, which may be an address itself.
///
/// The system's resolver has no deadline, so it runs on a thread of its own, which is left behind
/// if it is late.
pub(super) fn resolve(host: &str, port: u16, deadline: Deadline) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (tell, addresses) = mpsc::channel();
    let host = host.to_owned();
    spawn("curve_tun-resolve", move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Nobody listens any more once the deadline has passed.
        let _ = tell.send(found);
    })?;
    let found = match deadline.remaining() {
        None => addresses.recv().map_err(|_| Error::Internal)?,
        Some(left) => addresses.recv_timeout(left).map_err(|_| Error::Timeout)?,
    };
    match found {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        _ => Err(Error::NameNotFound),
    }
}

/// Connects to the first of `addresses` that answers. While one is slow, the next ones are tried
/// beside it.
///
/// On failure the error is that of the first address that failed.
pub(super) fn dial(addresses: &[SocketAddr], deadline: Deadline) -> Result<TcpStream> {
    let mut untried = addresses.iter();
    let mut trying: Vec<Socket> = Vec::new();
    let mut failure = None;
    loop {
        if let Some(address) = untried.next() {
            match attempt(address) {
                Ok(socket) => trying.push(socket),
                Err(error) => {
                    failure.get_or_insert(error);
                    continue;
                }
            }
        } else if trying.is_empty() {
            return Err(failure.unwrap_or(Error::NameNotFound));
        }
        let more = untried.len() > 0;
        let until = if more { deadline.min(Deadline::after(Some(STAGGER))) } else { deadline };
        let mut fds: Vec<_> = trying.iter().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLOUT)).collect();
        if !until.wait(&mut fds)? {
            deadline.check()?;
            continue;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let mut still = Vec::new();
        for (socket, ready) in std::mem::take(&mut trying).into_iter().zip(ready) {
            if !ready {
                still.push(socket);
                continue;
            }
            match socket.take_error() {
                Ok(None) => return Ok(socket.into()),
                Ok(Some(e)) | Err(e) => {
                    failure.get_or_insert(Error::of_socket(&e));
                }
            }
        }
        trying = still;
    }
}

/// Begins to connect.
fn attempt(address: &SocketAddr) -> Result<Socket> {
    let begin = || {
        let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&(*address).into()) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
            _ => Ok(socket),
        }
    };
    begin().map_err(|e| Error::of_socket(&e))
}
