//! The limit of a file's size (`RLIMIT_FSIZE`), at which the system sends a signal that ends a
//! process.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use std::io;

/// Has `write` write to files: at the limit it fails with `EFBIG`
/// ([`Error::of_file`](crate::Error::of_file) makes that `DiskFull`), and the signal that comes
/// with that, SIGXFSZ, reaches nobody.
///
/// What the host has set for the signal stays as it is, and is not looked at: it is blocked on this
/// thread alone, to which the system sends it.
pub(crate) fn writing<R>(write: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    let signal = SigSet::from(Signal::SIGXFSZ);
    let before = signal.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let written = write();
    if before.contains(Signal::SIGXFSZ) {
        // The host sees to it.
        return written;
    }
    if written.as_ref().is_err_and(|e| e.raw_os_error() == Some(Errno::EFBIG as i32)) {
        // A file may be too large in other ways, without a signal. One that is sent to ourselves is
        // there in any case, is the same as one that was there before, and so the wait ends at once
        // and takes both.
        let _ = raise(Signal::SIGXFSZ).and_then(|()| signal.wait());
    }
    before.thread_set_mask()?;
    written
}
