//! The limit of handshakes in flight, shared fairly among the sources that they come from.
//!
//! There is a limit on all permits, and one on those of a single source. When no permit is left, a
//! new handshake takes that of another, which is evicted: the oldest handshake of the source that
//! holds the most permits, counting the new one. Of several such sources, it is the one whose
//! oldest handshake is the oldest. So a flood from few addresses evicts only its own handshakes. In
//! a flood from more addresses than there are permits, a handshake has as long as it takes for that
//! many new ones to arrive.

use crate::contain::contain;
use crate::error::{Error, Result};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What permits are counted by: an IPv4 address, or the /64 of an IPv6 address, which is what a
/// subscriber is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(address) => Source::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Source::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// Tells the driver of a handshake that it was evicted.
pub(super) type OnEvict = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Holder {
    /// Its handshakes, the oldest first, with the callbacks of those that can be evicted.
    permits: BTreeMap<u64, Option<OnEvict>>,
}

impl Holder {
    /// Returns the oldest handshake that can be evicted.
    fn oldest(&self) -> Option<u64> {
        self.permits.iter().find(|(_, tell)| tell.is_some()).map(|(number, _)| *number)
    }
}

/// The rank of a source when a permit is needed: the highest of all loses one.
type Rank = (usize, Reverse<u64>);

pub(super) struct Limiter {
    most: usize,
    most_of_one: usize,
    taken: usize,
    next: u64,
    holders: BTreeMap<Source, Holder>,
    /// Every source with a handshake that can be evicted.
    ranks: BTreeSet<(Rank, Source)>,
}

impl Limiter {
    /// Returns a limiter of `most` permits, of which one source has at most `most_of_one`.
    pub(super) fn new(most: u32, most_of_one: u32) -> Limiter {
        let [most, most_of_one] = [most, most_of_one].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let (holders, ranks) = (BTreeMap::new(), BTreeSet::new());
        Limiter { most, most_of_one, taken: 0, next: 0, holders, ranks }
    }

    /// Returns how many permits are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Takes a permit for a new handshake, and returns its number. Another handshake may be evicted
    /// for it, whose driver is told.
    ///
    /// # Errors
    /// `TooManyHandshakes`: the handshake that should be evicted cannot be.
    pub(super) fn take(&mut self, source: Source) -> Result<u64> {
        if let Some((source, number)) = self.to_evict(source)?
            && let Some(tell) = self.leave(source, number).flatten()
        {
            // A panic in it must not fail the new handshake.
            let _ = contain(tell);
        }
        let number = self.next;
        self.next += 1;
        self.taken += 1;
        self.change(source, |holder| holder.permits.insert(number, None));
        Ok(number)
    }

    /// Returns the handshake to evict for a new one, if any.
    fn to_evict(&self, source: Source) -> Result<Option<(Source, u64)>> {
        let own = self.holders.get(&source);
        let held = own.map_or(0, |own| own.permits.len());
        let full = held >= self.most_of_one;
        if !full && self.taken < self.most {
            return Ok(None);
        }
        let own_oldest = own.and_then(Holder::oldest).map(|number| ((held + 1, Reverse(number)), source));
        let others = self.ranks.iter().rfind(|(_, other)| *other != source).copied();
        let last = match others {
            Some(other) if !full && other.0.0 > held => own_oldest.max(Some(other)),
            // The new handshake's source is at its own limit, or holds the most.
            _ => own_oldest,
        };
        let ((_, Reverse(number)), source) = last.ok_or(Error::TooManyHandshakes)?;
        Ok(Some((source, number)))
    }

    /// Lets a handshake be evicted from now on: when it is, `tell` is called once, with the limiter
    /// locked.
    pub(super) fn on_evict(&mut self, source: Source, number: u64, tell: OnEvict) {
        self.change(source, |holder| {
            if let Some(permit) = holder.permits.get_mut(&number) {
                *permit = Some(tell);
            }
        });
    }

    /// Returns whether a handshake still has its permit.
    pub(super) fn has(&self, source: Source, number: u64) -> bool {
        self.holders.get(&source).is_some_and(|holder| holder.permits.contains_key(&number))
    }

    /// Gives a permit back, and returns its handshake's callback, if it had one; `None` if the
    /// handshake was evicted.
    pub(super) fn leave(&mut self, source: Source, number: u64) -> Option<Option<OnEvict>> {
        let left = self.change(source, |holder| holder.permits.remove(&number))?;
        self.taken -= 1;
        Some(left)
    }

    /// Changes what a source holds, and updates its rank.
    fn change<R>(&mut self, source: Source, change: impl FnOnce(&mut Holder) -> R) -> R {
        let rank = |holder: &Holder| holder.oldest().map(|n| ((holder.permits.len(), Reverse(n)), source));
        let holder = self.holders.entry(source).or_default();
        let before = rank(holder);
        let result = change(holder);
        let after = rank(holder);
        if holder.permits.is_empty() {
            self.holders.remove(&source);
        }
        if before != after {
            before.map(|rank| self.ranks.remove(&rank));
            after.map(|rank| self.ranks.insert(rank));
        }
        result
    }
}
