//! Which key of a server a client trusts: one decision, without I/O.

use super::{FirstUse, Refusal};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use std::vec;

/// Decides which key of a server a client trusts: the key that it was given, else those that a
/// registry has for the server's name, each as far as its known servers have nothing against it; of
/// a server that they do not know, trust on first use decides.
///
/// It does no I/O. The driver does what [`ServerTrust::step`] says, reports the result with
/// [`ServerTrust::answer`], and repeats this until the step is [`TrustStep::Use`] or
/// [`TrustStep::Refuse`]. `net::Connector` is such a driver; a program may write another.
///
/// Several keys, as while a server's key is being replaced, are tried in turn, each on a connection
/// of its own. A key that is not trusted, or whose secret the server does not hold, is passed over;
/// if none is left, the first that was not trusted is what is told.
#[derive(Debug)]
pub struct ServerTrust {
    /// Whether known servers are asked.
    known_servers: bool,
    untried: vec::IntoIter<PublicKey>,
    /// Why keys were passed over, as it will be told.
    passed_over: Option<Refusal>,
    /// Whether the key of this step is to be remembered.
    remember: bool,
    step: TrustStep,
}

/// What a client does next to find out which key of a server to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustStep {
    /// Ask the registry for the keys of the server: [`TrustAnswer::Found`].
    Find,
    /// Look up what the known servers have of the server and this key: [`TrustAnswer::Known`].
    LookUp(PublicKey),
    /// The server is not known: say what becomes of this key, offered at its first use:
    /// [`TrustAnswer::FirstUse`].
    FirstUse(PublicKey),
    /// Connect with this key: [`TrustAnswer::Connected`]. By then the server has proven to hold its
    /// secret.
    Connect(PublicKey),
    /// Write down that the server is known by this key: [`TrustAnswer::Remembered`].
    Remember(PublicKey),
    /// The end: use the connection that was made.
    Use {
        /// Whether the key was written down; the error if it was to be, and could not.
        remembered: Result<bool>,
    },
    /// The end: do not use the server; close the connection, if one was made.
    Refuse(Refusal),
}

/// What came of a [`TrustStep`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustAnswer {
    /// The keys of the server, in the order in which to try them.
    Found(Vec<PublicKey>),
    /// What the known servers have.
    Known(KnownKeys),
    /// What becomes of a server that is not known.
    FirstUse(FirstUse),
    /// The server has proven to hold the secret of the key.
    Connected,
    /// The key is written down.
    Remembered,
    /// It could not be done.
    Failed(Refusal),
}

/// What known servers have of one server, and of one key that is offered for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownKeys {
    /// The keys that the server is known by, denied ones among them.
    pub keys: Vec<PublicKey>,
    /// Whether the offered key is denied, whosever it is.
    pub denied: bool,
}

impl KnownKeys {
    /// Returns whether the server is known by `offered`; false if it is not known at all, and this
    /// would be a first use.
    pub(super) fn trust(&self, offered: PublicKey) -> std::result::Result<bool, Refusal> {
        match self.keys.first() {
            _ if self.denied => Err(Refusal::Denied { offered }),
            Some(_) if self.keys.contains(&offered) => Ok(true),
            Some(known) => Err(Refusal::Changed { known: *known, offered }),
            None => Ok(false),
        }
    }
}

impl ServerTrust {
    /// Begins with the key that was given, if one was; else, if `by_name`, with the keys that a
    /// registry has. `known_servers` tells whether the client has a file of the servers that it
    /// knows.
    ///
    /// Without a key and without a registry no key is trusted: the first step refuses, with
    /// `InvalidArgument`.
    pub fn new(given: Option<PublicKey>, by_name: bool, known_servers: bool) -> ServerTrust {
        let untried = given.into_iter().collect::<Vec<_>>().into_iter();
        let step = TrustStep::Refuse(Error::InvalidArgument.into());
        let mut trust = ServerTrust { known_servers, untried, passed_over: None, remember: false, step };
        match given {
            Some(_) => trust.step = trust.next_key(),
            None if by_name => trust.step = TrustStep::Find,
            None => {}
        }
        trust
    }

    /// Returns what is to be done now.
    pub fn step(&self) -> TrustStep {
        self.step
    }

    /// Returns whether the key of this step is to be remembered, once the server has proven it.
    pub(super) fn remembers(&self) -> bool {
        self.remember
    }

