//! The vault of an agent. It prints a line on standard error when it fails, and another when it
//! answers again.

use curve_tun::vault::{LongTermNonce, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// A vault that answers as the vault in it does, and reports failures.
pub struct Watched<V> {
    vault: V,
    /// The failure that was reported last; `None` once it is over.
    trouble: Mutex<Option<Error>>,
}

impl<V: Vault> Watched<V> {
    pub fn new(vault: V) -> Watched<V> {
        Watched { vault, trouble: Mutex::new(None) }
    }

    /// Reports the result of a call if it is a new failure, or the end of one.
    fn seen<T>(&self, purpose: Purpose, result: Result<T, Error>) -> Result<T, Error> {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&result, *trouble) {
            // The peer's fault, whether found before the key is used or after.
            (Err(Error::InvalidArgument | Error::WeakKey), _) => {}
            (Ok(_) | Err(Error::BadPacket), None) => {}
            (Ok(_) | Err(Error::BadPacket), Some(_)) => {
                // The key agreed with the peer of a vouch is remembered, so this success needs no
                // token.
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

/// What `NotFound` means when a vault returns it.
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
    // If standard error is closed, there is nobody to tell.
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
