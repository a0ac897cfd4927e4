//! Where secrets live: on the heap and wiped, or in guarded pages.

use super::{KEY_BYTES, init, sodium, wipe};
use crate::error::{Error, Result};
use std::ptr::NonNull;

/// Where the 32 bytes of a key are.
pub(crate) trait Memory {
    fn bytes(&self) -> &[u8; KEY_BYTES];
}

impl Memory for Secret<KEY_BYTES> {
    fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.bytes()
    }
}

impl Memory for Guarded<KEY_BYTES> {
    fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.bytes()
    }
}

/// A secret of one connection: on the heap, so that a move copies no secret; wiped when dropped.
pub(crate) struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Zeros, to be filled in place.
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

/// A secret that lives long: in libsodium's guarded memory, read-only once
/// filled, locked where the limit allows it, left out of core dumps, wiped when
/// dropped (`sodium_malloc`, doc.libsodium.org/memory_management).
pub(crate) struct Guarded<const N: usize>(NonNull<[u8; N]>);

// SAFETY: the pages are read-only from the end of `new_with` to `drop`, and owned by this value alone.
unsafe impl<const N: usize> Send for Guarded<N> {}
// SAFETY: as above: shared access only ever reads.
unsafe impl<const N: usize> Sync for Guarded<N> {}

impl<const N: usize> Guarded<N> {
    /// New guarded memory that `fill` fills in place; wiped if it fails.
    pub(crate) fn new_with(fill: impl FnOnce(&mut [u8; N]) -> Result<()>) -> Result<Self> {
        init()?;
        // SAFETY: called after sodium_init; the result is checked.
        let memory = unsafe { sodium::sodium_malloc(N) };
        let guarded = Guarded(NonNull::new(memory.cast::<[u8; N]>()).ok_or(Error::OutOfMemory)?);
        // SAFETY: sodium_malloc gave N writable bytes, aligned for bytes, initialised (to 0xdb), ours alone.
        fill(unsafe { &mut *guarded.0.as_ptr() })?;
        // SAFETY: the pointer came from sodium_malloc, and no reference into the pages is alive.
        match unsafe { sodium::sodium_mprotect_readonly(guarded.0.as_ptr().cast()) } {
            0 => Ok(guarded),
            _ => Err(Error::OutOfMemory),
        }
    }

    /// A copy of `bytes`; the original stays its owner's to wipe.
    pub(crate) fn copy_of(bytes: &[u8; N]) -> Result<Self> {
        Guarded::new_with(|guarded| {
            guarded.copy_from_slice(bytes);
            Ok(())
        })
    }

    pub(crate) fn bytes(&self) -> &[u8; N] {
        // SAFETY: the pages are readable and unchanged until drop.
        unsafe { self.0.as_ref() }
    }
}

impl<const N: usize> Drop for Guarded<N> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from sodium_malloc and is freed once; sodium_free wipes it first.
        unsafe { sodium::sodium_free(self.0.as_ptr().cast()) }
    }
}
