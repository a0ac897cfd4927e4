//! Answers, for as long as they hold.

use super::record::KeyRecord;
use super::worker::Found;
use hickory_resolver::proto::rr::Name;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long it is held that a name has no key: so long may a new one stay unseen.
const NEGATIVE_TTL: Duration = Duration::from_secs(10);

/// The records at a name; none if there is no such name, or no key at it.
pub(super) type Records = Arc<[KeyRecord]>;

pub(super) struct Cache {
    most: usize,
    ttl_max: Duration,
    answers: Mutex<HashMap<Name, (Records, Instant)>>,
}

impl Cache {
    /// A cache of at most this many names, each held for its TTL, but not for longer than `ttl_max`.
    pub(super) fn new(most: usize, ttl_max: Duration) -> Cache {
        Cache { most, ttl_max, answers: Mutex::default() }
    }

    pub(super) fn get(&self, name: &Name) -> Option<Records> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, until) = answers.get(name)?;
        (Instant::now() < *until).then(|| records.clone())
    }

    /// Holds what was found, and gives it.
    pub(super) fn put(&self, name: Name, found: Found) -> Records {
        let records: Records = found.records.into();
        let most = if records.is_empty() { self.ttl_max.min(NEGATIVE_TTL) } else { self.ttl_max };
        let most = Instant::now() + most;
        let until = found.until.map_or(most, |until| until.min(most));
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= self.most && !answers.contains_key(&name) {
            let now = Instant::now();
            answers.retain(|_, (_, until)| now < *until);
            // All hold still: any one gives way.
            if answers.len() >= self.most
                && let Some(one) = answers.keys().next().cloned()
            {
                answers.remove(&one);
            }
        }
        if self.most > 0 {
            answers.insert(name, (records.clone(), until));
        }
        records
    }
}