    /// Goes on with what came of the step, and returns the next one.
    ///
    /// # Errors
    /// `WrongState` for an answer to something else, and at the end; the step stays what it is.
    pub fn answer(&mut self, answer: TrustAnswer) -> Result<TrustStep> {
        self.step = match (self.step, answer) {
            (TrustStep::Find, TrustAnswer::Found(keys)) => {
                self.untried = keys.into_iter();
                self.next_key()
            }
            (TrustStep::LookUp(key), TrustAnswer::Known(known)) => match known.trust(key) {
                Ok(true) => TrustStep::Connect(key),
                Ok(false) => TrustStep::FirstUse(key),
                Err(refusal) => self.pass_over(refusal),
            },
            (TrustStep::FirstUse(offered), TrustAnswer::FirstUse(FirstUse::Refuse)) => {
                TrustStep::Refuse(Refusal::Unknown { offered })
            }
            (TrustStep::FirstUse(key), TrustAnswer::FirstUse(first_use)) => {
                self.remember = first_use == FirstUse::Remember;
                TrustStep::Connect(key)
            }
            (TrustStep::Connect(key), TrustAnswer::Connected) if self.remember => TrustStep::Remember(key),
            (TrustStep::Connect(_), TrustAnswer::Connected) => TrustStep::Use { remembered: Ok(false) },
            (TrustStep::Connect(_), TrustAnswer::Failed(wrong @ Refusal::Failed(Error::WrongServerKey))) => {
                self.pass_over(wrong)
            }
            (TrustStep::Remember(_), TrustAnswer::Remembered) => TrustStep::Use { remembered: Ok(true) },
            // The server has proven the key: a file that cannot be written costs the memory and not
            // the tunnel. But another key that was remembered meanwhile, or a key that was denied,
            // refuses.
            (TrustStep::Remember(_), TrustAnswer::Failed(Refusal::Failed(error))) => {
                TrustStep::Use { remembered: Err(error) }
            }
            (TrustStep::Use { .. } | TrustStep::Refuse(_), _) => return Err(Error::WrongState),
            (_, TrustAnswer::Failed(refusal)) => TrustStep::Refuse(refusal),
            _ => return Err(Error::WrongState),
        };
        Ok(self.step)
    }

    /// Passes over the key of the step, and goes on with another one.
    fn pass_over(&mut self, refusal: Refusal) -> TrustStep {
        match self.passed_over {
            Some(Refusal::Changed { .. } | Refusal::Denied { .. }) => {}
            _ => self.passed_over = Some(refusal),
        }
        self.next_key()
    }

    fn next_key(&mut self) -> TrustStep {
        self.remember = false;
        match self.untried.next() {
            Some(key) if self.known_servers => TrustStep::LookUp(key),
            Some(key) => TrustStep::Connect(key),
            None => TrustStep::Refuse(self.passed_over.unwrap_or(Refusal::Failed(Error::NotFound))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PublicKey = PublicKey([7; 32]);

    /// Each answer at each step: those that do not fit change nothing.
    #[test]
    fn an_answer_to_something_else_is_refused() {
        let failed = TrustAnswer::Failed(Refusal::Failed(Error::Timeout));
        let answers = [
            TrustAnswer::Found(vec![KEY]),
            TrustAnswer::Known(KnownKeys::default()),
            TrustAnswer::FirstUse(FirstUse::Remember),
            TrustAnswer::Connected,
            TrustAnswer::Remembered,
        ];
        let mut trust = ServerTrust::new(None, true, true);
        for (at, right) in answers.iter().enumerate() {
            let step = trust.step();
            for wrong in answers.iter().enumerate().filter(|(other, _)| *other != at) {
                assert_eq!(trust.answer(wrong.1.clone()), Err(Error::WrongState), "{step:?}");
                assert_eq!(trust.step(), step);
            }
            assert_ne!(trust.answer(right.clone()), Ok(step));
        }
        assert_eq!(trust.step(), TrustStep::Use { remembered: Ok(true) });
        for answer in answers.into_iter().chain([failed.clone()]) {
            assert_eq!(trust.answer(answer), Err(Error::WrongState));
        }
        let mut refused = ServerTrust::new(None, false, true);
        assert_eq!(refused.answer(failed), Err(Error::WrongState));
        assert_eq!(refused.step(), TrustStep::Refuse(Refusal::Failed(Error::InvalidArgument)));
    }

    /// What was decided of one key says nothing of the next, which another program may have
    /// remembered meanwhile.
    #[test]
    fn a_first_use_is_of_one_key() {
        let other = PublicKey([8; 32]);
        let wrong = TrustAnswer::Failed(Refusal::Failed(Error::WrongServerKey));
        let mut trust = ServerTrust::new(None, true, true);
        for (answer, step) in [
            (TrustAnswer::Found(vec![other, KEY]), TrustStep::LookUp(other)),
            (TrustAnswer::Known(KnownKeys::default()), TrustStep::FirstUse(other)),
            (TrustAnswer::FirstUse(FirstUse::Remember), TrustStep::Connect(other)),
            (wrong, TrustStep::LookUp(KEY)),
            (TrustAnswer::Known(KnownKeys { keys: vec![KEY], denied: false }), TrustStep::Connect(KEY)),
            (TrustAnswer::Connected, TrustStep::Use { remembered: Ok(false) }),
        ] {
            assert_eq!(trust.answer(answer), Ok(step));
        }
    }

    #[test]
    fn a_failure_ends_all_but_the_trial_of_keys() {
        let timeout = TrustAnswer::Failed(Refusal::Failed(Error::Timeout));
        let refused = Ok(TrustStep::Refuse(Refusal::Failed(Error::Timeout)));
        assert_eq!(ServerTrust::new(None, true, true).answer(timeout.clone()), refused);
        assert_eq!(ServerTrust::new(Some(KEY), false, true).answer(timeout.clone()), refused);
        assert_eq!(ServerTrust::new(Some(KEY), true, false).answer(timeout), refused);
        let nobody = Ok(TrustStep::Refuse(Refusal::Failed(Error::NotFound)));
        assert_eq!(ServerTrust::new(None, true, true).answer(TrustAnswer::Found(Vec::new())), nobody);
    }
}
