//! Sockets of evicted handshakes that the program still holds. Only the program can close their
//! descriptors.

use crate::error::Result;
use crate::sys::Deadline;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a program's thread has to notice that its handshake was evicted, and to drop the
/// socket.
const GRACE: Duration = Duration::from_millis(100);

/// The sockets of evicted handshakes of one listener.
#[derive(Default)]
pub(super) struct Evicted {
    state: Mutex<State>,
    dropped: Condvar,
}

#[derive(Default)]
struct State {
    held: usize,
    /// When the grace ends. It begins with the first socket that is to be dropped, and is not
    /// extended by those that wait. Once it is over, nobody waits again until all are dropped.
    grace: Option<Deadline>,
}

impl State {
    /// Returns until when to wait for them; `None` if there is nothing to wait for.
    fn awaited(&self) -> Option<Deadline> {
        self.grace.filter(|grace| self.held > 0 && !grace.has_passed())
    }
}

impl Evicted {
    /// Waits until the program has dropped them all, so that a flood leaves no more descriptors
    /// open than there are handshakes. Waits no longer than [`GRACE`], since a program may keep its
    /// sockets as long as it likes.
    pub(super) fn wait(&self, deadline: Deadline) -> Result<()> {
        let mut state = self.state.lock();
        while let Some(end) = state.awaited().and_then(|grace| grace.min(deadline).instant()) {
            if self.dropped.wait_until(&mut state, end).timed_out() && state.awaited().is_some() {
                deadline.check()?;
            }
        }
        Ok(())
    }
}

/// One socket that the program holds, from its accept on. Dropped after the descriptor is closed.
pub(super) struct Held {
    of: Arc<Evicted>,
    evicted: AtomicBool,
}

impl Held {
    pub(super) fn new(of: &Arc<Evicted>) -> Arc<Held> {
        Arc::new(Held { of: of.clone(), evicted: AtomicBool::new(false) })
    }

    pub(super) fn evict(&self) {
        if !self.evicted.swap(true, Ordering::Relaxed) {
            let mut state = self.of.state.lock();
            if state.held == 0 {
                state.grace = Some(Deadline::after(Some(GRACE)));
            }
            state.held += 1;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if *self.evicted.get_mut() {
            let mut state = self.of.state.lock();
            state.held -= 1;
            self.of.dropped.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Deadline, Evicted, Held};
    use crate::error::Error;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    #[test]
    fn whoever_accepts_waits_for_evicted_sockets_within_their_grace() {
        let evicted = Arc::<Evicted>::default();
        let (kept, given_up) = (Held::new(&evicted), Held::new(&evicted));
        evicted.wait(Deadline::after(None)).unwrap();
        given_up.evict();
        given_up.evict();
        let dropped = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                dropped.store(true, Ordering::SeqCst);
                drop(given_up);
            });
            evicted.wait(Deadline::after(None)).unwrap();
            // A machine that did not run the other thread within its grace is the exception.
            assert!(dropped.load(Ordering::SeqCst) || evicted.state.lock().held > 0);
        });
        kept.evict();
        // Whoever has no time is not to wait; and the grace ends for him as for all.
        let none = || evicted.wait(Deadline::after(Some(Duration::ZERO)));
        while let Err(error) = none() {
            assert_eq!(error, Error::Timeout);
            thread::yield_now();
        }
        evicted.wait(Deadline::after(None)).unwrap();
        assert_eq!(evicted.state.lock().held, 1);
        drop(kept);
        let state = evicted.state.lock();
        assert!(state.held == 0 && state.awaited().is_none());
    }
}
