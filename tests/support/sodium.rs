//! libsodium called directly: boxes made and opened without the crate, for peers built by hand.
#![allow(unsafe_code, reason = "libsodium is C")]

use libsodium_sys as sodium;

pub const KEY_BYTES: usize = 32;
pub const NONCE_BYTES: usize = 24;
pub const TAG_BYTES: usize = 16;

fn init() {
    // SAFETY: takes nothing; may be called any number of times from any thread.
    assert!(unsafe { sodium::sodium_init() } >= 0);
}

/// A random 32-byte secret key and its public key.
pub fn keypair() -> ([u8; KEY_BYTES], [u8; KEY_BYTES]) {
    let (mut public, mut secret) = ([0; KEY_BYTES], [0; KEY_BYTES]);
    init();
    // SAFETY: both have room for 32 bytes.
    unsafe { sodium::crypto_box_keypair(public.as_mut_ptr(), secret.as_mut_ptr()) };
    (public, secret)
}

/// The public key of a secret one (`crypto_scalarmult_base`).
pub fn public_of(secret: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    let mut public = [0; KEY_BYTES];
    init();
    // SAFETY: both are 32 bytes.
    assert_eq!(unsafe { sodium::crypto_scalarmult_base(public.as_mut_ptr(), secret.as_ptr()) }, 0);
    public
}

/// A nonce from its prefix and the rest.
pub fn nonce(prefix: &[u8], rest: &[u8]) -> [u8; NONCE_BYTES] {
    [prefix, rest].concat().try_into().expect("24 bytes together")
}

/// The key of all boxes between two key pairs, or of secret boxes.
pub struct BoxKey([u8; KEY_BYTES]);

impl BoxKey {
    pub fn random() -> BoxKey {
        BoxKey(keypair().1)
    }

    /// `crypto_box_beforenm`; `None` for a public key of low order.
    pub fn agree(secret: &[u8; KEY_BYTES], public: &[u8; KEY_BYTES]) -> Option<BoxKey> {
        let mut shared = [0; KEY_BYTES];
        init();
        // SAFETY: all three are 32 bytes.
        let agreed =
            unsafe { sodium::crypto_box_beforenm(shared.as_mut_ptr(), public.as_ptr(), secret.as_ptr()) };
        (agreed == 0).then_some(BoxKey(shared))
    }

    pub fn into_bytes(self) -> [u8; KEY_BYTES] {
        self.0
    }

    /// Returns the key that a public key of low order would lead to if it were not checked:
    /// HSalsa20 of zeros.
    pub fn of_zeros() -> BoxKey {
        let (mut shared, zeros) = ([0; KEY_BYTES], [0; KEY_BYTES]);
        init();
        // SAFETY: output and key have 32 bytes, the input at least 16; a NULL constant selects
        // Salsa20's own.
        unsafe {
            sodium::crypto_core_hsalsa20(
                shared.as_mut_ptr(),
                zeros.as_ptr(),
                zeros.as_ptr(),
                std::ptr::null(),
            )
        };
        BoxKey(shared)
    }

    /// Seals into `out`, 16 bytes longer (`crypto_box_easy_afternm`, which is `crypto_secretbox_easy` of this key).
    #[inline]
    pub fn seal(&self, nonce: &[u8; NONCE_BYTES], message: &[u8], out: &mut [u8]) {
        assert_eq!(out.len(), message.len() + TAG_BYTES);
        // SAFETY: lengths checked above; the key has 32 bytes and the nonce 24.
        let sealed = unsafe {
            sodium::crypto_box_easy_afternm(
                out.as_mut_ptr(),
                message.as_ptr(),
                message.len() as u64,
                nonce.as_ptr(),
                self.0.as_ptr(),
            )
        };
        assert_eq!(sealed, 0);
    }

    /// Returns the box of `message`, newly allocated.
    pub fn sealed(&self, nonce: &[u8; NONCE_BYTES], message: &[u8]) -> Vec<u8> {
        let mut out = vec![0; message.len() + TAG_BYTES];
        self.seal(nonce, message, &mut out);
        out
    }

    /// Opens `sealed` into `out`, 16 bytes shorter (`crypto_box_open_easy_afternm`); false if it does not open.
    #[inline]
    pub fn open(&self, nonce: &[u8; NONCE_BYTES], sealed: &[u8], out: &mut [u8]) -> bool {
        assert_eq!(sealed.len(), out.len() + TAG_BYTES);
        // SAFETY: lengths checked above; the key has 32 bytes and the nonce 24.
        unsafe {
            sodium::crypto_box_open_easy_afternm(
                out.as_mut_ptr(),
                sealed.as_ptr(),
                sealed.len() as u64,
                nonce.as_ptr(),
                self.0.as_ptr(),
            ) == 0
        }
    }

    /// Returns the contents of `sealed`, newly allocated; `None` if it does not open.
    pub fn opened(&self, nonce: &[u8; NONCE_BYTES], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut message = vec![0; sealed.len().checked_sub(TAG_BYTES)?];
        self.open(nonce, sealed, &mut message).then_some(message)
    }
}

/// The 32-byte BLAKE2b digest (`crypto_generichash`).
pub fn blake2b(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    init();
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
