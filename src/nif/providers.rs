//! Who answers a connection's requests, and how the answer gets back to it.

use super::term;
use super::waiting::Waiting;
use crate::blocking::{self, TaskHandle};
use crate::connection::{Answer, Request, Source};
use crate::contain::contain;
use crate::error::{Error, Result};
use crate::registry::{DnsRegistry, Registry};
use crate::vault::Vault;
use rustler::Encoder;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The vault and the registry of a connection, if they take their time. Those that are not here and
/// do are Erlang modules.
#[derive(Clone, Default)]
pub(super) struct Providers {
    pub vault: Option<Provider>,
    pub registry: Option<Provider>,
}

/// Who answers later, without anybody's waiting.
#[derive(Clone)]
pub(super) enum Provider {
    /// Asked by threads of ours.
    Vault(Arc<dyn Vault>),
    Registry(Arc<dyn Registry>),
    Dns(Arc<DnsRegistry>),
}

/// What became of a question.
pub(super) enum Outcome {
    Answered(Answer),
    /// It is taken back, unless its turn has come, when this is dropped.
    Asked(TaskHandle),
    Resolving,
}

impl Providers {
    /// Who answers this request; `None` if that is an Erlang module's.
    pub(super) fn of(&self, request: &Request) -> Option<&Provider> {
        match request {
            Request::Verify(_) => self.registry.as_ref(),
            _ => self.vault.as_ref(),
        }
    }
}

impl Provider {
    /// Returns the answer if it is known, or answers the question later. `source` is the client
    /// that a server asks for.
    pub(super) fn ask(
        &self,
        source: Option<Source>,
        request: Request,
        question: Question,
    ) -> Result<Outcome> {
        match (self, request) {
            (Provider::Vault(vault), request) => {
                let whom = vault.clone();
                let put = move || question.put(move || request.perform_by_vault(&*whom));
                blocking::spawn(vault, vault.max_concurrency(), source, put).map(Outcome::Asked)
            }
            (Provider::Registry(registry), Request::Verify(candidate)) => {
                let whom = registry.clone();
                let put = move || question.put(move || whom.verify(&candidate).into());
                blocking::spawn(registry, registry.max_concurrency(), source, put).map(Outcome::Asked)
            }
            (Provider::Dns(registry), Request::Verify(candidate)) => {
                let told = registry.verify_then(&candidate, move |said| question.answer(said.into()));
                Ok(told.map_or(Outcome::Resolving, |said| Outcome::Answered(said.into())))
            }
            _ => Err(Error::Internal),
        }
    }
}

/// Where a connection finds the answer to its request.
#[derive(Clone, Default)]
pub(super) struct AnswerSlot(Arc<Mutex<Option<Answer>>>);

impl AnswerSlot {
    pub(super) fn put(&self, answer: Answer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    pub(super) fn take(&self) -> Option<Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A connection's request that is under way. It holds nothing of the connection, which may be
/// closed meanwhile.
pub(super) struct Question {
    slot: Weak<Mutex<Option<Answer>>>,
    waiting: Waiting,
}

impl Question {
    /// Makes a question whose answer goes to `slot`, which `waiting` is then told of.
    pub(super) fn new(slot: &AnswerSlot, waiting: Waiting) -> Question {
        Question { slot: Arc::downgrade(&slot.0), waiting }
    }

    /// Puts it, on a thread that is none of the BEAM's. `perform` lets go of whom it asks when it
    /// ends: who gets the answer may free the vault next, and is to see it go then.
    fn put(self, perform: impl FnOnce() -> Answer) {
        // A connection that was closed meanwhile asks nothing any more.
        if self.slot.strong_count() > 0 {
            self.answer(contain(perform).unwrap_or_else(Answer::Failed));
        }
    }

    /// Answers it. Only for threads that are none of the BEAM's.
    pub(super) fn answer(self, answer: Answer) {
        if let Some(slot) = self.slot.upgrade() {
            AnswerSlot(slot).put(answer);
            self.waiting.tell(|env| term::answered().encode(env));
        }
    }
}
