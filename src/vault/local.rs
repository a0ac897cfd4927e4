//! A long-term key in this process: the part that all vaults which hold their key here have in
//! common.

#[cfg(test)]
mod tests;

use super::shared_keys::Remembered;
use super::{LongTermNonce, LongTermNonces, Purpose, SharedKeyCache, check_hello};
use crate::crypto::{PublicKey, SecretKey, SharedKey, TAG_BYTES};
use crate::error::{Error, Result};
use crate::protocol::packet::{CookieBox, CookieMessage, HELLO_COUNTER, HELLO_ZEROS, HelloBox};
use crate::sys::ForkGuard;

/// Agrees keys with peers, using a long-term secret.
pub(crate) trait Agree {
    /// Returns the shared key with the holder of `peer`; `WeakKey` if `peer` is of low order.
    fn agree(&self, peer: &PublicKey) -> Result<SharedKey>;
}

impl Agree for SecretKey {
    fn agree(&self, peer: &PublicKey) -> Result<SharedKey> {
        SecretKey::agree(self, peer)
    }
}

/// A key pair, its long-term nonces and its shared keys, with the methods of
/// [`Vault`](super::Vault) that need them.
pub(crate) struct LocalKey<K = SecretKey> {
    secret: K,
    public: PublicKey,
    nonces: LongTermNonces,
    agreements: SharedKeyCache,
    fork_guard: ForkGuard,
}

impl LocalKey {
    pub(crate) fn new(secret: SecretKey, nonces: LongTermNonces) -> Result<LocalKey> {
        let public = secret.public_key()?;
        Ok(LocalKey::of(secret, public, nonces))
    }
}

impl<K: Agree> LocalKey<K> {
    /// Makes the key pair of `secret`, wherever that is kept, and `public`.
    pub(crate) fn of(secret: K, public: PublicKey, nonces: LongTermNonces) -> LocalKey<K> {
        LocalKey {
            secret,
            public,
            nonces,
            agreements: SharedKeyCache::default(),
            fork_guard: ForkGuard::here(),
        }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.public
    }

    fn agree(&self, peer: &PublicKey) -> Result<SharedKey> {
        self.fork_guard.check()?;
        self.secret.agree(peer)
    }

