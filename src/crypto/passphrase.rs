//! Keys that are derived from passphrases.

use super::boxes::{secretbox_open, secretbox_seal};
use super::memory::Secret;
use super::{KEY_BYTES, Nonce, sodium, wipe_stack};
use crate::error::{Error, Result};

/// Bytes of salt.
pub(crate) const SALT_BYTES: usize = sodium::crypto_pwhash_SALTBYTES as usize;

/// The cost of deriving a key from a passphrase, for its owner and for everyone who guesses: the
/// parameters of libsodium's Argon2id.
///
/// The three named costs are libsodium's. On a machine of 2020 they take about 0.1, 0.7 and 3.5
/// seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Passes over the memory: 1 to 65,536.
    pub operations: u64,
    /// Memory in bytes: 8,192 to 4,294,967,296.
    pub memory: u64,
}

impl Cost {
    /// Two passes over 64 MiB.
    pub const INTERACTIVE: Cost = Cost {
        operations: sodium::crypto_pwhash_OPSLIMIT_INTERACTIVE as u64,
        memory: sodium::crypto_pwhash_MEMLIMIT_INTERACTIVE as u64,
    };
    /// Three passes over 256 MiB.
    pub const MODERATE: Cost = Cost {
        operations: sodium::crypto_pwhash_OPSLIMIT_MODERATE as u64,
        memory: sodium::crypto_pwhash_MEMLIMIT_MODERATE as u64,
    };
    /// Four passes over 1 GiB.
    pub const SENSITIVE: Cost = Cost {
        operations: sodium::crypto_pwhash_OPSLIMIT_SENSITIVE as u64,
        memory: sodium::crypto_pwhash_MEMLIMIT_SENSITIVE as u64,
    };

    /// Returns `InvalidArgument` if a value is outside its documented range.
    pub(crate) fn check(self) -> Result<()> {
        let fits = (1..=1 << 16).contains(&self.operations) && (8192..=1 << 32).contains(&self.memory);
        if fits { Ok(()) } else { Err(Error::InvalidArgument) }
    }
}

impl Default for Cost {
    /// Returns [`Cost::MODERATE`].
    fn default() -> Cost {
        Cost::MODERATE
    }
}

/// A key derived from a passphrase, for secret boxes.
pub(crate) struct PassphraseKey(Secret<KEY_BYTES>);

impl PassphraseKey {
    /// Derives a key (`crypto_pwhash` with Argon2id); `OutOfMemory` if there is too little memory
    /// for the cost.
    pub(crate) fn derive(passphrase: &[u8], salt: &[u8; SALT_BYTES], cost: Cost) -> Result<PassphraseKey> {
        cost.check()?;
        let memory = usize::try_from(cost.memory).map_err(|_| Error::OutOfMemory)?;
        let mut key = Secret::zeroed()?;
        // SAFETY: every pointer is valid for the length beside it, the salt has its 16 bytes.
        let made = unsafe {
            sodium::crypto_pwhash(
                key.bytes_mut().as_mut_ptr(),
                KEY_BYTES as u64,
                passphrase.as_ptr().cast(),
                passphrase.len() as u64,
                salt.as_ptr(),
                cost.operations,
                memory,
                sodium::crypto_pwhash_ALG_ARGON2ID13 as i32,
            )
        };
        wipe_stack();
        if made == 0 { Ok(PassphraseKey(key)) } else { Err(Error::OutOfMemory) }
    }

    /// Seals `message` into `out`, which is 16 bytes longer.
    pub(crate) fn seal(&self, nonce: &Nonce, message: &[u8], out: &mut [u8]) {
        secretbox_seal(self.0.bytes(), nonce, message, out);
    }

    /// Opens `sealed` into `out`, which is 16 bytes shorter; false if it does not open.
    pub(crate) fn open(&self, nonce: &Nonce, sealed: &[u8], out: &mut [u8]) -> bool {
        secretbox_open(self.0.bytes(), nonce, sealed, out)
    }
}
