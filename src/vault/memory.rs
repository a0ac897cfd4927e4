//! The vault whose key lives in this process's guarded memory.

use super::{LongTermNonce, LongTermNonces, Purpose, Vault, check_hello};
use crate::crypto::{KEY_BYTES, Origin, PublicKey, SecretKey, SharedKey, TAG_BYTES};
use crate::error::{Error, Result};
use crate::protocol::packet::{CookieBox, CookieMessage, HELLO_COUNTER, HELLO_ZEROS, HelloBox};

/// A vault in memory: its key is gone when it is dropped.
///
/// Key pair, counter and nonce block key are the seed's; each instance has a
/// block key of its own, so two vaults over one secret key do not collide.
pub struct MemoryVault {
    secret: SecretKey,
    public: PublicKey,
    nonces: LongTermNonces,
    origin: Origin,
}

impl MemoryVault {
    /// A vault with a new random key.
    ///
    /// # Errors
    /// `OutOfMemory`, `CryptoUnavailable`.
    pub fn generate() -> Result<MemoryVault> {
        Self::new(SecretKey::generate()?)
    }

    /// A vault over a copy of `secret`; the original stays the caller's to wipe.
    ///
    /// # Errors
    /// `OutOfMemory`, `CryptoUnavailable`.
    pub fn from_secret(secret: &[u8; KEY_BYTES]) -> Result<MemoryVault> {
        Self::new(SecretKey::from_bytes(secret)?)
    }

    /// A vault over `secret`.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(secret: SecretKey) -> Result<MemoryVault> {
        let public = secret.public_key()?;
        Ok(MemoryVault { secret, public, nonces: LongTermNonces::new()?, origin: Origin::here() })
    }

    fn agree(&self, peer: &PublicKey) -> Result<SharedKey> {
        self.origin.check()?;
        self.secret.agree(peer)
    }

    fn seal(
        &self,
        shared: &SharedKey,
        purpose: Purpose,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<LongTermNonce> {
        let nonce = self.nonces.next()?;
        shared.seal(&purpose.nonce(&nonce)?, message, sealed);
        Ok(nonce)
    }
}

#[cfg(feature = "nif")]
impl MemoryVault {
    /// A nonce for one later [`MemoryVault::box_seal_issued`].
    pub(crate) fn issue_nonce(&self) -> Result<LongTermNonce> {
        self.origin.check()?;
        self.nonces.next()
    }

    /// As [`Vault::box_seal`], under a nonce of [`MemoryVault::issue_nonce`]; the caller sees to it that none is used
    /// twice. The original's vault has its nonce drawn before its box, so Erlang's behaviour needs the two steps.
    pub(crate) fn box_seal_issued(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &LongTermNonce,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<()> {
        check_lengths(message.len(), sealed.len())?;
        if purpose == Purpose::Hello {
            return Err(Error::InvalidArgument);
        }
        self.agree(peer)?.seal(&purpose.nonce(nonce)?, message, sealed);
        Ok(())
    }
}

/// `InvalidArgument` unless `sealed` is as long as the box of `message`.
fn check_lengths(message: usize, sealed: usize) -> Result<()> {
    if message.checked_add(TAG_BYTES) == Some(sealed) { Ok(()) } else { Err(Error::InvalidArgument) }
}

impl Vault for MemoryVault {
    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn box_seal(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<LongTermNonce> {
        check_lengths(message.len(), sealed.len())?;
        if purpose == Purpose::Hello {
            return Err(Error::InvalidArgument);
        }
        self.seal(&self.agree(peer)?, purpose, message, sealed)
    }

    fn box_open(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &[u8],
        sealed: &[u8],
        message: &mut [u8],
    ) -> Result<()> {
        check_lengths(message.len(), sealed.len())?;
        let nonce = purpose.nonce(nonce)?;
        self.agree(peer)?.open(&nonce, sealed, message)
    }

    fn answer_hello(
        &self,
        client_short: &PublicKey,
        hello: &HelloBox,
        cookie: &mut dyn FnMut() -> Result<CookieMessage>,
    ) -> Result<(LongTermNonce, CookieBox)> {
        let shared = self.agree(client_short)?;
        let mut opened = HELLO_ZEROS;
        shared.open(&Purpose::Hello.nonce(&HELLO_COUNTER)?, hello, &mut opened)?;
        check_hello(&opened)?;
        let mut sealed = [0; _];
        let nonce = self.seal(&shared, Purpose::Cookie, &cookie()?, &mut sealed)?;
        Ok((nonce, sealed))
    }
}
