//! The threads on which vaults and registries that block are called. There is one pool for each
//! provider, with at most as many threads as the provider works on calls at once. So a provider
//! that hangs keeps few threads, and holds up nobody else.
//!
//! Sources take turns, one task each, so that one address cannot queue up before all others. A task
//! whose handshake has ended is dropped while it waits. A call that has begun cannot be cancelled.
//! If its handshake has ended, the call counts against its source, which gets no turn while half of
//! the pool is in calls that it has abandoned. So no more tasks wait than handshakes are in flight,
//! and a source that ends its handshakes early keeps at most half of the pool from others.

use crate::connection::Source;
use crate::contain::contain;
use crate::error::Result;
use crate::sys;
use crate::sys::ForkGuard;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Task = Box<dyn FnOnce() + Send>;

/// The source that a task is for; `None` for all clients of this process, which trust each other.
type For = Option<Source>;

/// The tasks of one source.
#[derive(Default)]
struct SourceQueue {
    /// The source's position among the pool's sources; `None` while no task waits.
    turn: Option<u64>,
    /// The tasks that wait, by their numbers, the oldest first.
    waiting: BTreeMap<u64, Task>,
    /// Calls that nobody waits for any more.
    abandoned: usize,
}

/// The threads and tasks of one provider.
#[derive(Default)]
struct Pool {
    threads: usize,
    at_once: usize,
    next_turn: u64,
    queues: BTreeMap<For, SourceQueue>,
    /// Every source that has a waiting task, by its position.
    turns: BTreeMap<u64, For>,
    /// The sources of calls that have begun and that somebody waits for, by the numbers of their
    /// tasks.
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

    /// Moves a source that has a task behind all others.
    fn move_to_end(&mut self, source: For) {
        if let Some(queue) = self.queues.get_mut(&source).filter(|queue| !queue.waiting.is_empty()) {
            if let Some(before) = queue.turn.replace(self.next_turn) {
                self.turns.remove(&before);
            }
            self.turns.insert(self.next_turn, source);
            self.next_turn += 1;
        }
    }

    /// Returns the source whose turn it is.
    fn next(&self) -> Option<For> {
        let most = (self.at_once / 2).max(1);
        let may = |source: &For| {
            source.is_none() || self.queues.get(source).is_some_and(|queue| queue.abandoned < most)
        };
        self.turns.values().copied().find(may)
    }

    /// Returns whether another thread is allowed, and would find a task.
    fn lacks_thread(&self) -> bool {
        self.threads < self.at_once && self.next().is_some()
    }

    /// Takes the next task, whose call begins. Its source moves to the end now, and again when the
    /// call ends, so that others who came meanwhile are served before the source's next task.
    fn begin(&mut self) -> Option<(u64, For, Task)> {
        let source = self.next()?;
        let number = *self.queues.get(&source)?.waiting.first_key_value()?.0;
        let task = self.remove(source, number)?;
        self.move_to_end(source);
        self.calls.insert(number, source);
        Some((number, source, task))
    }

    /// Removes a waiting task.
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

    /// Counts a call as over.
    fn end(&mut self, number: u64, source: For) {
        let awaited = self.calls.remove(&number).is_some();
        if let Some(queue) = self.queues.get_mut(&source).filter(|_| !awaited) {
            queue.abandoned -= 1;
        }
        self.move_to_end(source);
        self.forget_idle(source);
    }

    /// Counts a call as abandoned. If the call has not begun, removes its task and returns it.
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

/// The pools, by the addresses of their providers. Tasks hold their provider, so no other provider
/// can have its address while a pool exists.
type Pools = BTreeMap<usize, Pool>;

/// The tables of pools. A child of `fork` uses the next one, because the lock of its parent's table
/// may be held by a thread that the child does not have.
static POOLS: [Mutex<Pools>; 8] = [const { Mutex::new(Pools::new()) }; 8];

/// Calls `act` with a provider's pool, under the lock. A pool without threads is removed, because
/// no task can wait in it.
fn with_pool<R>(provider: usize, act: impl FnOnce(&mut Pool) -> R) -> R {
    let table = &POOLS[ForkGuard::here().generation() % POOLS.len()];
    let mut pools = table.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = pools.entry(provider).or_default();
    let done = act(pool);
    if pool.threads == 0 {
        pools.remove(&provider);
    }
    done
}

/// A handle to a task in a pool. Dropping it cancels the task if its call has not begun.
pub(crate) struct TaskHandle {
    provider: usize,
    number: u64,
    source: For,
}

/// Queues a task for `provider`, which works on `at_once` calls at once. The task must hold the
/// provider. `source` is that of the client; `None` for a client of this process.
///
/// # Errors
/// `TooManyThreads` if no thread can be started, and there is none that will take the task.
pub(crate) fn spawn<W: ?Sized>(
    provider: &Arc<W>,
    at_once: usize,
    source: Option<Source>,
    task: impl FnOnce() + Send + 'static,
) -> Result<TaskHandle> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let provider = Arc::as_ptr(provider).addr();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let handle = TaskHandle { provider, number, source };
    let started = with_pool(provider, |pool| {
        pool.at_once = at_once.max(1);
        pool.push(source, number, Box::new(task));
        let started = if pool.lacks_thread() { start_thread(pool, provider) } else { Ok(()) };
        // Existing threads take the task in its turn.
        if pool.threads > 0 { Ok(()) } else { started.map_err(|error| (error, pool.abandon(number, source))) }
    });
    // A refused task is dropped here, outside of the lock.
    started.map(|()| handle).map_err(|(error, _)| error)
}

/// Starts another thread, which waits for the lock that the caller holds.
fn start_thread(pool: &mut Pool, provider: usize) -> Result<()> {
    sys::spawn("curve_tun-blocking", move || work(provider))?;
    pool.threads += 1;
    Ok(())
}

/// Runs tasks until none waits.
fn work(provider: usize) {
    let mut done = None;
    loop {
        let begun = with_pool(provider, |pool| {
            if let Some((number, source)) = done.take() {
                pool.end(number, source);
            }
            let begun = pool.begin();
            if begun.is_none() {
                pool.threads -= 1;
            } else if pool.lacks_thread() {
                // If this fails, the existing threads do the work.
                let _ = start_thread(pool, provider);
            }
            begun
        });
        let Some((number, source, task)) = begun else { return };
        // A panic ends only this task, and has been reported.
        let _ = contain(task);
        done = Some((number, source));
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        let cancelled = with_pool(self.provider, |pool| pool.abandon(self.number, self.source));
        // The task may hold the last reference to a vault, and freeing that calls the program's
        // code. So it is dropped outside of the lock.
        drop(cancelled);
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
