//! What a vault has agreed with its long-term peers, kept so that a peer that
//! comes again costs no scalar multiplication for its vouch.

use crate::crypto::{Guarded, KEY_BYTES, PublicKey, SharedKey};
use crate::error::Result;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// How many peers are remembered; the one that was used longest ago goes first.
const PEERS_MAX: usize = 64;

type Kept = Arc<SharedKey<Guarded<KEY_BYTES>>>;

/// A small bounded cache in guarded memory. No lock is held while keys are agreed.
#[derive(Default)]
pub(crate) struct Agreements(Mutex<VecDeque<(PublicKey, Kept)>>);

impl Agreements {
    /// The key agreed with `peer`, if it is remembered.
    pub(crate) fn get(&self, peer: &PublicKey) -> Option<Kept> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(key, _)| key == peer)?;
        let entry = kept.remove(at)?;
        let shared = entry.1.clone();
        kept.push_front(entry);
        Some(shared)
    }

    /// Remembers the key agreed with `peer`, which has proven to hold it too: else strangers could fill the cache.
    pub(crate) fn keep(&self, peer: &PublicKey, shared: &SharedKey) -> Result<()> {
        let entry = (*peer, Arc::new(shared.guarded()?));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(key, _)| key != peer);
        kept.truncate(PEERS_MAX - 1);
        kept.push_front(entry);
        Ok(())
    }

    /// Wipes all of them.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
