//! Threads that ask vaults and registries which take their time: a crew for each of these, no larger than what it works on
//! at once, so that one that hangs keeps few threads and holds up nobody else.
//!
//! The sources for which there are questions take turns, one question each, so that those of one address do not stand
//! before everybody's. A question whose handshake has ended is not put any more; a call that has begun cannot be ended,
//! and counts against its source: with half of the crew in calls that nobody waits for, a source has no turn. So what
//! waits is no more than the handshakes in flight, and whoever has his handshakes end early keeps no more than half of
//! the crew from others.

use crate::connection::Source;
use crate::contain::contain;
use crate::crypto::Origin;
use crate::error::Result;
use crate::thread::spawn;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Question = Box<dyn FnOnce() + Send>;

/// Whom a question is for. Those of this process's own clients, which trust each other, are all for `None`.
type For = Option<Source>;

/// What there is to do for one source.
#[derive(Default)]
struct Line {
    /// When it has its turn, among those of the crew; `None` while nothing waits.
    turn: Option<u64>,
    /// Questions that wait, in the order in which they came.
    waiting: BTreeMap<u64, Question>,
    /// Calls that nobody waits for any more.
    abandoned: usize,
}

/// Those who have something to do for one vault or registry.
#[derive(Default)]
struct Crew {
    threads: usize,
    at_once: usize,
    next_turn: u64,
    lines: BTreeMap<For, Line>,
    /// Every line in which a question waits, by its turn.
    turns: BTreeMap<u64, For>,
    /// Calls that have begun, and whom they are for; those in `abandoned` are no longer here.
    calls: BTreeMap<u64, For>,
}

impl Crew {
    fn push(&mut self, source: For, number: u64, question: Question) {
        let line = self.lines.entry(source).or_default();
        line.waiting.insert(number, question);
        if line.waiting.len() == 1 {
            self.move_to_end(source);
        }
    }

    /// Has a source in whose line a question waits stand behind all others that are there.
    fn move_to_end(&mut self, source: For) {
        if let Some(line) = self.lines.get_mut(&source).filter(|line| !line.waiting.is_empty()) {
            if let Some(before) = line.turn.replace(self.next_turn) {
                self.turns.remove(&before);
            }
            self.turns.insert(self.next_turn, source);
            self.next_turn += 1;
        }
    }

    /// Whose turn it is.
    fn next(&self) -> Option<For> {
        let most = (self.at_once / 2).max(1);
        let may = |source: &For| {
            source.is_none() || self.lines.get(source).is_some_and(|line| line.abandoned < most)
        };
        self.turns.values().copied().find(may)
    }

    /// Whether another thread would find something to do, and there may be one.
    fn lacks_thread(&self) -> bool {
        self.threads < self.at_once && self.next().is_some()
    }

    /// Takes the next question: its call begins. Its source goes to the end of those that take turns, and again when the
    /// call has ended: whoever came meanwhile stands before its next question.
    fn begin(&mut self) -> Option<(u64, For, Question)> {
        let source = self.next()?;
        let number = *self.lines.get(&source)?.waiting.first_key_value()?.0;
        let question = self.remove(source, number)?;
        self.move_to_end(source);
        self.calls.insert(number, source);
        Some((number, source, question))
    }

    /// Takes a question out of a line.
    fn remove(&mut self, source: For, number: u64) -> Option<Question> {
        let line = self.lines.get_mut(&source)?;
        let question = line.waiting.remove(&number)?;
        if line.waiting.is_empty()
            && let Some(turn) = line.turn.take()
        {
            self.turns.remove(&turn);
        }
        self.forget_idle(source);
        Some(question)
    }

    fn end(&mut self, number: u64, source: For) {
        let awaited = self.calls.remove(&number).is_some();
        if let Some(line) = self.lines.get_mut(&source).filter(|_| !awaited) {
            line.abandoned -= 1;
        }
        self.move_to_end(source);
        self.forget_idle(source);
    }

    /// Nobody waits any more: gives the question back if it has not been put.
    fn abandon(&mut self, number: u64, source: For) -> Option<Question> {
        if self.calls.remove(&number).is_some() {
            self.lines.entry(source).or_default().abandoned += 1;
        }
        self.remove(source, number)
    }

