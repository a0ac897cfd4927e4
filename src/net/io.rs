//! The operating system's errors as ours, and the settings of a socket.

use crate::connection::Options;
use crate::error::{Error, Result};
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The first keep-alive probe comes after this much silence.
const KEEP_ALIVE_TIME: Duration = Duration::from_secs(60);
/// Further probes come after each of these.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// What a failed system call means to a caller.
pub(super) fn error(error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => return Error::TooManyFiles,
        Some(libc::ENOBUFS | libc::ENOMEM) => return Error::OutOfMemory,
        Some(libc::EADDRNOTAVAIL) => return Error::AddressNotAvailable,
        _ => {}
    }
    match error.kind() {
        io::ErrorKind::WouldBlock => Error::WouldBlock,
        io::ErrorKind::TimedOut => Error::Timeout,
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            Error::Unreachable
        }
        io::ErrorKind::AddrInUse => Error::AddressInUse,
        io::ErrorKind::PermissionDenied => Error::PermissionDenied,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected => Error::Closed,
        _ => Error::Io,
    }
}

/// What a failed read or write means to a connection that was there.
pub(super) fn broken(failure: &io::Error) -> Error {
    match error(failure) {
        // Keep-alive or the network gave up: not a deadline of ours.
        Error::Timeout | Error::Unreachable => Error::Closed,
        error => error,
    }
}

/// Makes a fresh socket non-blocking and sets what the options say.
pub(super) fn configure(stream: &TcpStream, options: &Options) -> Result<()> {
    let configure = || {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(options.no_delay)?;
        if options.keep_alive {
            let keep_alive =
                TcpKeepalive::new().with_time(KEEP_ALIVE_TIME).with_interval(KEEP_ALIVE_INTERVAL);
            SockRef::from(stream).set_tcp_keepalive(&keep_alive)?;
        }
        Ok(())
    };
    configure().map_err(|e| error(&e))
}

/// Makes a socket whose handshake is over a blocking one, whose reads wait for `longest` at most.
pub(super) fn make_blocking(stream: &TcpStream, longest: Duration) -> Result<()> {
    stream.set_read_timeout(Some(longest)).and_then(|()| stream.set_nonblocking(false)).map_err(|e| error(&e))
}

/// Reads what is there, or `WouldBlock`.
pub(super) fn read_now(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
}

/// Writes what the system takes at once, or `WouldBlock`.
pub(super) fn write_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(stream.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | NO_SIGNAL)?)
}

/// A broken connection is an error of the write and not SIGPIPE. Where there is no such flag, the standard library has
/// set an option to that effect.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: MsgFlags = MsgFlags::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: MsgFlags = MsgFlags::empty();

/// An IPv4 peer of an IPv6 socket, as the IPv4 peer that it is.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
