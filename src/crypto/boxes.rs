//! Boxes and secret boxes, each with its tag before the ciphertext.

use super::memory::{Guarded, Memory, Secret};
use super::{KEY_BYTES, MessageKey, Nonce, PublicKey, TAG_BYTES, public, random, sodium, wipe_stack};
use crate::error::{Error, Result};

/// What two key pairs agree on: the key of every box between them (`crypto_box_beforenm`).
///
/// It lives for one step of a handshake on the heap, or for longer in guarded memory.
pub(crate) struct SharedKey<M: Memory = Secret<KEY_BYTES>>(M);

impl SharedKey {
    pub(super) fn agree(secret: &[u8; KEY_BYTES], peer: &PublicKey) -> Result<SharedKey> {
        #[cfg(feature = "inject")]
        super::inject::count_agreement();
        let mut shared = Secret::zeroed()?;
        // SAFETY: all three are 32 bytes.
        let agreed = unsafe {
            sodium::crypto_box_beforenm(shared.bytes_mut().as_mut_ptr(), peer.0.as_ptr(), secret.as_ptr())
        };
        wipe_stack();
        if public(agreed) == 0 { Ok(SharedKey(shared)) } else { Err(Error::WeakKey) }
    }

    /// A copy to keep, in guarded memory.
    pub(crate) fn guarded(&self) -> Result<SharedKey<Guarded<KEY_BYTES>>> {
        Ok(SharedKey(Guarded::copy_of(self.0.bytes())?))
    }
}

impl<M: Memory> SharedKey<M> {
    /// Seals `message` into `out` (`crypto_box_easy_afternm`).
    ///
    /// # Panics
    /// If `out` is not exactly 16 bytes longer than `message`.
    pub(crate) fn seal(&self, nonce: &Nonce, message: &[u8], out: &mut [u8]) {
        assert_eq!(out.len(), message.len() + TAG_BYTES, "a box is 16 bytes longer than its message");
        // SAFETY: lengths checked above; the key has 32 bytes and the nonce 24.
        unsafe {
            sodium::crypto_box_easy_afternm(
                out.as_mut_ptr(),
                message.as_ptr(),
                message.len() as u64,
                nonce.as_ptr(),
                self.0.bytes().as_ptr(),
            );
        }
    }

    /// Opens `sealed` into `out` (`crypto_box_open_easy_afternm`); `BadPacket` if it does not open.
    ///
    /// # Panics
    /// If `sealed` is not exactly 16 bytes longer than `out`.
    pub(crate) fn open(&self, nonce: &Nonce, sealed: &[u8], out: &mut [u8]) -> Result<()> {
        assert_eq!(sealed.len(), out.len() + TAG_BYTES, "a box is 16 bytes longer than its message");
        // SAFETY: lengths checked above; the key has 32 bytes and the nonce 24.
        let opened = unsafe {
            sodium::crypto_box_open_easy_afternm(
                out.as_mut_ptr(),
                sealed.as_ptr(),
                sealed.len() as u64,
                nonce.as_ptr(),
                self.0.bytes().as_ptr(),
            )
        };
        if public(opened) == 0 { Ok(()) } else { Err(Error::BadPacket) }
    }

    /// The key of all boxes whose nonce begins with `prefix`.
    pub(crate) fn message_key(&self, prefix: &[u8; 16]) -> Result<MessageKey> {
        MessageKey::derive(self.0.bytes(), prefix)
    }
}

/// A minute key: secret boxes under a random key in guarded memory.
pub(crate) struct MinuteKey(Guarded<KEY_BYTES>);

impl MinuteKey {
    /// A new random key.
    pub(crate) fn generate() -> Result<MinuteKey> {
        Ok(MinuteKey(Guarded::new_with(|bytes| random(bytes))?))
    }

    /// Seals `message` into `out` (`crypto_secretbox_easy`).
    pub(crate) fn seal<const M: usize>(&self, nonce: &Nonce, message: &[u8; M], out: &mut [u8]) {
        assert_eq!(out.len(), M + TAG_BYTES, "a secret box is 16 bytes longer than its message");
        // SAFETY: lengths checked above; the key has 32 bytes and the nonce 24.
        unsafe {
            sodium::crypto_secretbox_easy(
                out.as_mut_ptr(),
                message.as_ptr(),
                M as u64,
                nonce.as_ptr(),
                self.0.bytes().as_ptr(),
            );
        }
    }

    /// Opens `sealed` into `out` (`crypto_secretbox_open_easy`); false if it does not open.
    pub(crate) fn open<const M: usize>(&self, nonce: &Nonce, sealed: &[u8], out: &mut [u8; M]) -> bool {
        assert_eq!(sealed.len(), M + TAG_BYTES, "a secret box is 16 bytes longer than its message");
        // SAFETY: lengths checked above; the key has 32 bytes and the nonce 24.
        let opened = unsafe {
            sodium::crypto_secretbox_open_easy(
                out.as_mut_ptr(),
                sealed.as_ptr(),
                sealed.len() as u64,
                nonce.as_ptr(),
                self.0.bytes().as_ptr(),
            )
        };
        public(opened) == 0
    }
}

/// A 32-byte BLAKE2b digest (`crypto_generichash`) that stands for `bytes` in a later comparison.
pub(crate) fn fingerprint(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    // SAFETY: the pointers are valid for the lengths beside them; no key is given.
    unsafe {
        sodium::crypto_generichash(
            digest.as_mut_ptr(),
            digest.len(),
            bytes.as_ptr(),
            bytes.len() as u64,
            std::ptr::null(),
            0,
        );
    }
    digest
}
