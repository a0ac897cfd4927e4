//! The registry in memory.

use super::rules::Rules;
use super::{Candidate, Place, Registry};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use std::fmt;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A registry in memory: keys, each with the places that it may connect from. It may be changed
/// while servers run.
///
/// A key that is denied ([`Place::Nowhere`]) is not admitted from any address, whatever other
/// entries it has. A key allowed from [`Place::Anywhere`] is admitted from every address. Of the
/// networks that contain an address, the most specific one that has entries decides alone: a key
/// listed for `10.0.0.0/8` is not admitted from `10.1.0.1` if `10.1.0.0/16` has entries and the key
/// is not among them.
///
/// An empty registry admits nobody. A change takes effect at the next handshake; established
/// connections stay. A decision takes microseconds, even with a million entries.
#[derive(Default)]
pub struct MemoryRegistry(RwLock<Rules>);

impl fmt::Debug for MemoryRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRegistry").finish_non_exhaustive()
    }
}

impl MemoryRegistry {
    /// Makes an empty registry, which admits nobody.
    pub fn new() -> MemoryRegistry {
        MemoryRegistry::default()
    }

    /// Adds an entry; adding it again changes nothing. A [`Place`] can be made from an address, a
    /// network or a text.
    pub fn add(&self, place: Place, key: PublicKey) {
        self.write().insert(place, key);
    }

    /// Admits the holder of `key` from anywhere.
    pub fn add_anywhere(&self, key: PublicKey) {
        self.add(Place::Anywhere, key);
    }

    /// Removes the entry that [`MemoryRegistry::add`] added for exactly this place and key.
    ///
    /// # Errors
    /// `NotFound` if there is no such entry.
    pub fn remove(&self, place: Place, key: &PublicKey) -> Result<()> {
        if self.write().remove(place, key) { Ok(()) } else { Err(Error::NotFound) }
    }

    /// Returns the keys that may connect from `address`, in ascending order; empty if there are
    /// none.
    pub fn lookup(&self, address: IpAddr) -> Vec<PublicKey> {
        self.read().admitted(address)
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Returns whether the registry has no entries, and so admits nobody.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read(&self) -> RwLockReadGuard<'_, Rules> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Rules> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FromIterator<(Place, PublicKey)> for MemoryRegistry {
    fn from_iter<I: IntoIterator<Item = (Place, PublicKey)>>(entries: I) -> MemoryRegistry {
        MemoryRegistry(RwLock::new(entries.into_iter().collect()))
    }
}

impl Registry for MemoryRegistry {
    fn verify(&self, candidate: &Candidate) -> Result<bool> {
        Ok(self.read().admit(candidate.address, &candidate.key))
    }
}
