//! The vault of an agent, with a line on standard error when it fails, and when it answers again.

use curve_tun::vault::{LongTermNonce, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Answers as the vault in it does.
pub struct Watched<V> {
    vault: V,
    /// What was told last, unless it is over.
    trouble: Mutex<Option<Error>>,
}

impl<V: Vault> Watched<V> {
    pub fn new(vault: V) -> Watched<V> {
        Watched { vault, trouble: Mutex::new(None) }
    }

    /// Looks at what a call gave.
    fn seen<T>(&self, purpose: Purpose, result: Result<T, Error>) -> Result<T, Error> {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&result, *trouble) {
            // The peer's fault, found before the key is used or after.
            (Err(Error::InvalidArgument | Error::WeakKey), _) => {}
            (Ok(_) | Err(Error::BadPacket), None) => {}
            (Ok(_) | Err(Error::BadPacket), Some(_)) => {
                // What was agreed with the peer of a vouch is remembered: no token is needed.
                if purpose != Purpose::Vouch {
                    *trouble = None;
                    say("the vault answers again");
                }
            }
            (Err(error), told) => {
                if told != Some(*error) {
                    *trouble = Some(*error);
                    say(format_args!("the vault fails: {}", reason(*error)));
                }
            }
        }
        result
    }
}

/// What `NotFound` means of a vault.
pub const AWAY: &str = "its token, or the key in it, is away";

fn reason(error: Error) -> &'static str {
    match error {
        Error::NotFound => AWAY,
        Error::WrongPassphrase => {
            "its token refused the PIN, which is not tried again; start the agent again with the right one"
        }
        error => error.message(),
    }
}

fn say(what: impl Display) {
    // Nobody is left to be told that standard error is closed.
    let _ = writeln!(io::stderr(), "curve-tun: {what}");
}

impl<V: Vault> Vault for Watched<V> {
    fn public_key(&self) -> PublicKey {
        self.vault.public_key()
    }

    fn box_seal(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<LongTermNonce, Error> {
        self.seen(purpose, self.vault.box_seal(purpose, peer, message, sealed))
    }

    fn box_open(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &[u8],
        sealed: &[u8],
        message: &mut [u8],
    ) -> Result<(), Error> {
        self.seen(purpose, self.vault.box_open(purpose, peer, nonce, sealed, message))
    }

    fn answer_hello(
        &self,
        client_short: &PublicKey,
        hello: &[u8; 80],
        cookie: &mut dyn FnMut() -> Result<[u8; 128], Error>,
    ) -> Result<(LongTermNonce, [u8; 144]), Error> {
        self.seen(Purpose::Hello, self.vault.answer_hello(client_short, hello, cookie))
    }

    fn forget_shared_keys(&self) {
        self.vault.forget_shared_keys();
    }

    fn deferred(&self) -> bool {
        self.vault.deferred()
    }

    fn max_concurrency(&self) -> usize {
        self.vault.max_concurrency()
    }
}
