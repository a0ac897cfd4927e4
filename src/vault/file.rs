//! The vault whose key is kept in a file.

use super::store::{self, Header, Kind};
use super::{LocalKey, LongTermNonces, vault_over_local_key};
use crate::crypto::{Cost, NonceKey, PublicKey, SecretKey};
use crate::error::{Error, Result};
use crate::sys::{Exposure, exposure};
use std::path::Path;

/// A call only computes, except one in 2^20, which waits for the disk. That is too long for a
/// scheduler of Erlang.
const MAX_CONCURRENCY: usize = 4;

/// A vault kept in a file: key pair, nonce block key and the bound of the counter.
///
/// The file is readable by its owner only, and may be sealed by a passphrase. A lock (`flock`) lets
/// one vault at a time open it. A nonce is handed out only once a bound above its counter is on the
/// disk, so no crash repeats one. Writing a new bound makes the first nonce after opening, and one
/// in each 1,048,576 after that, take as long as the disk takes. `docs/VAULTS.md` describes the
/// file and what it protects against.
pub struct FileVault(LocalKey);

/// What a vault's file reveals without its passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileInfo {
    /// The public key. Anybody who can write the file could have changed it; opening the vault
    /// checks it.
    pub public_key: PublicKey,
    /// Whether a passphrase is needed.
    pub sealed: bool,
}

impl FileVault {
    /// Makes a vault with a new random key in a new file of mode 0600; sealed at `cost` if there is
    /// a passphrase.
    ///
    /// File and folder are on the disk when this returns. A file that is already at `path` is never
    /// overwritten. With a passphrase it takes as long as `cost` says.
    ///
    /// # Errors
    /// `AlreadyExists`; `FileNotFound` if the folder does not exist; `PermissionDenied`,
    /// `ReadOnly`, `DiskFull`, `TooManyFiles`, `Io`; `InvalidArgument` for an empty passphrase, a
    /// cost out of its range or a path with a zero byte; `OutOfMemory` if there is too little for
    /// `cost`; `CryptoUnavailable`.
    pub fn create(path: &Path, passphrase: Option<&[u8]>, cost: Cost) -> Result<FileVault> {
        FileVault::create_with(path, SecretKey::generate()?, passphrase, cost)
    }

    /// Like [`FileVault::create`], with an existing key. Its nonce block key is new, so it does not
    /// matter where the key was used before.
    ///
    /// # Errors
    /// Those of [`FileVault::create`].
    pub fn create_with(
        path: &Path,
        secret: SecretKey,
        passphrase: Option<&[u8]>,
        cost: Cost,
    ) -> Result<FileVault> {
        let nonce_key = NonceKey::generate()?;
        let header = Header::of_keys(&secret, &nonce_key, passphrase, cost)?;
        let counter_log = store::create(path, &header)?;
        Ok(FileVault(LocalKey::new(secret, LongTermNonces::kept(nonce_key, counter_log))?))
    }

    /// Opens the vault in the file at `path`, which stays locked until the vault is dropped.
    ///
    /// # Errors
    /// `FileNotFound`; `VaultPermissions` if it is a link, no regular file, another user's, or open
    /// to group or others ([`FileVault::exposure`] says which); `VaultInUse`; `VaultCorrupt`,
    /// `VaultVersion`; `WrongPassphrase` if the passphrase does not open it, is missing, or is
    /// given for a vault without one; `PermissionDenied`, `ReadOnly`, `TooManyFiles`, `Io`;
    /// `OutOfMemory` if there is too little for the cost at which it is sealed;
    /// `CryptoUnavailable`.
    pub fn open(path: &Path, passphrase: Option<&[u8]>) -> Result<FileVault> {
        let (header, counter_log) = store::open(path)?;
        let (secret, nonce_key) = header.keys(passphrase)?;
        Ok(FileVault(LocalKey::new(secret, LongTermNonces::kept(nonce_key, counter_log))?))
    }

    /// Replaces the file at `path` by one with the same key, sealed by `new` at `cost`; without
    /// `new` it is not sealed. Returns the public key.
    ///
    /// At each moment, and after a crash, the file is either the old one or the new one. It gets a
    /// new nonce block key, as with [`FileVault::renew`]. Copies of the old file do not change.
    ///
    /// # Errors
    /// Those of [`FileVault::open`], with `old` as the passphrase, and of [`FileVault::create`];
    /// the old file stays then.
    pub fn change_passphrase(
        path: &Path,
        old: Option<&[u8]>,
        new: Option<&[u8]>,
        cost: Cost,
    ) -> Result<PublicKey> {
        FileVault::replace(path, old, |secret, nonce_key, _| Header::of_keys(secret, nonce_key, new, cost))
    }

    /// Makes it safe to use a file whose counter may have been used beyond the bound in it, such as
    /// one that was restored from a backup, or whose bound is damaged: draws a new nonce block key,
    /// under which no nonce has been used. Returns the public key.
    ///
    /// The file is replaced as with [`FileVault::change_passphrase`]; key, passphrase and cost
    /// stay.
    ///
    /// # Errors
    /// Those of [`FileVault::open`] and [`FileVault::create`]; the old file stays then.
    pub fn renew(path: &Path, passphrase: Option<&[u8]>) -> Result<PublicKey> {
        FileVault::replace(path, passphrase, |secret, nonce_key, old| {
            Header::of_keys(secret, nonce_key, passphrase, old.cost())
        })
    }

    fn replace(
        path: &Path,
        passphrase: Option<&[u8]>,
        header: impl FnOnce(&SecretKey, &NonceKey, &Header) -> Result<Header>,
    ) -> Result<PublicKey> {
        store::replace(path, |old| {
            let (secret, _) = old.keys(passphrase)?;
            header(&secret, &NonceKey::generate()?, old)
        })
    }

    /// Returns what the file at `path` reveals without its passphrase, also while a vault has it
    /// open.
    ///
    /// # Errors
    /// Those of [`FileVault::open`], except `VaultInUse` and `WrongPassphrase`.
    pub fn inspect(path: &Path) -> Result<FileInfo> {
        let header = store::read_header(&store::peek(path)?)?;
        match header.kind() {
            Some(kind @ (Kind::Plain | Kind::Sealed)) => {
                Ok(FileInfo { public_key: header.public_key(), sealed: kind == Kind::Sealed })
            }
            _ => Err(Error::VaultCorrupt),
        }
    }

    /// Returns why the file at `path` is refused with `VaultPermissions`; `None` if it is not
    /// refused.
    ///
    /// # Errors
    /// `FileNotFound`, `PermissionDenied`, `Io`.
    pub fn exposure(path: &Path) -> Result<Option<Exposure>> {
        exposure(path)
    }

    /// Returns the counter in a nonce of this vault, for the project's tests.
    #[cfg(feature = "test-util")]
    pub fn counter_in(&self, nonce: &super::LongTermNonce) -> u64 {
        self.0.counter_in(nonce)
    }
}

vault_over_local_key!(FileVault, false, MAX_CONCURRENCY);
