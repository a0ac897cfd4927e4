//! Who answers a connection's requests, and how the answer gets back to it.

use super::crew::Crew;
use super::term;
use super::waiting::Waiting;
use crate::connection::{Answer, Request};
use crate::error::{Error, Result};
use crate::registry::DnsRegistry;
use rustler::Encoder;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The vault and the registry of a connection, if they take their time. Those that are not here and do are Erlang modules.
#[derive(Clone, Default)]
pub(super) struct Answerers {
    pub vault: Option<Answerer>,
    pub registry: Option<Answerer>,
}

/// Who answers later, without anybody's waiting.
#[derive(Clone)]
pub(super) enum Answerer {
    Crew(Arc<Crew>),
    Dns(Arc<DnsRegistry>),
}

impl Answerers {
    /// Who answers this request; `None` if that is an Erlang module's.
    pub(super) fn of(&self, request: &Request) -> Option<&Answerer> {
        match request {
            Request::Verify(_) => self.registry.as_ref(),
            _ => self.vault.as_ref(),
        }
    }
}

impl Answerer {
    /// Gives the answer if it is known, or `None` and answers the question later.
    pub(super) fn ask(&self, request: Request, question: Question) -> Result<Option<Answer>> {
        match (self, request) {
            (Answerer::Crew(crew), request) => crew.ask(request, question).map(|()| None),
            (Answerer::Dns(registry), Request::Verify(candidate)) => {
                let answer = |verdict: Result<_>| verdict.map_or_else(Answer::Failed, Answer::Verdict);
                let told = registry.verify_then(&candidate, move |verdict| question.answer(answer(verdict)));
                Ok(told.map(answer))
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

/// A connection's request that is under way. It holds nothing of the connection, which may be closed meanwhile.
pub(super) struct Question {
    slot: Weak<Mutex<Option<Answer>>>,
    waiting: Waiting,
}

impl Question {
    /// A question whose answer goes to `slot`, which `waiting` is then told of.
    pub(super) fn new(slot: &AnswerSlot, waiting: Waiting) -> Question {
        Question { slot: Arc::downgrade(&slot.0), waiting }
    }

    /// Whether the connection still waits for the answer.
    pub(super) fn is_open(&self) -> bool {
        self.slot.strong_count() > 0
    }

    /// Answers it. Only for threads that are none of the BEAM's.
    pub(super) fn answer(self, answer: Answer) {
        if let Some(slot) = self.slot.upgrade() {
            AnswerSlot(slot).put(answer);
            self.waiting.tell(|env| term::answered().encode(env));
        }
    }
}
