//! The first page of a vault's file: the keys, written once.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 16 | `curve_tun vault` and a line feed |
//! | 16 | 4 | version, 1 |
//! | 20 | 4 | kind: 0 plain, 1 sealed by a passphrase, 2 the state of a key in a token |
//! | 24 | 8 | kind 1: Argon2id's operations, else 0 |
//! | 32 | 8 | kind 1: Argon2id's memory in bytes, else 0 |
//! | 40 | 16 | kind 1: Argon2id's salt, else 0 |
//! | 56 | 24 | kind 1: the secret box's nonce, else 0 |
//! | 80 | 32 | public key |
//! | 112 | 80 | secret key (32; kind 2: zeros), nonce block key (32), zeros (16); kind 1: the secret box of the first two |
//! | 192 | 32 | BLAKE2b of all bytes before it |
//!
//! Integers are big-endian. The rest of the page is zeros, and is not read.

use crate::crypto::{
    Cost, KEY_BYTES, Nonce, NonceKey, PassphraseKey, PublicKey, SALT_BYTES, Secret, SecretKey, TAG_BYTES,
    fingerprint, random,
};
use crate::error::{Error, Result};
use std::ops::Range;

const MAGIC: &[u8; 16] = b"curve_tun vault\n";
const THIS_VERSION: u32 = 1;

const VERSION: Range<usize> = 16..20;
const KIND: Range<usize> = 20..24;
const OPERATIONS: Range<usize> = 24..32;
const MEMORY: Range<usize> = 32..40;
const SALT: Range<usize> = 40..40 + SALT_BYTES;
const NONCE: Range<usize> = 56..56 + size_of::<Nonce>();
const PUBLIC: Range<usize> = 80..80 + KEY_BYTES;
const BODY: Range<usize> = 112..112 + KEYS_LEN + TAG_BYTES;
const CHECKSUM: Range<usize> = 192..HEADER_LEN;

/// Bytes of the two keys.
const KEYS_LEN: usize = 2 * KEY_BYTES;
/// Bytes of the header.
pub(super) const HEADER_LEN: usize = 224;

/// What protects the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The file's permissions alone.
    Plain = 0,
    /// A passphrase.
    Sealed = 1,
    /// A token holds the secret key; the file has the nonce block key only.
    Token = 2,
}

/// A header whose checksum was verified.
pub(crate) struct Header(Secret<HEADER_LEN>);

impl Header {
    /// Makes the header of a new vault in a file.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty passphrase or a cost out of range, `OutOfMemory`.
    pub(crate) fn of_keys(
        secret: &SecretKey,
        nonce_key: &NonceKey,
        passphrase: Option<&[u8]>,
        cost: Cost,
    ) -> Result<Header> {
        let mut keys = Secret::<KEYS_LEN>::zeroed()?;
        let (secret_part, nonce_part) = keys.bytes_mut().split_at_mut(KEY_BYTES);
        secret_part.copy_from_slice(secret.bytes());
        nonce_part.copy_from_slice(nonce_key.bytes());
        let Some(passphrase) = passphrase else {
            return Header::build(Kind::Plain, &secret.public_key()?, |bytes| {
                bytes[BODY][..KEYS_LEN].copy_from_slice(keys.bytes());
                Ok(())
            });
        };
        if passphrase.is_empty() {
            return Err(Error::InvalidArgument);
        }
        Header::build(Kind::Sealed, &secret.public_key()?, |bytes| {
            bytes[OPERATIONS].copy_from_slice(&cost.operations.to_be_bytes());
            bytes[MEMORY].copy_from_slice(&cost.memory.to_be_bytes());
            random(&mut bytes[SALT])?;
            random(&mut bytes[NONCE])?;
            let key = PassphraseKey::derive(passphrase, &field(bytes, SALT), cost)?;
            let nonce = field(bytes, NONCE);
            key.seal(&nonce, keys.bytes(), &mut bytes[BODY]);
            Ok(())
        })
    }

    /// Makes the header of the state of a key in a token.
    #[cfg(feature = "pkcs11")]
    pub(crate) fn of_token(public: &PublicKey, nonce_key: &NonceKey) -> Result<Header> {
        Header::build(Kind::Token, public, |bytes| {
            bytes[BODY][KEY_BYTES..KEYS_LEN].copy_from_slice(nonce_key.bytes());
            Ok(())
        })
    }

    fn build(
        kind: Kind,
        public: &PublicKey,
        fill: impl FnOnce(&mut [u8; HEADER_LEN]) -> Result<()>,
    ) -> Result<Header> {
        let mut header = Secret::<HEADER_LEN>::zeroed()?;
        let bytes = header.bytes_mut();
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[VERSION].copy_from_slice(&THIS_VERSION.to_be_bytes());
        bytes[KIND].copy_from_slice(&(kind as u32).to_be_bytes());
        bytes[PUBLIC].copy_from_slice(&public.0);
        fill(bytes)?;
        let checksum = fingerprint(&bytes[..CHECKSUM.start]);
        bytes[CHECKSUM].copy_from_slice(&checksum);
        Ok(Header(header))
    }

