//! How much of what was written to a socket has not arrived.

use nix::libc;
use socket2::Socket;
use std::os::fd::AsRawFd;

/// Returns how many bytes the peer's system has not acknowledged, an end of writing counted as one
/// (SIOCOUTQ: tcp(7), unix(7)); 0 where that is not known, as of a connection that is gone.
pub fn unsent(socket: &Socket) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the call writes one
    // int, to where `count` is.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}
