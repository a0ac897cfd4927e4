//! The clock that rotates a server's minute keys, also when no traffic comes.

use crate::connection::{Options, Server};
use crate::error::Result;
use crate::registry::Registry;
use crate::sys::{ForkGuard, spawn};
use crate::vault::Vault;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long after a failed rotation the next attempt is made.
const RETRY_MS: u64 = 1000;

/// What stops the timer. It uses the standard library's lock and condition variable: parking_lot
/// keeps a table of waiting threads, and a parent's timer thread is always waiting. In a forked
/// child that table would name threads that are gone, and whose memory new threads may get.
#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`Server`] with a thread of its own that rotates its minute keys; the thread ends when this is
/// dropped.
pub struct TimedServer {
    server: Arc<Server>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
    fork_guard: ForkGuard,
}

impl fmt::Debug for TimedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedServer").field("server", &self.server).finish_non_exhaustive()
    }
}

impl TimedServer {
    /// Makes a server over `vault` and `registry`, and starts its timer.
    ///
    /// # Errors
    /// Those of [`Server::new`]; `TooManyThreads` if the thread cannot be started.
    pub fn new(
        vault: Arc<dyn Vault>,
        registry: Arc<dyn Registry>,
        options: Options,
    ) -> Result<Arc<TimedServer>> {
        let start = Instant::now();
        let server = Server::new(vault, registry, options, 0)?;
        let stop = Arc::new(Stop::default());
        let (timed, stopping) = (server.clone(), stop.clone());
        let thread = spawn("curve_tun-minute", move || rotate(&timed, &stopping, start))?;
        Ok(Arc::new(TimedServer { server, stop, thread: Some(thread), fork_guard: ForkGuard::here() }))
    }

    /// Returns the server itself, for connections without sockets.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }
}

impl Drop for TimedServer {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.fork_guard.check().is_err() {
            // A forked child has no such thread: joining it would wait for ever.
            return std::mem::forget(thread);
        }
        *self.stop.lock() = true;
        self.stop.changed.notify_all();
        // This fails only if the thread panicked, which has been reported already.
        let _ = thread.join();
    }
}

fn rotate(server: &Server, stop: &Stop, start: Instant) {
    let mut stopped = stop.lock();
    while !*stopped {
        let now = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = server.tick(now).unwrap_or(now + RETRY_MS);
        let left = Duration::from_millis(next.saturating_sub(now));
        stopped = stop.changed.wait_timeout(stopped, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}
