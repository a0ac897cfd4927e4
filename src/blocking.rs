//! Threads that ask vaults and registries which take their time: a pool for each of these, no
//! larger than what it works on at once, so that one that hangs keeps few threads and holds up
//! nobody else.
//!
//! The sources for which there are tasks take turns, one task each, so that those of one address do
//! not stand before everybody's. A task whose handshake has ended is not put any more; a call that
//! has begun cannot be ended, and counts against its source: with half of the pool in calls that
//! nobody waits for, a source has no turn. So what waits is no more than the handshakes in flight,
//! and whoever has his handshakes end early keeps no more than half of the pool from others.

use crate::connection::Source;
use crate::contain::contain;
use crate::crypto::ForkGuard;
use crate::error::Result;
use crate::thread;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Task = Box<dyn FnOnce() + Send>;

/// Whom a task is for. Those of this process's own clients, which trust each other, are all for
/// `None`.
type For = Option<Source>;

/// What there is to do for one source.
#[derive(Default)]
struct SourceQueue {
    /// When it has its turn, among those of the pool; `None` while nothing waits.
    turn: Option<u64>,
    /// Tasks that wait, in the order in which they came.
    waiting: BTreeMap<u64, Task>,
    /// Calls that nobody waits for any more.
    abandoned: usize,
}

/// Those who have something to do for one vault or registry.
#[derive(Default)]
struct Pool {
    threads: usize,
    at_once: usize,
    next_turn: u64,
    queues: BTreeMap<For, SourceQueue>,
    /// Every queue in which a task waits, by its turn.
    turns: BTreeMap<u64, For>,
    /// Calls that have begun, and whom they are for; those in `abandoned` are no longer here.
    calls: BTreeMap<u64, For>,
}

impl Pool {
    fn push(&mut self, source: For, number: u64, task: Task) {
        let queue = self.queues.entry(source).or_default();
        queue.waiting.insert(number, task);
        if queue.waiting.len() == 1 {
            self.move_to_end(source);
        }
    }

