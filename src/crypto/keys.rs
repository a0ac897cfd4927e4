//! Curve25519 keys and their text form.

use super::memory::{Guarded, Secret};
use super::{KEY_BYTES, SharedKey, equal, public, random, sodium, wipe, wipe_stack};
use crate::error::{Error, Result};
use std::{fmt, str::FromStr};

/// Characters in the text form of a key: base64 (RFC 4648, section 4) with its padding.
pub const KEY_TEXT_LEN: usize = 44;

const BASE64: i32 = sodium::sodium_base64_VARIANT_ORIGINAL as i32;

/// A Curve25519 public key.
///
/// It prints as, and parses from, 44 characters of base64. The C header, the tools, the registry
/// file and Erlang share this form. Any 32 bytes are a value of this type; a key of low order is
/// refused where it would be used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; KEY_BYTES]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = encode_key(&self.0);
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    /// Parses exactly 44 characters of canonical base64; returns `Error::BadKeyText` for anything
    /// else.
    fn from_str(text: &str) -> Result<PublicKey> {
        let mut key = PublicKey([0; KEY_BYTES]);
        decode_key(text.as_bytes(), &mut key.0)?;
        Ok(key)
    }
}

/// Returns the text form of a key, public or secret, without a terminating zero. Takes constant
/// time.
pub(crate) fn encode_key(key: &[u8; KEY_BYTES]) -> [u8; KEY_TEXT_LEN] {
    let mut text = [0u8; KEY_TEXT_LEN + 1];
    // SAFETY: `text` has room for the 44 characters and the zero that libsodium writes.
    unsafe {
        sodium::sodium_bin2base64(text.as_mut_ptr().cast(), text.len(), key.as_ptr(), KEY_BYTES, BASE64);
    }
    let mut out = [0; KEY_TEXT_LEN];
    out.copy_from_slice(&text[..KEY_TEXT_LEN]);
    wipe(&mut text);
    out
}

/// Parses the text form of a key, public or secret, into `key`, which keeps its value on failure.
/// Takes constant time over the characters of a well-formed text.
pub(crate) fn decode_key(text: &[u8], key: &mut [u8; KEY_BYTES]) -> Result<()> {
    if text.len() != KEY_TEXT_LEN {
        return Err(Error::BadKeyText);
    }
    let (mut bytes, mut len) = ([0u8; KEY_BYTES + 1], 0);
    // SAFETY: every pointer is valid for the length beside it; a NULL `ignore` ignores nothing, and
    // a NULL `b64_end` makes libsodium refuse what it could not read to the end.
    let read = unsafe {
        sodium::sodium_base642bin(
            bytes.as_mut_ptr(),
            bytes.len(),
            text.as_ptr().cast(),
            text.len(),
            std::ptr::null(),
            &mut len,
            std::ptr::null_mut(),
            BASE64,
        )
    };
    let (read, len) = public((read, len));
    let ok = read == 0 && len == KEY_BYTES;
    if ok {
        key.copy_from_slice(&bytes[..KEY_BYTES]);
    }
    wipe(&mut bytes);
    if ok { Ok(()) } else { Err(Error::BadKeyText) }
}

/// Returns the public key of `secret` (`crypto_scalarmult_base`).
fn public_of(secret: &[u8; KEY_BYTES]) -> Result<PublicKey> {
    let mut key = [0; KEY_BYTES];
    // SAFETY: both are 32 bytes.
    let made = unsafe { sodium::crypto_scalarmult_base(key.as_mut_ptr(), secret.as_ptr()) };
    wipe_stack();
    if public(made) == 0 { Ok(PublicKey(public(key))) } else { Err(Error::WeakKey) }
}

/// A long-term secret key, in guarded memory until dropped.
pub struct SecretKey(Guarded<KEY_BYTES>);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl SecretKey {
    /// Makes a new random key.
    ///
    /// # Errors
    /// `OutOfMemory`, `CryptoUnavailable`.
    pub fn generate() -> Result<SecretKey> {
        Ok(SecretKey(Guarded::new_with(|bytes| random(bytes))?))
    }

