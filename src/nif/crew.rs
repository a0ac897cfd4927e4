//! Vaults outside of this process, an agent or a token, take their time. Threads ask them ([`crate::crew`]), so that no
//! scheduler waits and the node's own files and sockets are not held up, however long an agent is away.

use super::connection::{ConnectionResource, lock};
use super::term;
use crate::connection::{Answer, Request};
use crate::crew::{self, Asked};
use crate::error::{Error, Result};
use crate::vault::Vault;
use rustler::env::SavedTerm;
use rustler::{LocalPid, OwnedEnv, ResourceArc, Term};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A connection whose request waits for the vault, and who is to be told of the answer.
struct Question {
    connection: ResourceArc<ConnectionResource>,
    asker: LocalPid,
    env: OwnedEnv,
    reference: SavedTerm,
}

/// Has the vault answer what the connection asks. Then `{reference, vault_answered}` goes to `asker`, unless the
/// connection is closed before.
pub(super) fn ask(
    vault: &Arc<dyn Vault>,
    connection: ResourceArc<ConnectionResource>,
    asker: LocalPid,
    reference: Term,
) -> Result<Asked> {
    let env = OwnedEnv::new();
    let reference = env.save(reference);
    let question = Question { connection, asker, env, reference };
    let whom = vault.clone();
    crew::ask(vault, vault.calls_at_once(), move || question.answer(&*whom))
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
