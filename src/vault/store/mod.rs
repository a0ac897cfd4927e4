//! A vault's file: what is kept and how it is placed, sealed and updated
//! (`docs/VAULTS.md`, "The file"). Vaults are built on it; it opens no box.
//!
//! The file has three pages of 4096 bytes. The first, the [`header`], is written
//! once. The other two are the slots of the [`counter_log`], which holds the bound
//! of the counter and needs no key to be updated.

mod counter_log;
mod file;
mod header;

pub(crate) use counter_log::CounterLog;
#[cfg(feature = "test-util")]
pub use counter_log::STEP;
pub(crate) use file::peek;
pub(crate) use header::{Header, Kind};

use crate::crypto::{PublicKey, Secret};
use crate::error::{Error, Result};
use header::HEADER_LEN;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
#[cfg(feature = "pkcs11")]
use std::path::PathBuf;

/// Bytes from one part of the file to the next; a torn write damages one part at most.
const PAGE: usize = 4096;
/// Bytes in the file.
const FILE_LEN: usize = 3 * PAGE;

/// Makes the file with this header and an unused counter; it is on disk, and locked, when this
/// returns.
///
/// # Errors
/// `AlreadyExists` if there is anything at `path`, which stays as it is; those of
/// [`Error::of_file`].
pub(crate) fn create(path: &Path, header: &Header) -> Result<CounterLog> {
    let file = file::create(path, contents(header)?.bytes())?;
    // Nothing after this may fail: the file is there now.
    Ok(CounterLog::new(file, header))
}

/// Replaces the file by one with the header that `renewed` makes from the old one, and an unused
/// counter. The slots of the old file may be damaged. Returns the public key.
///
/// # Errors
/// Those of [`open`], [`create`] and `renewed`; the old file stays then.
pub(crate) fn replace(path: &Path, renewed: impl FnOnce(&Header) -> Result<Header>) -> Result<PublicKey> {
    let old = file::open(path)?;
    let header = renewed(&read_header(&old)?)?;
    file::replace(path, contents(&header)?.bytes())?;
    // Unlocked only now: nobody could open the file meanwhile.
    drop(old);
    Ok(header.public_key())
}

/// Returns all bytes of a file with this header and an unused counter. Only the first page is
/// secret, and the buffer is wiped.
fn contents(header: &Header) -> Result<Secret<FILE_LEN>> {
    let mut contents = Secret::<FILE_LEN>::zeroed()?;
    let bytes = contents.bytes_mut();
    bytes[..HEADER_LEN].copy_from_slice(header.bytes());
    counter_log::lay_out(&mut bytes[PAGE..], header);
    Ok(contents)
}

/// A file that was made, locked and given its full length before its contents are known; removed if
/// dropped unfilled.
#[cfg(feature = "pkcs11")]
pub(crate) struct Reserved {
    path: PathBuf,
    file: Option<File>,
}

#[cfg(feature = "pkcs11")]
impl Reserved {
    /// # Errors
    /// Those of [`create`].
    pub(crate) fn at(path: &Path) -> Result<Reserved> {
        let file = file::create(path, &[0; FILE_LEN])?;
        Ok(Reserved { path: path.to_owned(), file: Some(file) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Fills the file with this header, as [`create`] does, and renames it if a new name is given,
    /// which no other file has.
    ///
    /// # Errors
    /// Those of [`Error::of_file`].
    pub(crate) fn fill(mut self, header: &Header, name: Option<&Path>) -> Result<CounterLog> {
        let file = self.file.as_ref().ok_or(Error::Internal)?;
        file::fill(file, contents(header)?.bytes())?;
        if let Some(name) = name {
            file::rename(&self.path, name)?;
            name.clone_into(&mut self.path);
        }
        Ok(CounterLog::new(self.file.take().ok_or(Error::Internal)?, header))
    }
}

#[cfg(feature = "pkcs11")]
impl Drop for Reserved {
    fn drop(&mut self) {
        if self.file.is_some() {
            // There is nobody to tell if it stays.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens and locks the file.
///
/// # Errors
/// `FileNotFound`, `VaultPermissions`, `VaultInUse`, `VaultCorrupt`, `VaultVersion`; those of
/// [`Error::of_file`].
pub(crate) fn open(path: &Path) -> Result<(Header, CounterLog)> {
    let file = file::open(path)?;
    let header = read_header(&file)?;
    let len = file.metadata().map_err(|e| Error::of_file(&e))?.len();
    if len != FILE_LEN as u64 {
        return Err(Error::VaultCorrupt);
    }
    let counter_log = CounterLog::read(file, &header)?;
    Ok((header, counter_log))
}

/// Returns the checked header of the file.
pub(crate) fn read_header(file: &File) -> Result<Header> {
    let mut bytes = Secret::<HEADER_LEN>::zeroed()?;
    read_exact_at(file, bytes.bytes_mut(), 0)?;
    Header::parse(bytes)
}

/// Returns `VaultCorrupt` if the file ends early.
fn read_exact_at(file: &File, bytes: &mut [u8], offset: usize) -> Result<()> {
    file.read_exact_at(bytes, offset as u64).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::VaultCorrupt,
        _ => Error::of_file(&e),
    })
}
