//! What a failed call means to a listener and to a connection, and the settings of a socket.

use crate::connection::Options;
use crate::error::{Error, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// A receiver that has waited for this long gives idle buffers back.
pub(super) const IDLE: Duration = Duration::from_secs(1);
/// The first keep-alive probe comes after this much silence.
const KEEP_ALIVE_TIME: Duration = Duration::from_secs(60);
/// Further probes come after each of these.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// What `poll` says when the peer has ended its side, whatever waits to be read; where there is no
/// such flag, nothing.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(super) const PEER_ENDED: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(super) const PEER_ENDED: PollFlags = PollFlags::empty();

/// Whether a failed accept concerns the connection that was to be accepted alone: Linux reports
/// errors of its network there, and those of a firewall (accept(2)).
pub(super) fn is_of_one_connection(failure: &io::Error) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if failure.raw_os_error() == Some(libc::ENONET) {
        return true;
    }
    matches!(
        failure.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::EPERM
                | libc::EPROTO
                | libc::ETIMEDOUT
        )
    )
}

/// What a refusal of the system to give a connection means to a listener: nothing that would end
/// it.
pub(super) fn refused(failure: &io::Error) -> Error {
    match Error::of_socket(failure) {
        error @ (Error::TooManyFiles | Error::NoBuffers) => error,
        _ => Error::Io,
    }
}

/// What a failed read or write means to a connection that was there.
pub(super) fn broken(failure: &io::Error) -> Error {
    match Error::of_socket(failure) {
        // Keep-alive or the network gave up: not a deadline of ours.
        Error::Timeout | Error::Unreachable => Error::Closed,
        error => error,
    }
}

/// Whether this system hands a listener's settings on to the sockets that it accepts, other than
/// being non-blocking.
const HANDED_ON: bool = cfg!(target_os = "linux");

/// Sets a socket to what the options say, and to wait, in reads at most for `IDLE`. Handshakes
/// never wait in it.
pub(super) fn configure(stream: &TcpStream, options: &Options) -> Result<()> {
    let socket = SockRef::from(stream);
    socket.set_nonblocking(false).and_then(|()| settings(&socket, options)).map_err(|e| Error::of_socket(&e))
}

/// Has `listener` accept sockets that are as [`configure`] makes them, where systems do that.
pub(super) fn configure_listener(listener: &TcpListener, options: &Options) -> io::Result<()> {
    if HANDED_ON { settings(&SockRef::from(listener), options) } else { Ok(()) }
}

/// Sees to what the listener could not see to.
pub(super) fn configure_accepted(stream: &TcpStream, options: &Options) -> Result<()> {
    if HANDED_ON { Ok(()) } else { configure(stream, options) }
}

/// Whether the peer of a connection that was just accepted has left already. It cannot have said
/// more than its hello, so nobody is there for the cookie.
pub(super) fn has_left(stream: &TcpStream) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PEER_ENDED)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn settings(socket: &SockRef, options: &Options) -> io::Result<()> {
    socket.set_read_timeout(Some(IDLE))?;
    socket.set_tcp_nodelay(options.no_delay)?;
    if options.keep_alive {
        let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE_TIME).with_interval(KEEP_ALIVE_INTERVAL);
        socket.set_tcp_keepalive(&keep_alive)?;
    }
    Ok(())
}

/// Reads what is there, or `WouldBlock`.
pub(super) fn read_now(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
}

/// Writes what the system takes at once, or `WouldBlock`.
pub(super) fn write_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(stream.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | NO_SIGNAL)?)
}

/// A broken connection is an error of the write and not SIGPIPE. Where there is no such flag, the
/// standard library has set an option to that effect.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: MsgFlags = MsgFlags::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: MsgFlags = MsgFlags::empty();

/// An IPv4 peer of an IPv6 socket, as the IPv4 peer that it is. A link-local address keeps its
/// interface.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(mapped) => SocketAddr::new(mapped.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}
