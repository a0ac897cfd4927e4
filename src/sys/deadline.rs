//! Deadlines, and waiting for file descriptors until a deadline.

use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollTimeout, poll};
#[cfg(feature = "net")]
use parking_lot::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The time by which a call has to end; `None` means never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline(Option<Instant>);

#[cfg_attr(not(feature = "net"), allow(dead_code, reason = "the agent's vault alone has deadlines then"))]
impl Deadline {
    pub(crate) fn after(timeout: Option<Duration>) -> Deadline {
        // A time too far away to be represented is treated as never.
        Deadline(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    pub(crate) fn after_ms(ms: u64) -> Deadline {
        Deadline::after(Some(Duration::from_millis(ms)))
    }

    /// Returns the earlier of two deadlines.
    pub(crate) fn min(self, other: Deadline) -> Deadline {
        Deadline(match (self.0, other.0) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        })
    }

    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }

    /// Returns whether less than `time` is left.
    pub(crate) fn is_before(self, time: Duration) -> bool {
        self.remaining().is_some_and(|left| left < time)
    }

    /// Returns `Timeout` if the deadline has passed.
    pub(crate) fn check(self) -> Result<()> {
        if self.has_passed() { Err(Error::Timeout) } else { Ok(()) }
    }

    /// Returns the time that is left; `Timeout` if there is none.
    pub(crate) fn left(self) -> Result<Duration> {
        let left = self.remaining().unwrap_or(Duration::MAX);
        if left.is_zero() { Err(Error::Timeout) } else { Ok(left) }
    }

    /// Returns the time that is left, in the form that the waits of the standard library take.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn instant(self) -> Option<Instant> {
        self.0
    }

    /// Returns the time that is left in whole milliseconds, rounded up so that a wait never ends
    /// early.
    fn poll_timeout(self) -> PollTimeout {
        let Some(left) = self.remaining() else { return PollTimeout::NONE };
        let ms = left.as_micros().div_ceil(1000);
        i32::try_from(ms).ok().and_then(|ms| PollTimeout::try_from(ms).ok()).unwrap_or(PollTimeout::MAX)
    }

    /// Waits until one of `fds` is ready, and returns true. Returns false if the deadline passes
    /// before.
    pub(crate) fn wait(self, fds: &mut [PollFd]) -> Result<bool> {
        loop {
            match poll(fds, self.poll_timeout()) {
                Ok(0) if self.has_passed() => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(Error::of_socket(&errno.into())),
            }
        }
    }

    /// Locks `mutex`; returns `Timeout` if the deadline passes before.
    #[cfg(feature = "net")]
    pub(crate) fn lock<T>(self, mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
        match self.0 {
            None => Ok(mutex.lock()),
            Some(end) => mutex.try_lock_until(end).ok_or(Error::Timeout),
        }
    }
}
