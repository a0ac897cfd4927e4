//! Which process an object was made in.
//!
//! After `fork()` parent and child hold the same counters; if both used them,
//! nonces would repeat. Objects remember their origin and refuse in a child.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks lie between the process that loaded us and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Has every child of this process counted; called once, from `crypto::init`.
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
    /// This process.
    pub(crate) fn here() -> ForkGuard {
        ForkGuard(GENERATION.load(Ordering::Relaxed))
    }

    /// Returns how many forks lie between the process that loaded us and this one.
    #[cfg(any(feature = "net", feature = "nif"))]
    pub(crate) fn generation(self) -> usize {
        self.0 as usize
    }

    /// Returns `Error::Forked` in a child of the process that made this.
    #[inline]
    pub(crate) fn check(self) -> Result<()> {
        if self.0 == GENERATION.load(Ordering::Relaxed) { Ok(()) } else { Err(Error::Forked) }
    }
}
