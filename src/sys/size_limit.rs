//! Handles the limit of a file's size (`RLIMIT_FSIZE`), at which the system sends a signal that
//! ends a process.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use std::io;

/// Calls `write`, which writes to files. At the limit it fails with `EFBIG`, which
/// [`Error::of_file`](crate::Error::of_file) turns into `DiskFull`. The signal that comes with this
/// error, SIGXFSZ, is not delivered.
///
/// The host's settings for the signal are neither read nor changed. The signal is blocked on this
/// thread alone, because the system sends it to this thread.
pub(crate) fn writing<R>(write: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    let signal = SigSet::from(Signal::SIGXFSZ);
    let before = signal.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let written = write();
    if before.contains(Signal::SIGXFSZ) {
        // The host has blocked the signal itself, and takes care of it.
        return written;
    }
    if written.as_ref().is_err_and(|e| e.raw_os_error() == Some(Errno::EFBIG as i32)) {
        // A file may be too large in other ways, without a signal. So this thread sends the signal
        // to itself. It is then pending in any case, and two pending signals count as one. So the
        // wait ends at once and takes both.
        let _ = raise(Signal::SIGXFSZ).and_then(|()| signal.wait());
    }
    before.thread_set_mask()?;
    written
}
