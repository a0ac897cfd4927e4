//! Answers, for as long as they hold.

use super::record::KeyRecord;
use hickory_resolver::proto::rr::Name;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The records at a name; none if there is no such name, or no key at it.
pub(super) type Records = Arc<[KeyRecord]>;

pub(super) struct Cache {
    most: usize,
    answers: Mutex<HashMap<Name, (Records, Instant)>>,
}

impl Cache {
    /// A cache of at most this many names.
    pub(super) fn new(most: usize) -> Cache {
        Cache { most, answers: Mutex::default() }
    }

    pub(super) fn get(&self, name: &Name) -> Option<Records> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, until) = answers.get(name)?;
        (Instant::now() < *until).then(|| records.clone())
    }

    pub(super) fn put(&self, name: Name, records: Records, until: Instant) {
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
            answers.insert(name, (records, until));
        }
    }
}
