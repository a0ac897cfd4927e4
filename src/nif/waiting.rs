//! Processes that wait for what is answered later.

use rustler::env::SavedTerm;
use rustler::{Env, LocalPid, OwnedEnv, Term};

/// A process that waits for a message `{Reference, Answer}`.
pub(super) struct Waiting {
    process: LocalPid,
    env: OwnedEnv,
    reference: SavedTerm,
}

impl Waiting {
    /// Returns the calling process.
    pub(super) fn caller(env: Env, reference: Term) -> Waiting {
        let own = OwnedEnv::new();
        let reference = own.save(reference);
        Waiting { process: env.pid(), env: own, reference }
    }

    /// Sends it the answer. Only for threads that are none of the BEAM's.
    pub(super) fn tell(self, answer: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) {
        let Waiting { process, mut env, reference } = self;
        // The process may have ended meanwhile.
        let _ = env.send_and_clear(&process, |env| (reference.load(env), answer(env)));
    }
}
