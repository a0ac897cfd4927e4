//! Questions to vaults and registries that take their time, put to them by threads of their own ([`crew`]).

use super::deadline::Deadline;
use crate::connection::{Answer, Request, Source};
use crate::crew::{self, Asked};
use crate::error::{Error, Result};
use crate::registry::Registry;
use crate::vault::Vault;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;

/// Who answers a connection's requests.
#[derive(Clone)]
pub(super) struct Answerers {
    pub vault: Arc<dyn Vault>,
    /// A server's; a client asks none.
    pub registry: Option<Arc<dyn Registry>>,
}

impl Answerers {
    /// Has `request` answered by another thread, which hands the answer to `done`; unless what this gives is dropped
    /// before the question's turn has come. `source` is the client that a server asks for.
    pub(super) fn ask(
        &self,
        source: Option<Source>,
        request: Request,
        done: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<Asked> {
        let answerers = self.clone();
        let of_registry = matches!(request, Request::Verify(_));
        let question = move || {
            let perform = || match &answerers.registry {
                Some(registry) => request.perform(&*answerers.vault, &**registry),
                None => request.perform_by_vault(&*answerers.vault),
            };
            let answer = catch_unwind(AssertUnwindSafe(perform));
            // Who gets the answer may free the vault next, and is to see it go then.
            drop(answerers);
            done(answer.unwrap_or(Answer::Failed(Error::Internal)));
        };
        match &self.registry {
            Some(registry) if of_registry => crew::ask(registry, registry.calls_at_once(), source, question),
            _ => crew::ask(&self.vault, self.vault.calls_at_once(), source, question),
        }
    }

    /// Has `request` answered; `Timeout` if that takes longer than the deadline allows.
    pub(super) fn ask_until(
        &self,
        source: Option<Source>,
        request: Request,
        deadline: Deadline,
    ) -> Result<Answer> {
        let (tell, answer) = mpsc::channel();
        let _asked = self.ask(source, request, move |answer| {
            // Nobody listens any more once the deadline has passed.
            let _ = tell.send(answer);
        })?;
        match deadline.remaining() {
            None => answer.recv().map_err(|_| Error::Internal),
            Some(left) => answer.recv_timeout(left).map_err(|_| Error::Timeout),
        }
    }
}
