//! The places of handshakes in flight, shared fairly among the sources that they are for.
//!
//! There are at most so many, and at most so many of one source. A newcomer for whom there is no
//! place gets that of another: of the source that holds most places, the newcomer counted in, the
//! oldest handshake gives way; of several such sources, the one whose oldest is the oldest. So
//! whoever floods from few addresses gives way to himself. Against a flood from more addresses than
//! there are places, a handshake has as long as that many newcomers take to come.

use crate::contain::contain;
use crate::error::{Error, Result};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What shares are counted by: an IPv4 address, or the /64 of an IPv6 address, which is what one
/// subscriber has.
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

/// Tells the driver of a handshake that it has given way.
pub(super) type GiveWay = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Holder {
    /// Its handshakes, the oldest first, and how those that can give way are told.
    places: BTreeMap<u64, Option<GiveWay>>,
}

impl Holder {
    /// The oldest that can give way.
    fn oldest(&self) -> Option<u64> {
        self.places.iter().find(|(_, tell)| tell.is_some()).map(|(number, _)| *number)
    }
}

/// How a source stands when a place is looked for: the last of all gives way.
type Rank = (usize, Reverse<u64>);

pub(super) struct Shares {
    most: usize,
    most_of_one: usize,
    taken: usize,
    next: u64,
    holders: BTreeMap<Source, Holder>,
    /// Every source with a handshake that can give way.
    ranks: BTreeSet<(Rank, Source)>,
}

impl Shares {
    /// `most` places, of which one source has at most `most_of_one`.
    pub(super) fn new(most: u32, most_of_one: u32) -> Shares {
        let [most, most_of_one] = [most, most_of_one].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let (holders, ranks) = (BTreeMap::new(), BTreeSet::new());
        Shares { most, most_of_one, taken: 0, next: 0, holders, ranks }
    }

    /// How many places are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// A place for a newcomer: its number. Another handshake may have to give way, and is told.
    ///
    /// # Errors
    /// `TooManyHandshakes`: the one that should give way cannot.
    pub(super) fn take(&mut self, source: Source) -> Result<u64> {
        if let Some((source, number)) = self.gives_way(source)?
            && let Some(tell) = self.leave(source, number).flatten()
        {
            // A panic in it is not the newcomer's affair.
            let _ = contain(tell);
        }
        let number = self.next;
        self.next += 1;
        self.taken += 1;
        self.change(source, |holder| holder.places.insert(number, None));
        Ok(number)
    }

    /// Who is to give way to a newcomer, if anybody.
    fn gives_way(&self, source: Source) -> Result<Option<(Source, u64)>> {
        let own = self.holders.get(&source);
        let held = own.map_or(0, |own| own.places.len());
        let full = held >= self.most_of_one;
        if !full && self.taken < self.most {
            return Ok(None);
        }
        let own_oldest = own.and_then(Holder::oldest).map(|number| ((held + 1, Reverse(number)), source));
        let others = self.ranks.iter().rfind(|(_, other)| *other != source).copied();
        let last = match others {
            Some(other) if !full && other.0.0 > held => own_oldest.max(Some(other)),
            // The newcomer's source has its share, or holds most.
            _ => own_oldest,
        };
        let ((_, Reverse(number)), source) = last.ok_or(Error::TooManyHandshakes)?;
        Ok(Some((source, number)))
    }

    /// Lets a handshake give way from now on: `tell` is called once when it does, while the shares
    /// are locked.
    pub(super) fn may_give_way(&mut self, source: Source, number: u64, tell: GiveWay) {
        self.change(source, |holder| {
            if let Some(place) = holder.places.get_mut(&number) {
                *place = Some(tell);
            }
        });
    }

    /// Whether a handshake still has its place.
    pub(super) fn has(&self, source: Source, number: u64) -> bool {
        self.holders.get(&source).is_some_and(|holder| holder.places.contains_key(&number))
    }

    /// Gives a place back, and how its handshake would have been told to give way; `None` if it has
    /// given way already.
    pub(super) fn leave(&mut self, source: Source, number: u64) -> Option<Option<GiveWay>> {
        let left = self.change(source, |holder| holder.places.remove(&number))?;
        self.taken -= 1;
        Some(left)
    }

    /// Changes what a source holds, and its rank with it.
    fn change<R>(&mut self, source: Source, change: impl FnOnce(&mut Holder) -> R) -> R {
        let rank = |holder: &Holder| holder.oldest().map(|n| ((holder.places.len(), Reverse(n)), source));
        let holder = self.holders.entry(source).or_default();
        let before = rank(holder);
        let result = change(holder);
        let after = rank(holder);
        if holder.places.is_empty() {
            self.holders.remove(&source);
        }
        if before != after {
            before.map(|rank| self.ranks.remove(&rank));
            after.map(|rank| self.ranks.insert(rank));
        }
        result
    }
}
