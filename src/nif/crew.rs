//! Threads that ask a vault or a registry that takes its time, so that no scheduler waits and the node's own files and
//! sockets are not held up, however long that is.

use super::answerers::Question;
use crate::connection::{Answer, Request};
use crate::error::{Error, Result};
use crate::registry::Registry;
use crate::thread::spawn;
use crate::vault::{Answers, Vault};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

/// Threads for each vault outside of this process: an agent is asked over as many lines.
const VAULT_THREADS: usize = 4;

/// The threads that ask one vault or registry. They end when nothing uses it any more.
pub(super) struct Crew(Sender<(Request, Question)>);

impl Crew {
    /// A crew for `vault`, if it takes its time.
    ///
    /// # Errors
    /// `OutOfMemory` if there cannot be that many threads.
    pub(super) fn of_vault(vault: Arc<dyn Vault>) -> Result<Option<Arc<Crew>>> {
        if vault.answers() == Answers::Now {
            return Ok(None);
        }
        Crew::new("curve_tun-vault", VAULT_THREADS, move |request| request.perform_by_vault(&*vault))
            .map(Some)
    }

    /// A crew for `registry`. One thread: it can only wait when there is something to read, and all wait for that.
    ///
    /// # Errors
    /// As [`Crew::of_vault`].
    pub(super) fn of_registry(registry: Arc<dyn Registry>) -> Result<Arc<Crew>> {
        Crew::new("curve_tun-registry", 1, move |request| match request {
            Request::Verify(candidate) => {
                registry.verify(candidate).map_or_else(Answer::Failed, Answer::Verdict)
            }
            _ => Answer::Failed(Error::Internal),
        })
    }

    fn new(
        name: &str,
        threads: usize,
        perform: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Result<Arc<Crew>> {
        let (ask, questions) = mpsc::channel();
        let (perform, questions) = (Arc::new(perform), Arc::new(Mutex::new(questions)));
        for _ in 0..threads {
            let (perform, questions) = (perform.clone(), questions.clone());
            spawn(name, move || {
                while let Some((request, question)) = next(&questions) {
                    // A connection that was closed while this waited asks nothing any more.
                    if question.is_open() {
                        let answer = catch_unwind(AssertUnwindSafe(|| perform(&request)));
                        question.answer(answer.unwrap_or(Answer::Failed(Error::Internal)));
                    }
                }
            })?;
        }
        Ok(Arc::new(Crew(ask)))
    }

    /// Has the request answered.
    pub(super) fn ask(&self, request: Request, question: Question) -> Result<()> {
        self.0.send((request, question)).map_err(|_| Error::Internal)
    }
}

/// The next question; none when the crew is not needed any more.
fn next(questions: &Mutex<Receiver<(Request, Question)>>) -> Option<(Request, Question)> {
    questions.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}
