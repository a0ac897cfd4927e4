//! The vault whose key lives in this process's guarded memory.

use super::{LocalKey, LongTermNonces, vault_over_local_key};
use crate::crypto::{KEY_BYTES, SecretKey};
use crate::error::Result;

/// A vault in memory: its key is gone when it is dropped.
///
/// Key pair, counter and nonce block key are the original's; each instance has a different block
/// key, so two vaults over one secret key do not collide.
pub struct MemoryVault(LocalKey);

impl MemoryVault {
    /// Makes a vault with a new random key.
    ///
    /// # Errors
    /// `OutOfMemory`, `CryptoUnavailable`.
    pub fn generate() -> Result<MemoryVault> {
        Self::new(SecretKey::generate()?)
    }

    /// Makes a vault over a copy of `secret`; the caller wipes the original.
    ///
    /// # Errors
    /// `OutOfMemory`, `CryptoUnavailable`.
    pub fn from_secret(secret: &[u8; KEY_BYTES]) -> Result<MemoryVault> {
        Self::new(SecretKey::from_bytes(secret)?)
    }

    /// Makes a vault over `secret`.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(secret: SecretKey) -> Result<MemoryVault> {
        Ok(MemoryVault(LocalKey::new(secret, LongTermNonces::new()?)?))
    }
}

vault_over_local_key!(MemoryVault, false);
