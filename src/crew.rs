//! Threads that ask vaults and registries which take their time: a crew for each of these, no larger than what it works on
//! at once, so that one that hangs keeps few threads and holds up nobody else.

use crate::crypto::Origin;
use crate::error::Result;
use crate::thread::spawn;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Question = Box<dyn FnOnce() + Send>;

/// Those who have something to do for one vault or registry.
#[derive(Default)]
struct Crew {
    threads: usize,
    /// Questions that wait for a thread, in the order in which they came.
    waiting: BTreeMap<u64, Question>,
}

/// Crews by the address of whom they ask, which the questions hold: as long as there is one, nobody else has it.
type Crews = BTreeMap<usize, Crew>;

/// Each fork within another has the next of these: in its parent's, a thread that is not there may hold the lock.
static CREWS: [Mutex<Crews>; 8] = [const { Mutex::new(Crews::new()) }; 8];

/// Does something with a crew, which is there as long as it has threads or questions.
fn with_crew<R>(whom: usize, act: impl FnOnce(&mut Crew) -> R) -> R {
    let table = &CREWS[Origin::here().depth() % CREWS.len()];
    let mut crews = table.lock().unwrap_or_else(PoisonError::into_inner);
    let crew = crews.entry(whom).or_default();
    let done = act(crew);
    if crew.threads == 0 && crew.waiting.is_empty() {
        crews.remove(&whom);
    }
    done
}

/// A question that was asked. If it still waits for a thread when this is dropped, it is not put any more.
pub(crate) struct Asked {
    whom: usize,
    number: u64,
}

/// Has a question put to a vault or a registry, which the question must hold, and which works on so many at once.
///
/// # Errors
/// `OutOfMemory` if there cannot be a thread.
pub(crate) fn ask<W: ?Sized>(
    whom: &Arc<W>,
    at_once: usize,
    question: impl FnOnce() + Send + 'static,
) -> Result<Asked> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let whom = Arc::as_ptr(whom).addr();
    with_crew(whom, |crew| {
        // It waits for the lock, and then finds the question.
        if crew.threads < at_once.max(1) {
            spawn("curve_tun-errand", move || work(whom))?;
            crew.threads += 1;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        crew.waiting.insert(number, Box::new(question));
        Ok(Asked { whom, number })
    })
}

/// Puts the questions that wait, the first one first, until there are none.
fn work(whom: usize) {
    let next = || {
        with_crew(whom, |crew| {
            let first = crew.waiting.pop_first();
            crew.threads -= usize::from(first.is_none());
            first
        })
    };
    while let Some((_, question)) = next() {
        // A panic is the end of that question alone, and has been reported.
        let _ = catch_unwind(AssertUnwindSafe(question));
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let taken_back = with_crew(self.whom, |crew| crew.waiting.remove(&self.number));
        // What frees a vault with its last question is the host's, and not to be called with the lock held.
        drop(taken_back);
    }
}
