//! The block cipher that encrypts long-term nonces.

use super::memory::Guarded;
use super::{KEY_BYTES, random, wipe_stack};
use crate::error::Result;
use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};

/// The vault's nonce block key, for AES-256 on a single block. This is a permutation, so distinct
/// counters give distinct nonces, and a nonce does not show its counter.
pub(crate) struct NonceKey(Guarded<KEY_BYTES>);

impl NonceKey {
    /// Makes a new random key.
    pub(crate) fn generate() -> Result<NonceKey> {
        Ok(NonceKey(Guarded::new_with(|bytes| random(bytes))?))
    }

    /// Returns a guarded copy of `bytes`.
    pub(crate) fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Result<NonceKey> {
        Ok(NonceKey(Guarded::copy_of(bytes)?))
    }

    /// Returns the bytes of the key, to be stored.
    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.0.bytes()
    }

    /// Enciphers `block`. The key schedule lives for this call only.
    pub(crate) fn encipher(&self, block: [u8; 16]) -> [u8; 16] {
        let block = self.encipher_on_stack(block);
        wipe_stack();
        block
    }

    /// Enciphers `block`, and leaves parts of the key schedule on the stack: `aes` wipes the
    /// schedule where it ends up, but not where it was before a move.
    #[inline(never)]
    fn encipher_on_stack(&self, block: [u8; 16]) -> [u8; 16] {
        let mut block = block.into();
        Aes256::new(self.0.bytes().into()).encrypt_block(&mut block);
        block.into()
    }

    /// Undoes [`NonceKey::encipher`], for the project's tests.
    #[cfg(feature = "test-util")]
    pub(crate) fn decipher(&self, block: [u8; 16]) -> [u8; 16] {
        use aes::cipher::BlockCipherDecrypt;
        let mut block = block.into();
        Aes256::new(self.0.bytes().into()).decrypt_block(&mut block);
        block.into()
    }
}
