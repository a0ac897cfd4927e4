//! Shared keys that are kept, all in one piece of guarded memory.

use super::memory::{Guarded, Secret};
use super::{KEY_BYTES, SharedKey, wipe};
use crate::error::Result;

/// Places for [`KeptKeys::PLACES`] shared keys.
pub(crate) struct KeptKeys(Guarded<{ KeptKeys::PLACES * KEY_BYTES }>);

impl KeptKeys {
    /// How many there are: two kilobytes of keys, which fit a page.
    pub(crate) const PLACES: usize = 64;

    /// Empty places.
    pub(crate) fn new() -> Result<KeptKeys> {
        Ok(KeptKeys(Guarded::new_with(|bytes| {
            bytes.fill(0);
            Ok(())
        })?))
    }

    /// Writes `key` over what is in `place`, which is below [`KeptKeys::PLACES`].
    pub(crate) fn put(&mut self, place: usize, key: &SharedKey) -> Result<()> {
        let start = place * KEY_BYTES;
        self.0.change(|bytes| bytes[start..start + KEY_BYTES].copy_from_slice(key.0.bytes()))
    }

    /// Overwrites all places.
    pub(crate) fn wipe(&mut self) -> Result<()> {
        self.0.change(|bytes| wipe(bytes))
    }

    /// A copy of the key in `place`, for one use.
    pub(crate) fn copy(&self, place: usize) -> Result<SharedKey> {
        let start = place * KEY_BYTES;
        let mut key = Secret::zeroed()?;
        key.bytes_mut().copy_from_slice(&self.0.bytes()[start..start + KEY_BYTES]);
        Ok(SharedKey(key))
    }
}