    /// Returns `VaultCorrupt` unless all of it is as [`Header::build`] makes it, `VaultVersion` if
    /// it is of a later version.
    pub(super) fn parse(header: Secret<HEADER_LEN>) -> Result<Header> {
        let bytes = header.bytes();
        if !bytes.starts_with(MAGIC) {
            return Err(Error::VaultCorrupt);
        }
        // A later version may have its checksum elsewhere.
        if u32::from_be_bytes(field(bytes, VERSION)) > THIS_VERSION {
            return Err(Error::VaultVersion);
        }
        let genuine = fingerprint(&bytes[..CHECKSUM.start]) == field(bytes, CHECKSUM);
        let header = Header(header);
        let known = header.kind().is_some_and(|kind| kind != Kind::Sealed || header.cost().check().is_ok());
        if genuine && known && u32::from_be_bytes(field(header.bytes(), VERSION)) == THIS_VERSION {
            Ok(header)
        } else {
            Err(Error::VaultCorrupt)
        }
    }

    pub(super) fn bytes(&self) -> &[u8; HEADER_LEN] {
        self.0.bytes()
    }

    /// Returns the checksum that ties the slots of the counter log to this header.
    pub(super) fn checksum(&self) -> [u8; 32] {
        field(self.bytes(), CHECKSUM)
    }

    /// Returns the kind; `None` for a number that is no kind.
    pub(crate) fn kind(&self) -> Option<Kind> {
        let number = u32::from_be_bytes(field(self.bytes(), KIND));
        [Kind::Plain, Kind::Sealed, Kind::Token].into_iter().find(|kind| *kind as u32 == number)
    }

    /// Returns the public key, as the file says it.
    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey(field(self.bytes(), PUBLIC))
    }

    /// Returns the cost at which a sealed vault is sealed.
    pub(crate) fn cost(&self) -> Cost {
        Cost {
            operations: u64::from_be_bytes(field(self.bytes(), OPERATIONS)),
            memory: u64::from_be_bytes(field(self.bytes(), MEMORY)),
        }
    }

    /// Returns the keys of a vault in a file.
    ///
    /// # Errors
    /// `WrongPassphrase` if the passphrase does not open it, is missing, or is given for a plain
    /// vault; `VaultCorrupt` if the keys are not those of the public key, or for the state of a
    /// token; `OutOfMemory`.
    pub(crate) fn keys(&self, passphrase: Option<&[u8]>) -> Result<(SecretKey, NonceKey)> {
        let mut keys = Secret::<KEYS_LEN>::zeroed()?;
        match (self.kind(), passphrase) {
            (Some(Kind::Plain), None) => keys.bytes_mut().copy_from_slice(&self.bytes()[BODY][..KEYS_LEN]),
            (Some(Kind::Sealed), Some(passphrase)) => {
                let key = PassphraseKey::derive(passphrase, &field(self.bytes(), SALT), self.cost())?;
                if !key.open(&field(self.bytes(), NONCE), &self.bytes()[BODY], keys.bytes_mut()) {
                    return Err(Error::WrongPassphrase);
                }
            }
            (Some(Kind::Plain | Kind::Sealed), _) => return Err(Error::WrongPassphrase),
            (Some(Kind::Token) | None, _) => return Err(Error::VaultCorrupt),
        }
        let (secret, nonce_key) = keys.bytes().split_first_chunk().ok_or(Error::Internal)?;
        let secret = SecretKey::from_bytes(secret)?;
        if secret.public_key()? != self.public_key() {
            return Err(Error::VaultCorrupt);
        }
        Ok((secret, NonceKey::from_bytes(nonce_key.first_chunk().ok_or(Error::Internal)?)?))
    }

    /// Returns the nonce block key in the state of the token that holds `public`; `VaultCorrupt`
    /// for anything else.
    #[cfg(feature = "pkcs11")]
    pub(crate) fn token_nonce_key(&self, public: &PublicKey) -> Result<NonceKey> {
        if self.kind() != Some(Kind::Token) || self.public_key() != *public {
            return Err(Error::VaultCorrupt);
        }
        let (_, rest) = self.bytes()[BODY].split_at(KEY_BYTES);
        NonceKey::from_bytes(rest.first_chunk().ok_or(Error::Internal)?)
    }
}

/// Returns the bytes of a field.
fn field<const N: usize>(bytes: &[u8; HEADER_LEN], range: Range<usize>) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[range]);
    field
}
