//! Requests to vaults and registries that take their time: performed on the blocking pool
//! ([`blocking`]), or on the spot if the provider does not block.

use crate::blocking::{self, TaskHandle};
use crate::connection::{Answer, Request, Source};
use crate::contain::contain;
use crate::error::Result;
use crate::registry::Registry;
use crate::sys::Deadline;
use crate::vault::Vault;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// The vault and registry that answer a connection's requests.
#[derive(Clone)]
pub(super) struct Providers {
    pub vault: Arc<dyn Vault>,
    /// A server's registry; a client has none.
    pub registry: Option<Arc<dyn Registry>>,
}

/// A request in progress. Dropping this cancels it if it is still waiting for its turn.
pub(super) struct Pending(#[expect(dead_code, reason = "it is there to be dropped")] Option<TaskHandle>);

impl Providers {
    /// Puts `request` to its provider, and passes the answer to `done`, here or on another thread.
    /// `source` is that of the client on whose behalf a server asks.
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

/// The callback that waits for an answer. It gets exactly one, even if the request is lost on its
/// way: then the answer is a failure.
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

    /// Gives the answer of `whom`, after dropping `whom`: the program that gets the answer may drop
    /// its own reference next, and expects that to free the provider.
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

/// A place where a thread waits for an answer, and from which it can be woken.
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

    /// Ends the current wait, and any later one at once.
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
