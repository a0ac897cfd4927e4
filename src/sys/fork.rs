//! The fork guard, which refuses a parent's objects in a forked child.
//!
//! After `fork()`, parent and child hold the same counters. If both used them, nonces would repeat.
//! So objects remember the process in which they were made, and fail in a child of it.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks lie between the process that loaded this library and the current one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Installs the handler that counts each child of this process; called once, from `crypto::init`.
pub(crate) fn watch_forks() -> Result<()> {
    // SAFETY: the handler is async-signal-safe (one atomic add) and lives as long as this code is
    // loaded; the C library forgets it when the code is unloaded.
    match unsafe { libc::pthread_atfork(None, None, Some(in_child)) } {
        0 => Ok(()),
        _ => Err(Error::OutOfMemory),
    }
}

/// The process in which an object was made.
#[derive(Clone, Copy)]
pub(crate) struct ForkGuard(u32);

impl ForkGuard {
    /// Returns the guard of the current process.
    pub(crate) fn here() -> ForkGuard {
        ForkGuard(GENERATION.load(Ordering::Relaxed))
    }

    /// Returns how many forks lie between the process that loaded this library and the process of
    /// this guard.
    #[cfg(any(feature = "net", feature = "nif"))]
    pub(crate) fn generation(self) -> usize {
        self.0 as usize
    }

    /// Returns `Error::Forked` in a child of the process in which this guard was made.
    #[inline]
    pub(crate) fn check(self) -> Result<()> {
        if self.0 == GENERATION.load(Ordering::Relaxed) { Ok(()) } else { Err(Error::Forked) }
    }
}