    fn forget_idle(&mut self, source: For) {
        if self.lines.get(&source).is_some_and(|line| line.waiting.is_empty() && line.abandoned == 0) {
            self.lines.remove(&source);
        }
    }
}

/// Crews by the address of whom they ask, which the questions hold: as long as there is one, nobody else has it.
type Crews = BTreeMap<usize, Crew>;

/// Each fork within another has the next of these: in its parent's, a thread that is not there may hold the lock.
static CREWS: [Mutex<Crews>; 8] = [const { Mutex::new(Crews::new()) }; 8];

/// Does something with a crew, which is there as long as it has threads; and it has some while a question waits.
fn with_crew<R>(whom: usize, act: impl FnOnce(&mut Crew) -> R) -> R {
    let table = &CREWS[Origin::here().depth() % CREWS.len()];
    let mut crews = table.lock().unwrap_or_else(PoisonError::into_inner);
    let crew = crews.entry(whom).or_default();
    let done = act(crew);
    if crew.threads == 0 {
        crews.remove(&whom);
    }
    done
}

/// A question that was asked. When this is dropped it is not put any more, if it still waits for its turn.
pub(crate) struct Asked {
    whom: usize,
    number: u64,
    source: For,
}

/// Has a question put to a vault or a registry, which the question must hold, and which works on so many at once.
/// `source` is the client that it is asked for; `None` asks for a client of our own.
///
/// # Errors
/// `TooManyThreads` if there cannot be a thread, and there is none that will come to it.
pub(crate) fn ask<W: ?Sized>(
    whom: &Arc<W>,
    at_once: usize,
    source: Option<Source>,
    question: impl FnOnce() + Send + 'static,
) -> Result<Asked> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let whom = Arc::as_ptr(whom).addr();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let asked = Asked { whom, number, source };
    let hired = with_crew(whom, |crew| {
        crew.at_once = at_once.max(1);
        crew.push(source, number, Box::new(question));
        let hired = if crew.lacks_thread() { hire(crew, whom) } else { Ok(()) };
        // The threads that there are take it in its turn.
        if crew.threads > 0 { Ok(()) } else { hired.map_err(|error| (error, crew.abandon(number, source))) }
    });
    // What was not asked goes here, where the lock is not held.
    hired.map(|()| asked).map_err(|(error, _)| error)
}

/// Another thread, which waits for the lock, and then finds its question.
fn hire(crew: &mut Crew, whom: usize) -> Result<()> {
    spawn("curve_tun-errand", move || work(whom))?;
    crew.threads += 1;
    Ok(())
}

/// Puts the questions that wait, in their turns, until there are none.
fn work(whom: usize) {
    let mut done = None;
    loop {
        let begun = with_crew(whom, |crew| {
            if let Some((number, source)) = done.take() {
                crew.end(number, source);
            }
            let begun = crew.begin();
            if begun.is_none() {
                crew.threads -= 1;
            } else if crew.lacks_thread() {
                // If there cannot be one, those that there are do it.
                let _ = hire(crew, whom);
            }
            begun
        });
        let Some((number, source, question)) = begun else { return };
        // A panic is the end of that question alone, and has been reported.
        let _ = contain(question);
        done = Some((number, source));
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let taken_back = with_crew(self.whom, |crew| crew.abandon(self.number, self.source));
        // What frees a vault with its last question is the host's, and not to be called with the lock held.
        drop(taken_back);
    }
}

#[cfg(test)]
mod tests {
    use super::{Crew, For};
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn whoever_comes_before_a_first_call_has_begun_takes_nobodys_turn() {
        let source = |last| -> For { Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)).into()) };
        let mut crew = Crew { at_once: 2, ..Crew::default() };
        for number in 0..4 {
            crew.push(source(number), number.into(), Box::new(|| {}));
        }
        let begun: Vec<_> = std::iter::from_fn(|| crew.begin()).map(|(number, ..)| number).collect();
        assert_eq!(begun, [0, 1, 2, 3]);
    }
}
