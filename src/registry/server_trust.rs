//! Decides which key of a server a client trusts, without I/O.

use super::{FirstUse, Refusal};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use std::vec;

/// Decides which key of a server a client trusts.
///
/// It tries the key that the client was given or, without one, the keys that a registry has for the
/// server's name. It accepts a key only if the client's known servers do not speak against it. If
/// they do not know the server, trust on first use decides.
///
/// It does no I/O. The driver does what [`ServerTrust::step`] says, reports the result with
/// [`ServerTrust::answer`], and repeats this until the step is [`TrustStep::Use`] or
/// [`TrustStep::Refuse`]. `net::Connector` is such a driver; a program may write another.
///
/// There may be several keys, for example while a server's key is being replaced. They are tried in
/// turn, each on a connection of its own. A key is passed over if it is not trusted, or if the
/// server does not hold its secret. If no key is left, the result is the refusal of the first key
/// that was not trusted.
#[derive(Debug)]
pub struct ServerTrust {
    /// Whether to ask the known servers.
    known_servers: bool,
    untried: vec::IntoIter<PublicKey>,
    /// Why keys were passed over: the refusal to report if no key is left.
    passed_over: Option<Refusal>,
    /// Whether to remember the key of this step.
    remember: bool,
    step: TrustStep,
}

/// What a client does next to find out which key of a server to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustStep {
    /// Ask the registry for the keys of the server. The answer is [`TrustAnswer::Found`].
    Find,
    /// Look up what the known servers have about the server and this key. The answer is
    /// [`TrustAnswer::Known`].
    LookUp(PublicKey),
    /// The server is not known. Decide what to do with this key, which is offered at the first use.
    /// The answer is [`TrustAnswer::FirstUse`].
    FirstUse(PublicKey),
    /// Connect with this key. The answer is [`TrustAnswer::Connected`], once the server has proven
    /// that it holds the secret.
    Connect(PublicKey),
    /// Record that the server is known by this key. The answer is [`TrustAnswer::Remembered`].
    Remember(PublicKey),
    /// The last step: use the connection that was made.
    Use {
        /// Whether the key was recorded; an error if it should have been and could not.
        remembered: Result<bool>,
    },
    /// The last step: do not use the server. Close the connection, if one was made.
    Refuse(Refusal),
}

/// The result of a [`TrustStep`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustAnswer {
    /// The keys of the server, in the order in which to try them.
    Found(Vec<PublicKey>),
    /// What the known servers have about the server and the key.
    Known(KnownKeys),
    /// What to do with a server that is not known.
    FirstUse(FirstUse),
    /// The server has proven that it holds the secret of the key.
    Connected,
    /// The key was recorded.
    Remembered,
    /// The step failed.
    Failed(Refusal),
}

/// What the known servers have about one server, and about one key that is offered for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownKeys {
    /// The keys that the server is known by, including denied ones.
    pub keys: Vec<PublicKey>,
    /// Whether the offered key is denied, whoever it belongs to.
    pub denied: bool,
}

impl KnownKeys {
    /// Returns whether the server is known by `offered`. False means that the server is not known
    /// at all, so that this would be a first use.
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
    /// Starts with the key that was given. If there is none and `by_name` is set, starts with the
    /// keys that a registry has. `known_servers` says whether the client has a file of known
    /// servers.
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

    /// Returns what to do now.
    pub fn step(&self) -> TrustStep {
        self.step
    }

    /// Returns whether the key of this step is to be remembered once the server has proven it.
    pub(super) fn remembers(&self) -> bool {
        self.remember
    }

    /// Takes the result of the step, and returns the next step.
    ///
    /// # Errors
    /// `WrongState` if the answer belongs to another step, or if this was the last step; the step
    /// stays what it is.
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
            // The server has proven the key. So if the file cannot be written, the key is not
            // remembered, but the connection stays. If another key was remembered in the meantime,
            // or the key was denied, the server is refused.
            (TrustStep::Remember(_), TrustAnswer::Failed(Refusal::Failed(error))) => {
                TrustStep::Use { remembered: Err(error) }
            }
            (TrustStep::Use { .. } | TrustStep::Refuse(_), _) => return Err(Error::WrongState),
            (_, TrustAnswer::Failed(refusal)) => TrustStep::Refuse(refusal),
            _ => return Err(Error::WrongState),
        };
        Ok(self.step)
    }

    /// Passes over the key of the step, and goes on with the next one.
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

    /// Gives each answer at each step: answers that do not fit change nothing.
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

    /// What was decided about one key says nothing about the next, which another program may have
    /// remembered in the meantime.
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
