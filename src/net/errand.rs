//! Questions to vaults and registries that take their time, asked on a thread each.

use super::deadline::Deadline;
use crate::connection::{Answer, Request};
use crate::error::{Error, Result};
use crate::registry::Registry;
use crate::thread::spawn;
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
    /// Has `request` answered on a new thread, which hands the answer to `done`.
    ///
    /// There are at most as many such threads as handshakes in flight.
    pub(super) fn ask(&self, request: Request, done: impl FnOnce(Answer) + Send + 'static) -> Result<()> {
        let answerers = self.clone();
        spawn("curve_tun-errand", move || {
            let perform = || match &answerers.registry {
                Some(registry) => request.perform(&*answerers.vault, &**registry),
                None => request.perform_by_vault(&*answerers.vault),
            };
            let answer = catch_unwind(AssertUnwindSafe(perform));
            // Who gets the answer may free the vault next, and is to see it go then.
            drop(answerers);
            done(answer.unwrap_or(Answer::Failed(Error::Internal)));
        })?;
        Ok(())
    }

    /// Has `request` answered; `Timeout` if that takes longer than the deadline allows.
    pub(super) fn ask_until(&self, request: Request, deadline: Deadline) -> Result<Answer> {
        let (tell, answer) = mpsc::channel();
        self.ask(request, move |answer| {
            // Nobody listens any more once the deadline has passed.
            let _ = tell.send(answer);
        })?;
        match deadline.remaining() {
            None => answer.recv().map_err(|_| Error::Internal),
            Some(left) => answer.recv_timeout(left).map_err(|_| Error::Timeout),
        }
    }
}
