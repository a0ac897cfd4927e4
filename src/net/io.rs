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

/// The event by which `poll` reports that the peer has ended its side, even while bytes wait to be
/// read. Empty on systems without it.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(super) const PEER_ENDED: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(super) const PEER_ENDED: PollFlags = PollFlags::empty();

/// Says whether a failed accept concerns only the connection that was being accepted: Linux reports
/// network and firewall errors of the new connection there (accept(2)).
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

/// Returns what a failed accept means to a listener: never an error that would end it.
pub(super) fn refused(failure: &io::Error) -> Error {
    match Error::of_socket(failure) {
        error @ (Error::TooManyFiles | Error::NoBuffers) => error,
        _ => Error::Io,
    }
}

/// Returns what a failed read or write means to an established connection.
pub(super) fn broken(failure: &io::Error) -> Error {
    match Error::of_socket(failure) {
        // Keep-alive or the network gave up: not a deadline of ours.
        Error::Timeout | Error::Unreachable => Error::Closed,
        error => error,
    }
}

/// Whether accepted sockets inherit the listener's settings on this system, all but being
/// non-blocking.
const HANDED_ON: bool = cfg!(target_os = "linux");

/// Applies the options to a socket and makes it blocking, with reads that wait at most for `IDLE`.
/// Handshakes never block in it.
pub(super) fn configure(stream: &TcpStream, options: &Options) -> Result<()> {
    let socket = SockRef::from(stream);
    socket.set_nonblocking(false).and_then(|()| settings(&socket, options)).map_err(|e| Error::of_socket(&e))
}

/// Applies the options to `listener`, where accepted sockets inherit them.
pub(super) fn configure_listener(listener: &TcpListener, options: &Options) -> io::Result<()> {
    if HANDED_ON { settings(&SockRef::from(listener), options) } else { Ok(()) }
}

/// Applies the options to an accepted socket that has not inherited them from its listener.
pub(super) fn configure_accepted(stream: &TcpStream, options: &Options) -> Result<()> {
    if HANDED_ON { Ok(()) } else { configure(stream, options) }
}

/// Says whether the peer of a connection that was just accepted has left already. It can have sent
/// no more than its hello, so nobody would read the cookie.
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

/// Reads the bytes that have arrived; `WouldBlock` if there are none.
pub(super) fn read_now(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
}

/// Writes what the system takes at once; `WouldBlock` if it takes nothing.
pub(super) fn write_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(stream.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | NO_SIGNAL)?)
}

/// Makes a write to a broken connection fail instead of raising SIGPIPE. Where the flag does not
/// exist, the standard library has set a socket option to the same effect.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: MsgFlags = MsgFlags::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: MsgFlags = MsgFlags::empty();

/// Returns the IPv4 address of an IPv4 peer on an IPv6 socket, and any other address as it is: a
/// link-local one keeps its interface.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(mapped) => SocketAddr::new(mapped.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}
