//! A cache of answers, each kept for as long as it holds.

use super::proof::Found;
use super::record::KeyRecord;
use super::validity::{Validity, now};
use hickory_resolver::proto::rr::Name;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the answer that a name has no key is kept. A new key may stay unseen for that long.
const NEGATIVE_TTL: Duration = Duration::from_secs(10);

/// The records at a name; empty if there is no such name, or no key at it.
pub(super) type Records = Arc<[KeyRecord]>;

struct Held {
    records: Records,
    until: Instant,
    /// The validity by the wall clock: that of the signatures that proved the answer, and of its
    /// TTL. It keeps a machine that slept, or whose clock was set, from using an answer for too
    /// long.
    validity: Validity,
}

impl Held {
    fn holds(&self, now: (Instant, u64)) -> bool {
        now.0 < self.until && self.validity.holds(now.1)
    }
}

pub(super) struct Cache {
    most: usize,
    ttl_max: Duration,
    answers: Mutex<HashMap<Name, Held>>,
}

impl Cache {
    /// Makes a cache of at most this many names, each kept for its TTL, but for no longer than
    /// `ttl_max`.
    pub(super) fn new(most: usize, ttl_max: Duration) -> Cache {
        Cache { most, ttl_max, answers: Mutex::default() }
    }

    pub(super) fn get(&self, name: &Name) -> Option<Records> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let held = answers.get(name)?;
        held.holds((Instant::now(), now())).then(|| held.records.clone())
    }

    /// Adds what was found to the cache, and returns its records.
    pub(super) fn put(&self, name: Name, found: Found) -> Records {
        let records: Records = found.records.into();
        let most = if records.is_empty() { self.ttl_max.min(NEGATIVE_TTL) } else { self.ttl_max };
        let ttl = found.ttl.min(most);
        let now = (Instant::now(), now());
        let validity = found.validity.until(now.1.saturating_add(ttl.as_secs()));
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= self.most && !answers.contains_key(&name) {
            answers.retain(|_, held| held.holds(now));
            // All of them still hold, so any one is removed.
            if answers.len() >= self.most
                && let Some(one) = answers.keys().next().cloned()
            {
                answers.remove(&one);
            }
        }
        if self.most > 0 {
            answers.insert(name, Held { records: records.clone(), until: now.0 + ttl, validity });
        }
        records
    }
}
