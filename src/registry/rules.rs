//! The index of entries by which the registries in memory and in a file decide.

use super::{Network, Place};
use crate::crypto::{KEY_BYTES, PublicKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const LEAST: PublicKey = PublicKey([0; KEY_BYTES]);
const GREATEST: PublicKey = PublicKey([u8::MAX; KEY_BYTES]);

/// Which key may connect from where.
///
/// A decision takes at most one search in the index for each prefix length that occurs, however
/// many entries there are.
#[derive(Default)]
pub(super) struct Rules {
    networks: BTreeSet<(Network, PublicKey)>,
    /// How many entries of each prefix length there are, for IPv4 and for IPv6.
    lengths: [BTreeMap<u8, usize>; 2],
    anywhere: BTreeSet<PublicKey>,
    nowhere: BTreeSet<PublicKey>,
}

impl Rules {
    /// Adds an entry, and returns whether it is new.
    pub(super) fn insert(&mut self, place: Place, key: PublicKey) -> bool {
        match place {
            Place::Anywhere => self.anywhere.insert(key),
            Place::Nowhere => self.nowhere.insert(key),
            Place::Network(network) => {
                let new = self.networks.insert((network, key));
                if new {
                    *self.count_of(&network) += 1;
                }
                new
            }
        }
    }

    /// Removes an entry, and returns whether there was one.
    pub(super) fn remove(&mut self, place: Place, key: &PublicKey) -> bool {
        match place {
            Place::Anywhere => self.anywhere.remove(key),
            Place::Nowhere => self.nowhere.remove(key),
            Place::Network(network) => {
                let known = self.networks.remove(&(network, *key));
                if known {
                    *self.count_of(&network) -= 1;
                    self.lengths[usize::from(!network.is_ipv4())].retain(|_, count| *count > 0);
                }
                known
            }
        }
    }

    fn count_of(&mut self, network: &Network) -> &mut usize {
        self.lengths[usize::from(!network.is_ipv4())].entry(network.prefix()).or_default()
    }

    /// Returns whether the holder of `key` may connect from `address`.
    pub(super) fn admit(&self, address: IpAddr, key: &PublicKey) -> bool {
        if self.denies(key) {
            return false;
        }
        self.anywhere.contains(key)
            || self.decisive(address).is_some_and(|network| self.networks.contains(&(network, *key)))
    }

    /// Returns whether the key is denied.
    pub(super) fn denies(&self, key: &PublicKey) -> bool {
        self.nowhere.contains(key)
    }

    /// Returns the keys that are denied.
    pub(super) fn denied(self) -> BTreeSet<PublicKey> {
        self.nowhere
    }

    /// Returns the keys that may connect from `address`, in ascending order.
    pub(super) fn admitted(&self, address: IpAddr) -> Vec<PublicKey> {
        let mut keys: Vec<_> = self.anywhere.iter().copied().collect();
        if let Some(network) = self.decisive(address) {
            keys.extend(self.networks.range((network, LEAST)..=(network, GREATEST)).map(|(_, key)| *key));
        }
        keys.retain(|key| !self.nowhere.contains(key));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Returns the most specific network that contains `address` and has entries.
    fn decisive(&self, address: IpAddr) -> Option<Network> {
        let address = address.to_canonical();
        let lengths = self.lengths[usize::from(address.is_ipv6())].keys().rev();
        lengths
            .map(|length| Network::around(address, *length))
            .find(|network| self.networks.range((*network, LEAST)..=(*network, GREATEST)).next().is_some())
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.networks.len() + self.anywhere.len() + self.nowhere.len()
    }
}

impl FromIterator<(Place, PublicKey)> for Rules {
    /// Sorts all entries once, which is several times as fast as inserting them one by one.
    fn from_iter<I: IntoIterator<Item = (Place, PublicKey)>>(entries: I) -> Rules {
        let mut rules = Rules::default();
        let mut networks = Vec::new();
        for (place, key) in entries {
            match place {
                Place::Network(network) => networks.push((network, key)),
                _ => drop(rules.insert(place, key)),
            }
        }
        rules.networks = networks.into_iter().collect();
        for (network, _) in &rules.networks {
            *rules.lengths[usize::from(!network.is_ipv4())].entry(network.prefix()).or_default() += 1;
        }
        rules
    }
}