    /// Has a source in whose queue a task waits stand behind all others that are there.
    fn move_to_end(&mut self, source: For) {
        if let Some(queue) = self.queues.get_mut(&source).filter(|queue| !queue.waiting.is_empty()) {
            if let Some(before) = queue.turn.replace(self.next_turn) {
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
            source.is_none() || self.queues.get(source).is_some_and(|queue| queue.abandoned < most)
        };
        self.turns.values().copied().find(may)
    }

    /// Whether another thread would find something to do, and there may be one.
    fn lacks_thread(&self) -> bool {
        self.threads < self.at_once && self.next().is_some()
    }

    /// Takes the next task: its call begins. Its source goes to the end of those that take turns,
    /// and again when the call has ended: whoever came meanwhile stands before its next task.
    fn begin(&mut self) -> Option<(u64, For, Task)> {
        let source = self.next()?;
        let number = *self.queues.get(&source)?.waiting.first_key_value()?.0;
        let task = self.remove(source, number)?;
        self.move_to_end(source);
        self.calls.insert(number, source);
        Some((number, source, task))
    }

    /// Takes a task out of a queue.
    fn remove(&mut self, source: For, number: u64) -> Option<Task> {
        let queue = self.queues.get_mut(&source)?;
        let task = queue.waiting.remove(&number)?;
        if queue.waiting.is_empty()
            && let Some(turn) = queue.turn.take()
        {
            self.turns.remove(&turn);
        }
        self.forget_idle(source);
        Some(task)
    }

    fn end(&mut self, number: u64, source: For) {
        let awaited = self.calls.remove(&number).is_some();
        if let Some(queue) = self.queues.get_mut(&source).filter(|_| !awaited) {
            queue.abandoned -= 1;
        }
        self.move_to_end(source);
        self.forget_idle(source);
    }

    /// Nobody waits any more: gives the task back if it has not been put.
    fn abandon(&mut self, number: u64, source: For) -> Option<Task> {
        if self.calls.remove(&number).is_some() {
            self.queues.entry(source).or_default().abandoned += 1;
        }
        self.remove(source, number)
    }

    fn forget_idle(&mut self, source: For) {
        if self.queues.get(&source).is_some_and(|queue| queue.waiting.is_empty() && queue.abandoned == 0) {
            self.queues.remove(&source);
        }
    }
}

/// Pools by the address of whom they ask, which the tasks hold: as long as there is one, nobody
/// else has it.
type Pools = BTreeMap<usize, Pool>;

/// Each fork within another has the next of these: in its parent's, a thread that is not there may
/// hold the lock.
static POOLS: [Mutex<Pools>; 8] = [const { Mutex::new(Pools::new()) }; 8];

/// Does something with a pool, which is there as long as it has threads; and it has some while a
/// task waits.
fn with_pool<R>(whom: usize, act: impl FnOnce(&mut Pool) -> R) -> R {
    let table = &POOLS[ForkGuard::here().generation() % POOLS.len()];
    let mut pools = table.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = pools.entry(whom).or_default();
    let done = act(pool);
    if pool.threads == 0 {
        pools.remove(&whom);
    }
    done
}

/// A task that was asked. When this is dropped it is not put any more, if it still waits for its
/// turn.
pub(crate) struct TaskHandle {
    whom: usize,
    number: u64,
    source: For,
}

/// Has a task put to a vault or a registry, which the task must hold, and which works on so many at
/// once. `source` is the client that it is asked for; `None` asks for a client of our own.
///
/// # Errors
/// `TooManyThreads` if there cannot be a thread, and there is none that will come to it.
pub(crate) fn spawn<W: ?Sized>(
    whom: &Arc<W>,
    at_once: usize,
    source: Option<Source>,
    task: impl FnOnce() + Send + 'static,
) -> Result<TaskHandle> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let whom = Arc::as_ptr(whom).addr();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let asked = TaskHandle { whom, number, source };
    let started = with_pool(whom, |pool| {
        pool.at_once = at_once.max(1);
        pool.push(source, number, Box::new(task));
        let started = if pool.lacks_thread() { start_thread(pool, whom) } else { Ok(()) };
        // The threads that there are take it in its turn.
        if pool.threads > 0 { Ok(()) } else { started.map_err(|error| (error, pool.abandon(number, source))) }
    });
    // What was not asked goes here, where the lock is not held.
    started.map(|()| asked).map_err(|(error, _)| error)
}

/// Another thread, which waits for the lock, and then finds its task.
fn start_thread(pool: &mut Pool, whom: usize) -> Result<()> {
    thread::spawn("curve_tun-blocking", move || work(whom))?;
    pool.threads += 1;
    Ok(())
}

/// Puts the tasks that wait, in their turns, until there are none.
fn work(whom: usize) {
    let mut done = None;
    loop {
        let begun = with_pool(whom, |pool| {
            if let Some((number, source)) = done.take() {
                pool.end(number, source);
            }
            let begun = pool.begin();
            if begun.is_none() {
                pool.threads -= 1;
            } else if pool.lacks_thread() {
                // If there cannot be one, those that there are do it.
                let _ = start_thread(pool, whom);
            }
            begun
        });
        let Some((number, source, task)) = begun else { return };
        // A panic is the end of that task alone, and has been reported.
        let _ = contain(task);
        done = Some((number, source));
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        let taken_back = with_pool(self.whom, |pool| pool.abandon(self.number, self.source));
        // What frees a vault with its last task is the host's, and not to be called with the lock
        // held.
        drop(taken_back);
    }
}

#[cfg(test)]
mod tests {
    use super::{For, Pool};
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn whoever_comes_before_a_first_call_has_begun_takes_nobodys_turn() {
        let source = |last| -> For { Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)).into()) };
        let mut pool = Pool { at_once: 2, ..Pool::default() };
        for number in 0..4 {
            pool.push(source(number), number.into(), Box::new(|| {}));
        }
        let begun: Vec<_> = std::iter::from_fn(|| pool.begin()).map(|(number, ..)| number).collect();
        assert_eq!(begun, [0, 1, 2, 3]);
    }
}
