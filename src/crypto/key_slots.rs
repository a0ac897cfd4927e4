//! Shared keys that are kept for later, all in one piece of guarded memory.

use super::memory::{Guarded, Secret};
use super::{KEY_BYTES, SharedKey, wipe};
use crate::error::Result;

/// Slots for [`KeySlots::SLOTS`] shared keys.
pub(crate) struct KeySlots(Guarded<{ KeySlots::SLOTS * KEY_BYTES }>);

impl KeySlots {
    /// The number of slots: two kilobytes of keys, which fit into a page.
    pub(crate) const SLOTS: usize = 64;

    /// Makes empty slots.
    pub(crate) fn new() -> Result<KeySlots> {
        Ok(KeySlots(Guarded::new_with(|bytes| {
            bytes.fill(0);
            Ok(())
        })?))
    }

    /// Writes `key` over the content of `slot`, which must be below [`KeySlots::SLOTS`].
    pub(crate) fn put(&mut self, slot: usize, key: &SharedKey) -> Result<()> {
        let start = slot * KEY_BYTES;
        self.0.change(|bytes| bytes[start..start + KEY_BYTES].copy_from_slice(key.0.bytes()))
    }

    /// Overwrites all slots.
    pub(crate) fn wipe(&mut self) -> Result<()> {
        self.0.change(|bytes| wipe(bytes))
    }

    /// Returns a copy of the key in `slot`, for one use.
    pub(crate) fn copy(&self, slot: usize) -> Result<SharedKey> {
        let start = slot * KEY_BYTES;
        let mut key = Secret::zeroed()?;
        key.bytes_mut().copy_from_slice(&self.0.bytes()[start..start + KEY_BYTES]);
        Ok(SharedKey(key))
    }
}
