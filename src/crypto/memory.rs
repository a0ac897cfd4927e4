//! Memory for secrets: on the heap and wiped, or in guarded pages.

use super::{init, sodium, wipe};
use crate::error::{Error, Result};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the system has refused to lock guarded memory.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Returns whether all guarded memory that this process was given so far could be locked, so that
/// no secret in it reaches the swap.
///
/// This is false from the first time that the system refuses (`RLIMIT_MEMLOCK`, a filter of system
/// calls); everything works all the same. It is true before the first secret.
pub fn memory_locked() -> bool {
    !REFUSED.load(Ordering::Relaxed)
}

/// A secret of one connection. It is on the heap, so that a move copies no secret, and is wiped
/// when dropped.
pub(crate) struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Makes a secret of zeros, to be filled in place.
    pub(crate) fn zeroed() -> Result<Self> {
        init()?;
        Ok(Secret(Box::new([0; N])))
    }

    pub(crate) fn bytes(&self) -> &[u8; N] {
        &self.0
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        wipe(&mut *self.0);
    }
}

/// A secret that lives long, in libsodium's guarded memory. The memory is read-only except while it
/// is filled or changed, locked where the limit allows it, left out of core dumps, and wiped when
/// dropped (`sodium_malloc`, doc.libsodium.org/memory_management).
pub(crate) struct Guarded<const N: usize>(NonNull<[u8; N]>);

// SAFETY: the pages are owned by this value alone, and written only by who has it exclusively.
unsafe impl<const N: usize> Send for Guarded<N> {}
// SAFETY: as above: shared access only ever reads.
unsafe impl<const N: usize> Sync for Guarded<N> {}

impl<const N: usize> Guarded<N> {
    /// Makes guarded memory that `fill` fills in place. If `fill` fails, the memory is wiped.
    pub(crate) fn new_with(fill: impl FnOnce(&mut [u8; N]) -> Result<()>) -> Result<Self> {
        init()?;
        // SAFETY: called after sodium_init; the result is checked.
        let memory = unsafe { sodium::sodium_malloc(N) };
        let guarded = Guarded(NonNull::new(memory.cast::<[u8; N]>()).ok_or(Error::OutOfMemory)?);
        // sodium_malloc does not tell whether it could lock the pages. Locking them again does, and
        // changes nothing.
        // SAFETY: N bytes of ours.
        if unsafe { sodium::sodium_mlock(memory, N) } != 0 {
            REFUSED.store(true, Ordering::Relaxed);
        }
        // SAFETY: sodium_malloc gave N writable bytes, aligned for bytes, initialised (to 0xdb),
        // ours alone.
        fill(unsafe { &mut *guarded.0.as_ptr() })?;
        // SAFETY: the pointer came from sodium_malloc, and no reference into the pages is alive.
        match unsafe { sodium::sodium_mprotect_readonly(guarded.0.as_ptr().cast()) } {
            0 => Ok(guarded),
            _ => Err(Error::OutOfMemory),
        }
    }

    /// Returns a guarded copy of `bytes`. The owner of the original wipes it.
    pub(crate) fn copy_of(bytes: &[u8; N]) -> Result<Self> {
        Guarded::new_with(|guarded| {
            guarded.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// Makes the pages writable while `change` runs.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut [u8; N])) -> Result<()> {
        // SAFETY: the pointer came from sodium_malloc.
        if unsafe { sodium::sodium_mprotect_readwrite(self.0.as_ptr().cast()) } != 0 {
            return Err(Error::OutOfMemory);
        }
        // SAFETY: N bytes, writable now, and by `&mut self` ours alone.
        change(unsafe { self.0.as_mut() });
        // SAFETY: as above; no reference into the pages is alive.
        match unsafe { sodium::sodium_mprotect_readonly(self.0.as_ptr().cast()) } {
            0 => Ok(()),
            _ => Err(Error::OutOfMemory),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8; N] {
        // SAFETY: the pages are readable until drop, and unchanged while they are borrowed.
        unsafe { self.0.as_ref() }
    }
}

impl<const N: usize> Drop for Guarded<N> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from sodium_malloc and is freed once; sodium_free wipes it
        // first.
        unsafe { sodium::sodium_free(self.0.as_ptr().cast()) }
    }
}
