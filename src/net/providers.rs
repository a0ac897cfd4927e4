//! Questions to vaults and registries that take their time: put to them by threads of their own
//! ([`blocking`]), or, where nobody has to wait for the answer, on the spot.

use crate::blocking::{self, TaskHandle};
use crate::connection::{Answer, Request, Source};
use crate::contain::contain;
use crate::error::Result;
use crate::registry::Registry;
use crate::sys::Deadline;
use crate::vault::Vault;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// Who answers a connection's requests.
#[derive(Clone)]
pub(super) struct Providers {
    pub vault: Arc<dyn Vault>,
    /// A server's; a client asks none.
    pub registry: Option<Arc<dyn Registry>>,
}

/// A question that was put. If it still waits for its turn when this is dropped, it is taken back.
pub(super) struct Pending(#[expect(dead_code, reason = "it is there to be dropped")] Option<TaskHandle>);

impl Providers {
    /// Has `request` answered, and the answer handed to `done`, here or on another thread. `source`
    /// is the client that a server asks for.
    pub(super) fn ask(
        &self,
        source: Option<Source>,
        request: Request,
        done: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<Pending> {
        let reply = Reply::new(done);
        let asked = match (&self.registry, request) {
            (Some(registry), Request::Verify(candidate)) if !registry.blocks() => {
                let later = reply.clone();
                let told = registry.verify_or_tell(&candidate, Box::new(move |said| later.give(said.into())));
                if let Some(said) = told {
                    reply.give(said.into());
                }
                return Ok(Pending(None));
            }
            (Some(registry), Request::Verify(candidate)) => {
                let whom = registry.clone();
                let put = move || reply.give_what(whom, |whom| whom.verify(&candidate).into());
                blocking::spawn(registry, registry.max_concurrency(), source, put)?
            }
            (_, request) => {
                let whom = self.vault.clone();
                let put = move || reply.give_what(whom, |whom| request.perform_by_vault(whom));
                blocking::spawn(&self.vault, self.vault.max_concurrency(), source, put)?
            }
        };
        Ok(Pending(Some(asked)))
    }
}

/// Who waits for an answer: gets one, and one only, also if the question is lost on its way.
struct Reply<D: FnOnce(Answer)>(Arc<Once<D>>);

struct Once<D: FnOnce(Answer)>(Mutex<Option<D>>);

impl<D: FnOnce(Answer)> Reply<D> {
    fn new(done: D) -> Reply<D> {
        Reply(Arc::new(Once(Mutex::new(Some(done)))))
    }

    fn clone(&self) -> Reply<D> {
        Reply(self.0.clone())
    }

    fn give(&self, answer: Answer) {
        self.0.give(answer);
    }

    /// Gives what `whom` says, and lets go of it before: who gets the answer may free the vault
    /// next, and is to see it go then.
    fn give_what<W: ?Sized>(self, whom: Arc<W>, says: impl FnOnce(&W) -> Answer) {
        let answer = contain(|| says(&whom)).unwrap_or_else(Answer::Failed);
        drop(whom);
        self.give(answer);
    }
}

impl<D: FnOnce(Answer)> Once<D> {
    fn give(&self, answer: Answer) {
        let done = self.0.lock().take();
        if let Some(done) = done {
            done(answer);
        }
    }
}

impl<D: FnOnce(Answer)> Drop for Once<D> {
    fn drop(&mut self) {
        self.give(Answer::Failed(crate::error::Error::Internal));
    }
}

/// Where a thread waits for an answer, and can be woken.
#[derive(Default)]
pub(super) struct Waiter {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    answer: Option<Answer>,
    woken: bool,
}

impl Waiter {
    pub(super) fn put(&self, answer: Answer) {
        self.state.lock().answer = Some(answer);
        self.changed.notify_all();
    }

    /// Ends every wait, now and later.
    pub(super) fn wake(&self) {
        self.state.lock().woken = true;
        self.changed.notify_all();
    }

    /// Waits for an answer, at most until `deadline` or until it is woken.
    pub(super) fn wait(&self, deadline: Deadline) -> Option<Answer> {
        let mut state = self.state.lock();
        while state.answer.is_none() && !state.woken {
            match deadline.instant() {
                None => self.changed.wait(&mut state),
                Some(end) if self.changed.wait_until(&mut state, end).timed_out() => break,
                Some(_) => {}
            }
        }
        state.answer.take()
    }
}
