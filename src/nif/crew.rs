//! Vaults outside of this process, an agent or a token, take their time. A few threads ask them, so that no scheduler
//! waits and the node's own files and sockets are not held up, however long an agent is away.

use super::connection::{ConnectionResource, lock};
use super::term;
use crate::connection::{Answer, Request};
use crate::error::{Error, Result};
use crate::thread::spawn;
use crate::vault::{Answers, Vault};
use rustler::env::SavedTerm;
use rustler::{LocalPid, OwnedEnv, ResourceArc, Term};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

/// Threads for each such vault: an agent is asked over as many lines.
const THREADS: usize = 4;

/// The threads that ask one vault. They end when nothing uses it any more.
pub(super) struct Crew(Sender<Question>);

/// A connection whose request waits for the vault, and who is to be told of the answer.
struct Question {
    connection: ResourceArc<ConnectionResource>,
    asker: LocalPid,
    env: OwnedEnv,
    reference: SavedTerm,
}

impl Crew {
    /// A crew for `vault`, if it takes its time.
    ///
    /// # Errors
    /// `OutOfMemory` if there cannot be that many threads.
    pub(super) fn of(vault: Arc<dyn Vault>) -> Result<Option<Arc<Crew>>> {
        if vault.answers() == Answers::Now {
            return Ok(None);
        }
        let (ask, questions) = mpsc::channel();
        let questions = Arc::new(Mutex::new(questions));
        for _ in 0..THREADS {
            let (vault, questions) = (vault.clone(), questions.clone());
            spawn("curve_tun-vault", move || {
                while let Some(question) = next(&questions) {
                    question.answer(&*vault);
                }
            })?;
        }
        Ok(Some(Arc::new(Crew(ask))))
    }

    /// Has the vault answer what the connection asks. Then `{reference, vault_answered}` goes to `asker`, unless the
    /// connection is closed before.
    pub(super) fn ask(
        &self,
        connection: ResourceArc<ConnectionResource>,
        asker: LocalPid,
        reference: Term,
    ) -> Result<()> {
        let env = OwnedEnv::new();
        let reference = env.save(reference);
        self.0.send(Question { connection, asker, env, reference }).map_err(|_| Error::VaultFailed)
    }
}

/// The next question; none when the crew is not needed any more.
fn next(questions: &Mutex<Receiver<Question>>) -> Option<Question> {
    questions.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

impl Question {
    fn answer(self, vault: &dyn Vault) {
        // A connection that was closed while this waited asks nothing any more.
        let Some(request) = self.request() else { return };
        let answer = catch_unwind(AssertUnwindSafe(|| request.perform_by_vault(vault)));
        let answer = answer.unwrap_or(Answer::Failed(Error::Internal));
        match lock(&self.connection.handshake).as_deref_mut() {
            Ok(Some(handshake)) => handshake.vaults_answer = Some(answer),
            _ => return,
        }
        let Question { asker, mut env, reference, .. } = self;
        // The process may have ended meanwhile.
        let _ = env.send_and_clear(&asker, |env| (reference.load(env), term::vault_answered()));
    }

    fn request(&self) -> Option<Request> {
        lock(&self.connection.handshake).ok()?.as_ref()?.connection.request().cloned()
    }
}
