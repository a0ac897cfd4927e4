//! The Unix socket between agent and client, and the check of who is at its other end.

use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, recv,
    send, socket, sockopt::PeerCredentials,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Uid, geteuid};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Clients that wait to be accepted.
const BACKLOG: i32 = 128;

/// The identity of a socket's file, whatever its name.
pub(super) type Identity = (u64, u64);

/// Returns what a failed call on the socket or its file means.
pub(super) fn error(errno: Errno) -> Error {
    Error::of_call(&errno.into())
}

fn address(path: &Path) -> Result<UnixAddr> {
    // Over the 107 bytes that a socket's path may have, or with a zero in it.
    UnixAddr::new(path).map_err(|_| Error::InvalidArgument)
}

fn unix_socket() -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(error)
}

/// Listens at `path`, where only this user may connect; a socket that a dead agent left there is
/// replaced.
///
/// # Errors
/// `AddressInUse` if something listens there, `AlreadyExists` if there is something else.
pub(super) fn listen_at(path: &Path) -> Result<(OwnedFd, Identity)> {
    let address = address(path)?;
    remove_dead(path)?;
    let listener = unix_socket()?;
    // Before the bind, since the socket's file is created with this mode.
    fchmod(&listener, Mode::S_IRUSR | Mode::S_IWUSR).map_err(error)?;
    bind(listener.as_raw_fd(), &address).map_err(error)?;
    let made = fs::symlink_metadata(path).map_err(|e| Error::of_file(&e))?;
    let close = || -> Result<()> {
        if made.mode() & 0o177 != 0 {
            return Err(Error::VaultPermissions);
        }
        listen(&listener, Backlog::new(BACKLOG).map_err(error)?).map_err(error)
    };
    if let Err(error) = close() {
        remove(path, (made.dev(), made.ino()));
        return Err(error);
    }
    Ok((listener, (made.dev(), made.ino())))
}

/// Removes a socket at which nobody listens.
fn remove_dead(path: &Path) -> Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::of_file(&e)),
    };
    if !there.file_type().is_socket() {
        return Err(Error::AlreadyExists);
    }
    match connect(unix_socket()?.as_raw_fd(), &address(path)?) {
        Err(Errno::ECONNREFUSED) => {
            remove(path, (there.dev(), there.ino()));
            Ok(())
        }
        Err(Errno::ENOENT) => Ok(()),
        Ok(()) | Err(Errno::EAGAIN) => Err(Error::AddressInUse),
        Err(errno) => Err(error(errno)),
    }
}

/// Removes the socket at `path` if it still is the given one.
pub(super) fn remove(path: &Path, identity: Identity) {
    let there = fs::symlink_metadata(path);
    if there.is_ok_and(|there| (there.dev(), there.ino()) == identity) {
        // If it cannot be removed, the next agent finds it dead.
        let _ = fs::remove_file(path);
    }
}

/// Connects to the agent at `path`, if it runs as this user or as root.
///
/// # Errors
/// `FileNotFound`, `ConnectionRefused`, `PermissionDenied`, `WouldBlock` if too many clients wait
/// to be accepted.
pub(super) fn connect_to(path: &Path) -> Result<OwnedFd> {
    let address = address(path)?;
    let stream = unix_socket()?;
    connect(stream.as_raw_fd(), &address).map_err(error)?;
    // Root may use anybody's agent.
    let peer = peer(&stream)?;
    if peer.is_root() || peer == geteuid() || geteuid().is_root() {
        Ok(stream)
    } else {
        Err(Error::PermissionDenied)
    }
}

/// Returns whether the client at the other end runs as this user or as root.
pub(super) fn may_ask(stream: &OwnedFd) -> bool {
    peer(stream).is_ok_and(|uid| uid.is_root() || uid == geteuid())
}

fn peer(stream: &OwnedFd) -> Result<Uid> {
    Ok(Uid::from_raw(getsockopt(stream, PeerCredentials).map_err(error)?.uid()))
}

/// Reads what has arrived, without waiting; returns 0 at the end.
pub(super) fn read(stream: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<usize> {
    retry(|| recv(stream.as_raw_fd(), bytes, MsgFlags::empty()))
}

/// Writes as much as fits, without waiting and without SIGPIPE.
pub(super) fn write(stream: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    retry(|| send(stream.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL))
}

fn retry(mut call: impl FnMut() -> nix::Result<usize>) -> Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done.map_err(error),
        }
    }
}
