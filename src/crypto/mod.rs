//! Small safe types over libsodium: keys, boxes, secret boxes, random bytes, wiping, guarded
//! memory. No other module names libsodium.
//!
//! No function here knows about packets. All functions that take secrets run in constant time over
//! them, as libsodium's do. Every type that holds a secret wipes it when dropped, is not `Clone`,
//! and does not show it by `Debug`.

mod boxes;
mod key_slots;
mod keys;
mod memory;
mod message;
mod nonce_key;
mod passphrase;
#[cfg(feature = "test-util")]
pub mod test_util;

pub(crate) use boxes::{MinuteKey, SharedKey, fingerprint};
pub(crate) use key_slots::KeySlots;
pub(crate) use keys::EphemeralSecret;
pub use keys::{KEY_TEXT_LEN, PublicKey, SecretKey};
#[cfg(feature = "capi")]
pub(crate) use keys::{decode_key, encode_key};
#[cfg(feature = "pkcs11")]
pub(crate) use memory::Guarded;
pub(crate) use memory::Secret;
pub use memory::memory_locked;
pub(crate) use message::MessageKey;
pub(crate) use nonce_key::NonceKey;
pub use passphrase::Cost;
pub(crate) use passphrase::{PassphraseKey, SALT_BYTES};

use crate::error::{Error, Result};
use libsodium_sys as sodium;
use once_cell::sync::OnceCell;

/// Bytes in a public key, a secret key, a shared key and a minute key.
pub const KEY_BYTES: usize = 32;
/// The bytes that a box or a secret box adds to its message: the Poly1305 tag.
pub(crate) const TAG_BYTES: usize = 16;
/// Bytes in the nonce of a box or a secret box.
pub(crate) const NONCE_BYTES: usize = 24;

/// A nonce of a box or a secret box.
pub(crate) type Nonce = [u8; NONCE_BYTES];

/// Initialises libsodium once for the process. Everything that holds a secret calls this.
///
/// If another library has already initialised libsodium, that counts as done.
pub(crate) fn init() -> Result<()> {
    static READY: OnceCell<()> = OnceCell::new();
    READY
        .get_or_try_init(|| {
            crate::sys::watch_forks()?;
            // SAFETY: sodium_init takes nothing and may be called from any thread, any number of
            // times.
            if unsafe { sodium::sodium_init() } < 0 { Err(Error::CryptoUnavailable) } else { Ok(()) }
        })
        .copied()
}

/// Fills `bytes` from the system's random number generator (`randombytes_buf`).
pub(crate) fn random(bytes: &mut [u8]) -> Result<()> {
    init()?;
    #[cfg(feature = "test-util")]
    if test_util::take(bytes) {
        return Ok(());
    }
    // SAFETY: the pointer and the length are those of one exclusive slice.
    unsafe { sodium::randombytes_buf(bytes.as_mut_ptr().cast(), bytes.len()) };
    Ok(())
}

/// Returns whether two arrays are equal, in time that does not depend on their contents.
pub(crate) fn equal<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
    // SAFETY: both pointers are valid for N bytes.
    let differ = unsafe { sodium::sodium_memcmp(a.as_ptr().cast(), b.as_ptr().cast(), N) };
    public(differ) == 0
}

/// Passes on a value that is computed from secrets but may be known: a public key, whether a box
/// opened, whether two secrets are equal. Nothing else that is computed from a secret may decide
/// what is done next; tests/process/constant_time.rs checks this with valgrind.
#[inline(always)]
pub(crate) fn public<T: Copy>(value: T) -> T {
    #[cfg(feature = "test-util")]
    let value = test_util::publish(value);
    value
}

/// Overwrites what the calls that just returned to the caller of this function left on the stack
/// (`sodium_stackzero`).
///
/// Compilers spill registers, moves leave copies, and older versions of libsodium leave the raw
/// X25519 secret there. This must be called from the function that made those calls, so that its
/// own frame covers theirs.
#[inline(always)]
fn wipe_stack() {
    /// More than the deepest of these calls uses: X25519 takes under 4 KiB, expanding AES keys
    /// under 1 KiB.
    const DEPTH: usize = 8192;
    // SAFETY: it writes below the stack pointer alone, where nothing lives.
    unsafe { sodium::sodium_stackzero(DEPTH) }
}

/// Overwrites `bytes` with zeros in a way that the compiler does not remove.
pub(crate) fn wipe(bytes: &mut [u8]) {
    // SAFETY: the pointer and the length are those of one exclusive slice.
    unsafe { sodium::sodium_memzero(bytes.as_mut_ptr().cast(), bytes.len()) }
}
