//! Requests of a connection to a vault or registry that answers later.

use crate::crypto::{KEY_BYTES, PublicKey};
use crate::error::{Error, Result};
use crate::protocol::packet::{CookieBox, CookieMessage, HelloBox, Vouch};
use crate::registry::{Candidate, Registry};
use crate::vault::{LongTermNonce, Purpose, Vault};

/// A request of a handshake, which goes on with the [`Answer`].
///
/// Nothing in it is secret. It may be copied to another thread or process.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Request {
    /// To the server's vault: open this hello, which must hold 64 zeros, then seal the cookie.
    AnswerHello {
        /// The client's short-term key, the peer's key of both boxes.
        client_short: PublicKey,
        /// A box of purpose [`Purpose::Hello`] under counter 0.
        hello: HelloBox,
        /// To be sealed with purpose [`Purpose::Cookie`].
        cookie: CookieMessage,
    },
    /// To the client's vault: seal the vouch.
    SealVouch {
        /// The server's long-term key, the peer's key of the box.
        server: PublicKey,
        /// To be sealed with purpose [`Purpose::Vouch`].
        message: [u8; KEY_BYTES],
    },
    /// To the server's vault: open the vouch.
    OpenVouch {
        /// The long-term key that the client claims, the peer's key of the box.
        client: PublicKey,
        /// The client's long-term nonce.
        nonce: LongTermNonce,
        /// A box of purpose [`Purpose::Vouch`].
        vouch: Vouch,
    },
    /// To the server's registry: may this client, which has proven its key, come in?
    Verify(Candidate),
}

/// The answer of a vault or a registry to a [`Request`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Answer {
    /// To [`Request::AnswerHello`]: the long-term nonce and the cookie's box.
    HelloAnswered(LongTermNonce, CookieBox),
    /// To [`Request::SealVouch`]: the long-term nonce and the vouch.
    VouchSealed(LongTermNonce, Vouch),
    /// To [`Request::OpenVouch`]: what the vouch holds.
    VouchOpened([u8; KEY_BYTES]),
    /// To [`Request::Verify`]: whether the client may come in.
    Verdict(bool),
    /// To any request: it failed, and the connection closes with this error.
    Failed(Error),
}

impl Request {
    /// Calls `vault` or `registry`, whichever the request is for, and returns the answer. Blocks as
    /// long as that call does.
    pub fn perform(&self, vault: &dyn Vault, registry: &dyn Registry) -> Answer {
        self.try_perform(vault, Some(registry)).unwrap_or_else(Answer::Failed)
    }

    /// As [`Request::perform`], for any request but [`Request::Verify`], which fails with
    /// `RegistryFailed`.
    pub fn perform_by_vault(&self, vault: &dyn Vault) -> Answer {
        self.try_perform(vault, None).unwrap_or_else(Answer::Failed)
    }

    fn try_perform(&self, vault: &dyn Vault, registry: Option<&dyn Registry>) -> Result<Answer> {
        Ok(match self {
            Request::AnswerHello { client_short, hello, cookie } => {
                let (nonce, sealed) = vault.answer_hello(client_short, hello, &mut || Ok(*cookie))?;
                Answer::HelloAnswered(nonce, sealed)
            }
            Request::SealVouch { server, message } => {
                let mut vouch = [0; _];
                let nonce = vault.box_seal(Purpose::Vouch, server, message, &mut vouch)?;
                Answer::VouchSealed(nonce, vouch)
            }
            Request::OpenVouch { client, nonce, vouch } => {
                let mut message = [0; _];
                vault.box_open(Purpose::Vouch, client, nonce, vouch, &mut message)?;
                Answer::VouchOpened(message)
            }
            Request::Verify(candidate) => {
                Answer::Verdict(registry.ok_or(Error::RegistryFailed)?.verify(candidate)?)
            }
        })
    }
}

impl From<Result<bool>> for Answer {
    /// Turns a registry's decision into the answer to [`Request::Verify`].
    fn from(said: Result<bool>) -> Answer {
        said.map_or_else(Answer::Failed, Answer::Verdict)
    }
}
