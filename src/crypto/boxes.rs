//! Boxes and secret boxes, each with its tag before the ciphertext.

use super::memory::{Guarded, Secret};
use super::{KEY_BYTES, MessageKey, Nonce, PublicKey, TAG_BYTES, public, random, sodium, wipe_stack};
use crate::error::{Error, Result};

/// The key that two key pairs agree on, for every box between them (`crypto_box_beforenm`).
///
/// It lives for one step of a handshake. To be kept longer, it is copied to
/// [`KeySlots`](super::KeySlots).
pub(crate) struct SharedKey(pub(super) Secret<KEY_BYTES>);

impl SharedKey {
    pub(super) fn agree(secret: &[u8; KEY_BYTES], peer: &PublicKey) -> Result<SharedKey> {
        #[cfg(feature = "test-util")]
        super::test_util::count_agreement();
        let mut shared = Secret::zeroed()?;
        // SAFETY: all three are 32 bytes.
        let agreed = unsafe {
            sodium::crypto_box_beforenm(shared.bytes_mut().as_mut_ptr(), peer.0.as_ptr(), secret.as_ptr())
        };
        wipe_stack();
        if public(agreed) == 0 { Ok(SharedKey(shared)) } else { Err(Error::WeakKey) }
    }

    /// Returns the shared key of an agreement that was made elsewhere. This is
    /// `crypto_box_beforenm` after its scalar multiplication.
    ///
    /// `raw` is the output of X25519; `WeakKey` if it is all zeros, as it is for a public key of
    /// low order.
    #[cfg(feature = "pkcs11")]
    pub(crate) fn of_agreement(raw: &Secret<KEY_BYTES>) -> Result<SharedKey> {
        let (mut shared, zeros) = (Secret::zeroed()?, [0; KEY_BYTES]);
        if super::equal(raw.bytes(), &zeros) {
            return Err(Error::WeakKey);
        }
        // SAFETY: output and key have 32 bytes, the input 16 at least; a NULL constant means
        // Salsa20's own.
        unsafe {
            sodium::crypto_core_hsalsa20(
                shared.bytes_mut().as_mut_ptr(),
                zeros.as_ptr(),
                raw.bytes().as_ptr(),
                std::ptr::null(),
            );
        }
        wipe_stack();
        Ok(SharedKey(shared))
    }

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
        #[cfg(feature = "test-util")]
        super::test_util::count_opening();
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

    /// Returns the key of all boxes whose nonces begin with `prefix`.
    pub(crate) fn message_key(&self, prefix: &[u8; 16]) -> Result<MessageKey> {
        MessageKey::derive(self.0.bytes(), prefix)
    }
}

/// A minute key: secret boxes under a random key in guarded memory.
pub(crate) struct MinuteKey(Guarded<KEY_BYTES>);

impl MinuteKey {
    /// Makes a new random key.
    pub(crate) fn generate() -> Result<MinuteKey> {
        Ok(MinuteKey(Guarded::new_with(|bytes| random(bytes))?))
    }

    /// Seals `message` into `out`.
    pub(crate) fn seal<const M: usize>(&self, nonce: &Nonce, message: &[u8; M], out: &mut [u8]) {
        secretbox_seal(self.0.bytes(), nonce, message, out);
    }

    /// Opens `sealed` into `out`; false if it does not open.
    pub(crate) fn open<const M: usize>(&self, nonce: &Nonce, sealed: &[u8], out: &mut [u8; M]) -> bool {
        secretbox_open(self.0.bytes(), nonce, sealed, out)
    }
}

/// Seals `message` into `out` (`crypto_secretbox_easy`).
///
/// # Panics
/// If `out` is not exactly 16 bytes longer than `message`.
pub(super) fn secretbox_seal(key: &[u8; KEY_BYTES], nonce: &Nonce, message: &[u8], out: &mut [u8]) {
    assert_eq!(out.len(), message.len() + TAG_BYTES, "a secret box is 16 bytes longer than its message");
    // SAFETY: lengths checked above; the key has 32 bytes and the nonce 24.
    unsafe {
        sodium::crypto_secretbox_easy(
            out.as_mut_ptr(),
            message.as_ptr(),
            message.len() as u64,
            nonce.as_ptr(),
            key.as_ptr(),
        );
    }
}

/// Opens `sealed` into `out` (`crypto_secretbox_open_easy`); false if it does not open.
///
/// # Panics
/// If `sealed` is not exactly 16 bytes longer than `out`.
pub(super) fn secretbox_open(key: &[u8; KEY_BYTES], nonce: &Nonce, sealed: &[u8], out: &mut [u8]) -> bool {
    assert_eq!(sealed.len(), out.len() + TAG_BYTES, "a secret box is 16 bytes longer than its message");
    // SAFETY: lengths checked above; the key has 32 bytes and the nonce 24.
    let opened = unsafe {
        sodium::crypto_secretbox_open_easy(
            out.as_mut_ptr(),
            sealed.as_ptr(),
            sealed.len() as u64,
            nonce.as_ptr(),
            key.as_ptr(),
        )
    };
    public(opened) == 0
}

/// Returns a 32-byte BLAKE2b digest (`crypto_generichash`) of `bytes`, for a later comparison.
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