    pub(crate) fn box_seal(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<LongTermNonce> {
        check_lengths(message, sealed)?;
        self.fork_guard.check()?;
        match purpose {
            // A hello's box is sealed by a short-term key.
            Purpose::Hello => return Err(Error::InvalidArgument),
            Purpose::Cookie => {}
            Purpose::Vouch => {
                // The vault's owner chooses the peer that it seals for; no stranger claims to be
                // it.
                let Remembered { shared, genuine } = self.agreements.look_up(peer)?;
                if genuine {
                    let nonce = self.nonces.next()?;
                    shared.seal(&purpose.nonce(&nonce)?, message, sealed);
                    self.agreements.refresh(peer);
                    return Ok(nonce);
                }
            }
        }
        let shared = self.agree(peer)?;
        let nonce = self.nonces.next()?;
        shared.seal(&purpose.nonce(&nonce)?, message, sealed);
        if purpose == Purpose::Vouch {
            self.agreements.keep(peer, &shared)?;
        }
        Ok(nonce)
    }

    pub(crate) fn box_open(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &[u8],
        sealed: &[u8],
        message: &mut [u8],
    ) -> Result<()> {
        check_lengths(message, sealed)?;
        self.fork_guard.check()?;
        let nonce = purpose.nonce(nonce)?;
        // Any stranger can claim to be `peer`, so a box that does not open costs the same work
        // whether or not `peer` is remembered: a look-up, one try with the key found, an agreement
        // and a second try. Nor does it change what is remembered, which others might find out.
        if purpose == Purpose::Vouch {
            let Remembered { shared, genuine } = self.agreements.look_up(peer)?;
            let opened = shared.open(&nonce, sealed, message).is_ok();
            if opened && genuine {
                self.agreements.refresh(peer);
                return Ok(());
            }
        }
        let shared = self.agree(peer)?;
        shared.open(&nonce, sealed, message)?;
        if purpose == Purpose::Vouch {
            self.agreements.keep(peer, &shared)?;
        }
        Ok(())
    }

    pub(crate) fn answer_hello(
        &self,
        client_short: &PublicKey,
        hello: &HelloBox,
        cookie: &mut dyn FnMut() -> Result<CookieMessage>,
    ) -> Result<(LongTermNonce, CookieBox)> {
        let shared = self.agree(client_short)?;
        let mut opened = HELLO_ZEROS;
        shared.open(&Purpose::Hello.nonce(&HELLO_COUNTER)?, hello, &mut opened)?;
        check_hello(&opened)?;
        let cookie = cookie()?;
        let nonce = self.nonces.next()?;
        let mut sealed = [0; _];
        shared.seal(&Purpose::Cookie.nonce(&nonce)?, &cookie, &mut sealed);
        Ok((nonce, sealed))
    }

    #[cfg(feature = "nif")]
    pub(crate) fn issue_nonce(&self) -> Result<LongTermNonce> {
        self.fork_guard.check()?;
        self.nonces.next()
    }

    #[cfg(feature = "nif")]
    pub(crate) fn box_seal_issued(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &LongTermNonce,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<()> {
        check_lengths(message, sealed)?;
        if purpose == Purpose::Hello {
            return Err(Error::InvalidArgument);
        }
        self.agree(peer)?.seal(&purpose.nonce(nonce)?, message, sealed);
        Ok(())
    }

    pub(crate) fn forget_shared_keys(&self) {
        // In a forked child, the lock may be held for ever by a thread that only the parent has.
        if self.fork_guard.check().is_ok() {
            self.agreements.forget();
        }
    }

    /// Returns the counter in a nonce of this key, for the project's tests.
    #[cfg(feature = "test-util")]
    pub(crate) fn counter_in(&self, nonce: &LongTermNonce) -> u64 {
        self.nonces.counter_in(nonce)
    }
}

/// Seals a box in two steps. The original's vault draws the nonce before the box, so Erlang's
/// behaviour has both.
#[cfg(feature = "nif")]
pub(crate) trait TwoSteps: super::Vault {
    /// Returns a nonce for one later [`TwoSteps::box_seal_issued`].
    fn issue_nonce(&self) -> Result<LongTermNonce>;

    /// Like [`Vault::box_seal`](super::Vault::box_seal), under a nonce from
    /// [`TwoSteps::issue_nonce`]. The caller must use each nonce only once.
    fn box_seal_issued(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &LongTermNonce,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<()>;
}

/// Implements a vault for a struct around a [`LocalKey`]. It answers at once, or later with the
/// given number of calls at a time.
macro_rules! vault_over_local_key {
    ($vault:ty, $deferred:expr $(, $at_once:expr)?) => {
        const _: () = {
            use $crate::crypto::PublicKey;
            use $crate::error::Result;
            use $crate::protocol::packet::{CookieBox, CookieMessage, HelloBox};
            use $crate::vault::{LongTermNonce, Purpose, Vault};

            impl Vault for $vault {
                fn public_key(&self) -> PublicKey {
                    self.0.public_key()
                }

                fn box_seal(
                    &self,
                    purpose: Purpose,
                    peer: &PublicKey,
                    message: &[u8],
                    sealed: &mut [u8],
                ) -> Result<LongTermNonce> {
                    self.0.box_seal(purpose, peer, message, sealed)
                }

                fn box_open(
                    &self,
                    purpose: Purpose,
                    peer: &PublicKey,
                    nonce: &[u8],
                    sealed: &[u8],
                    message: &mut [u8],
                ) -> Result<()> {
                    self.0.box_open(purpose, peer, nonce, sealed, message)
                }

                fn answer_hello(
                    &self,
                    client_short: &PublicKey,
                    hello: &HelloBox,
                    cookie: &mut dyn FnMut() -> Result<CookieMessage>,
                ) -> Result<(LongTermNonce, CookieBox)> {
                    self.0.answer_hello(client_short, hello, cookie)
                }

                fn forget_shared_keys(&self) {
                    self.0.forget_shared_keys();
                }

                fn deferred(&self) -> bool {
                    $deferred
                }

                $(fn max_concurrency(&self) -> usize {
                    $at_once
                })?
            }

            impl std::fmt::Debug for $vault {
                /// Shows only the public key.
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    let public_key = self.0.public_key();
                    f.debug_struct(stringify!($vault)).field("public_key", &public_key).finish_non_exhaustive()
                }
            }

            #[cfg(feature = "nif")]
            impl $crate::vault::TwoSteps for $vault {
                fn issue_nonce(&self) -> Result<LongTermNonce> {
                    self.0.issue_nonce()
                }

                fn box_seal_issued(
                    &self,
                    purpose: Purpose,
                    peer: &PublicKey,
                    nonce: &LongTermNonce,
                    message: &[u8],
                    sealed: &mut [u8],
                ) -> Result<()> {
                    self.0.box_seal_issued(purpose, peer, nonce, message, sealed)
                }
            }
        };
    };
}
pub(super) use vault_over_local_key;

/// Returns `InvalidArgument` unless `sealed` is as long as the box of `message`.
fn check_lengths(message: &[u8], sealed: &[u8]) -> Result<()> {
    if message.len().checked_add(TAG_BYTES) == Some(sealed.len()) {
        Ok(())
    } else {
        Err(Error::InvalidArgument)
    }
}