    /// Returns a guarded copy of `bytes`. The caller wipes the original.
    ///
    /// # Errors
    /// `OutOfMemory`, `CryptoUnavailable`.
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Result<SecretKey> {
        Ok(SecretKey(Guarded::copy_of(bytes)?))
    }

    /// Copies the key out, for its owner to print or store and then wipe.
    ///
    /// A vault has no such method; this is for programs that make keys.
    pub fn expose(&self, out: &mut [u8; KEY_BYTES]) {
        out.copy_from_slice(self.0.bytes());
    }

    /// Returns a guarded copy of a key that is given in its text form. The caller wipes the
    /// original.
    ///
    /// # Errors
    /// `BadKeyText` for anything but exactly 44 characters of canonical base64, `OutOfMemory`,
    /// `CryptoUnavailable`.
    pub fn from_text(text: &[u8]) -> Result<SecretKey> {
        Ok(SecretKey(Guarded::new_with(|bytes| decode_key(text, bytes))?))
    }

    /// Copies the key out in its text form; see [`SecretKey::expose`].
    pub fn expose_text(&self, out: &mut [u8; KEY_TEXT_LEN]) {
        let mut text = encode_key(self.0.bytes());
        out.copy_from_slice(&text);
        wipe(&mut text);
    }

    /// Returns the public key that belongs to this key.
    ///
    /// # Errors
    /// `WeakKey` if libsodium could not multiply, which is never seen in practice.
    pub fn public_key(&self) -> Result<PublicKey> {
        public_of(self.0.bytes())
    }

    /// Returns the bytes of the key, to be stored.
    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.0.bytes()
    }

    /// Returns the shared key with the holder of `public`; `WeakKey` if `public` is of low order.
    pub(crate) fn agree(&self, public: &PublicKey) -> Result<SharedKey> {
        SharedKey::agree(self.0.bytes(), public)
    }
}

/// The secret key of one connection.
pub(crate) struct EphemeralSecret(Secret<KEY_BYTES>);

impl EphemeralSecret {
    /// Makes a new key pair (`crypto_box_keypair`, in its two steps).
    pub(crate) fn generate() -> Result<(PublicKey, EphemeralSecret)> {
        let mut secret = Secret::zeroed()?;
        random(secret.bytes_mut())?;
        Ok((public_of(secret.bytes())?, EphemeralSecret(secret)))
    }

    /// Returns a copy of `bytes`.
    pub(crate) fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Result<EphemeralSecret> {
        let mut secret = Secret::zeroed()?;
        secret.bytes_mut().copy_from_slice(bytes);
        Ok(EphemeralSecret(secret))
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.0.bytes()
    }

    /// Returns the shared key with the holder of `public`; `WeakKey` if `public` is of low order.
    pub(crate) fn agree(&self, public: &PublicKey) -> Result<SharedKey> {
        SharedKey::agree(self.0.bytes(), public)
    }
}

impl PublicKey {
    /// The base point, with `u` = 9: every public key is a multiple of it.
    #[cfg(feature = "pkcs11")]
    pub(crate) const BASE_POINT: PublicKey = {
        let mut bytes = [0; KEY_BYTES];
        bytes[0] = 9;
        PublicKey(bytes)
    };

    /// Returns whether the key is of low order, so that no secret can be agreed with it.
    #[cfg(feature = "pkcs11")]
    pub(crate) fn is_weak(&self) -> bool {
        // Any scalar shows this, because X25519 clears the bits that would hide it.
        let mut product = [0; KEY_BYTES];
        // SAFETY: all three are 32 bytes.
        unsafe {
            sodium::crypto_scalarmult(product.as_mut_ptr(), [1; KEY_BYTES].as_ptr(), self.0.as_ptr()) != 0
        }
    }

    /// Returns whether two keys are equal, in constant time.
    pub(crate) fn is(&self, other: &PublicKey) -> bool {
        equal(&self.0, &other.0)
    }
}
