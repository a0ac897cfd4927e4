//! What the system knows of descriptors, and those that it gives a process at its start.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::getpid;
use socket2::Socket;
use std::env;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Returns how many bytes the peer's system has not acknowledged, an end of writing counted as one
/// (SIOCOUTQ: tcp(7), unix(7)); 0 where that is not known, as of a connection that is gone.
pub fn unsent(socket: &Socket) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the call writes one
    // int, to where `count` is.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}

/// The first descriptor that a service manager passes (sd_listen_fds(3)).
const FIRST: i32 = 3;
/// More than that are not taken for descriptors.
const MOST: i32 = 1024;

/// Returns the listening sockets of this name that a service manager has passed to this process.
/// They are taken at the first call, and each is given once.
pub fn activated(name: &str) -> Vec<Socket> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    static LEFT: Mutex<Vec<(String, Socket)>> = Mutex::new(Vec::new());
    let mut left = LEFT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !TAKEN.swap(true, Ordering::Relaxed) {
        *left = passed();
    }
    let (found, others) = left.drain(..).partition(|(passed, _)| passed == name);
    *left = others;
    found.into_iter().map(|(_, socket)| socket).collect()
}

fn passed() -> Vec<(String, Socket)> {
    let read = |name: &str| env::var(name).ok()?.parse::<i32>().ok();
    if read("LISTEN_PID") != Some(getpid().as_raw()) {
        return Vec::new();
    }
    let count = read("LISTEN_FDS").unwrap_or(0).clamp(0, MOST);
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = Vec::new();
    for descriptor in FIRST..FIRST + count {
        let name = names.next().unwrap_or_default().to_owned();
        // SAFETY: fcntl takes any number, and fails where no descriptor has it.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
            continue;
        }
        // SAFETY: it is open, and by the protocol of sd_listen_fds(3) this process's own from its
        // start. This runs once, so nothing else here owns it.
        let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let _ = fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        if getsockopt(&owned, sockopt::AcceptConn).unwrap_or(false) {
            passed.push((name, Socket::from(owned)));
        }
    }
    passed
}
