//! The keys that a vault has agreed with its long-term peers, kept so that a peer that comes again
//! costs no scalar multiplication for its vouch.

use crate::crypto::{KeySlots, PublicKey, SharedKey};
use crate::error::Result;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A small bounded cache in guarded memory. No lock is held while keys are agreed.
#[derive(Default)]
pub(crate) struct SharedKeyCache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Peers and the indices of their keys, the most recently used first.
    peers: Vec<(PublicKey, usize)>,
    /// The keys; `None` until they are first needed.
    keys: Option<KeySlots>,
}

/// The result of looking up a peer: the key agreed with it, or one that opens none of its boxes.
pub(crate) struct Remembered {
    pub shared: SharedKey,
    /// Whether the key is the peer's.
    pub genuine: bool,
}

impl SharedKeyCache {
    /// Returns the key agreed with `peer`, or another in its place, in the same time whether or not
    /// it is remembered, and among however many. Changes nothing: a client that claims to be `peer`
    /// has proven nothing yet.
    pub(crate) fn look_up(&self, peer: &PublicKey) -> Result<Remembered> {
        let mut kept = self.lock();
        let (mut genuine, mut place) = (false, 0);
        // Compares with all of them, whichever it is, and with each to its end.
        for (key, at) in &kept.peers {
            let same = key.is(peer);
            genuine |= same;
            place = if same { *at } else { place };
        }
        let keys = match &mut kept.keys {
            Some(keys) => keys,
            none => none.insert(KeySlots::new()?),
        };
        Ok(Remembered { shared: keys.copy(place)?, genuine })
    }

    /// Records that the key agreed with `peer` was used, by a client that has proven to hold it as
    /// well.
    pub(crate) fn refresh(&self, peer: &PublicKey) {
        let mut kept = self.lock();
        if let Some(at) = kept.peers.iter().position(|(key, _)| key == peer) {
            kept.peers[..=at].rotate_right(1);
        }
    }

    /// Remembers the key agreed with `peer`, which has proven to hold it as well; otherwise
    /// strangers could fill the cache. It replaces the least recently used key.
    pub(crate) fn keep(&self, peer: &PublicKey, shared: &SharedKey) -> Result<()> {
        let mut kept = self.lock();
        let Kept { peers, keys } = &mut *kept;
        let keys = match keys {
            Some(keys) => keys,
            None => keys.insert(KeySlots::new()?),
        };
        // Another connection of the same peer may have been faster.
        if peers.iter().any(|(key, _)| key == peer) {
            return Ok(());
        }
        let place = peers.get(KeySlots::SLOTS - 1).map_or(peers.len(), |(_, place)| *place);
        peers.truncate(KeySlots::SLOTS - 1);
        if let Err(error) = keys.put(place, shared) {
            // The content of the slot is now unknown.
            *kept = Kept::default();
            return Err(error);
        }
        peers.insert(0, (*peer, place));
        Ok(())
    }

    /// Wipes all of them.
    pub(crate) fn forget(&self) {
        let mut kept = self.lock();
        kept.peers.clear();
        let wiped = kept.keys.as_mut().map(KeySlots::wipe);
        if let Some(Err(_)) = wiped {
            // Freeing the memory wipes it, too.
            kept.keys = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
