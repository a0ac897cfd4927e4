//! The vault whose key lives in this process's guarded memory.

use super::{LocalKey, LongTermNonce, LongTermNonces, Purpose, Vault};
use crate::crypto::{KEY_BYTES, PublicKey, SecretKey};
use crate::error::Result;
use crate::protocol::packet::{CookieBox, CookieMessage, HelloBox};

/// A vault in memory: its key is gone when it is dropped.
///
/// Key pair, counter and nonce block key are the seed's; each instance has a
/// block key of its own, so two vaults over one secret key do not collide.
pub struct MemoryVault(LocalKey);

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
        Ok(MemoryVault(LocalKey::new(secret, LongTermNonces::new()?)?))
    }

    /// The key and its nonces, for the two steps of a box in Erlang.
    #[cfg(feature = "nif")]
    pub(crate) fn local(&self) -> &LocalKey {
        &self.0
    }
}

impl Vault for MemoryVault {
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

    fn forget_agreements(&self) {
        self.0.forget_agreements();
    }
}
