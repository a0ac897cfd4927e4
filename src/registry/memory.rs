//! The registry in memory.

use super::{Candidate, Network, Registry};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[derive(Default)]
struct Entries {
    keys: HashMap<Network, Vec<PublicKey>>,
    /// How many networks there are of each prefix length, for IPv4 and IPv6.
    lengths: [BTreeMap<u8, usize>; 2],
}

impl Entries {
    /// The keys of the most specific network that holds `address` and has any.
    fn at(&self, address: IpAddr) -> Option<&[PublicKey]> {
        let address = address.to_canonical();
        let lengths = self.lengths[usize::from(address.is_ipv6())].keys().rev();
        lengths.copied().find_map(|n| self.keys.get(&Network::around(address, n))).map(Vec::as_slice)
    }

    fn lengths_of(&mut self, network: &Network) -> &mut BTreeMap<u8, usize> {
        &mut self.lengths[usize::from(!network.is_ipv4())]
    }
}

/// A registry in memory: networks, each with one or more keys, changed while servers run.
///
/// The most specific network that holds an address decides about it alone: a
/// key listed for `10.0.0.0/8` does not come in from `10.1.0.1` when
/// `10.1.0.0/16` has entries and it is not among them. An empty registry lets
/// nobody in. A change is seen by the next handshake; established connections
/// stay.
#[derive(Default)]
pub struct MemoryRegistry(RwLock<Entries>);

impl MemoryRegistry {
    /// An empty registry, which lets nobody in.
    pub fn new() -> MemoryRegistry {
        MemoryRegistry::default()
    }

    /// Lets the holder of `key` in from `network`; adding an entry again changes nothing.
    pub fn add(&self, network: Network, key: PublicKey) {
        let mut entries = self.write();
        let keys = entries.keys.entry(network).or_default();
        if keys.contains(&key) {
            return;
        }
        keys.push(key);
        if keys.len() == 1 {
            *entries.lengths_of(&network).entry(network.prefix()).or_default() += 1;
        }
    }

    /// Lets the holder of `key` in from anywhere: entries for all of IPv4 and all of IPv6, the least specific ones.
    pub fn add_anywhere(&self, key: PublicKey) {
        self.add(Network::ANY_V4, key);
        self.add(Network::ANY_V6, key);
    }

    /// Takes back exactly what [`MemoryRegistry::add`] added for this network and key.
    ///
    /// # Errors
    /// `NotFound` if there is no such entry.
    pub fn remove(&self, network: Network, key: &PublicKey) -> Result<()> {
        let mut entries = self.write();
        let keys = entries.keys.get_mut(&network).ok_or(Error::NotFound)?;
        let at = keys.iter().position(|k| k == key).ok_or(Error::NotFound)?;
        keys.remove(at);
        if keys.is_empty() {
            entries.keys.remove(&network);
            let lengths = entries.lengths_of(&network);
            if let Some(count) = lengths.get_mut(&network.prefix()) {
                *count -= 1;
            }
            lengths.retain(|_, count| *count > 0);
        }
        Ok(())
    }

    /// The keys that may come in from `address`, in the order in which they were added; none if it is unknown.
    pub fn lookup(&self, address: IpAddr) -> Vec<PublicKey> {
        self.read().at(address).unwrap_or_default().to_vec()
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for MemoryRegistry {
    fn verify(&self, candidate: &Candidate) -> Result<bool> {
        Ok(self.read().at(candidate.address).is_some_and(|keys| keys.contains(&candidate.key)))
    }
}
