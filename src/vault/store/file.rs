//! Where a vault's file is: made so that nobody else ever could read it, opened only if that is so.

use crate::error::{Error, Result};
use crate::folder::sync_entry;
use crate::size_limit::writing;
use nix::unistd::geteuid;
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Owner only.
const MODE: u32 = 0o600;

/// Why a file is not trusted with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exposure {
    /// It is a symbolic link; links are not followed.
    Link,
    /// It is no regular file.
    NotAFile,
    /// It belongs to the user with this number, who is not the one that this process runs as.
    Owner(u32),
    /// Group or others have access, by these permission bits.
    Mode(u32),
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exposure::Link => f.write_str("it is a symbolic link"),
            Exposure::NotAFile => f.write_str("it is not a regular file"),
            Exposure::Owner(uid) => write!(f, "it belongs to user {uid}, not to {}", geteuid()),
            Exposure::Mode(mode) => write!(f, "group or others have access to it (mode {mode:04o})"),
        }
    }
}

/// Why the file at `path` is not trusted; `None` if it is.
///
/// # Errors
/// Those of [`Error::of_file`].
pub(crate) fn exposure(path: &Path) -> Result<Option<Exposure>> {
    Ok(exposed(&fs::symlink_metadata(path).map_err(|e| Error::of_file(&e))?))
}

fn exposed(metadata: &Metadata) -> Option<Exposure> {
    let mode = metadata.mode() & 0o7777;
    if metadata.is_symlink() {
        Some(Exposure::Link)
    } else if !metadata.is_file() {
        Some(Exposure::NotAFile)
    } else if metadata.uid() != geteuid().as_raw() {
        Some(Exposure::Owner(metadata.uid()))
    } else if mode & 0o077 != 0 {
        Some(Exposure::Mode(mode))
    } else {
        None
    }
}

/// Returns why an open file is not trusted with a passphrase, a PIN or the text of a secret key:
/// others than its owner and group have access to it, or the group can write it. `None` if it is
/// trusted.
///
/// The group may read it: that is how service managers and orchestrators hand secrets to the user
/// of a service. What is no regular file, as a pipe, is not judged by its mode.
pub fn secret_exposure(file: &Metadata) -> Option<Exposure> {
    let mode = file.mode() & 0o7777;
    (file.is_file() && mode & 0o027 != 0).then_some(Exposure::Mode(mode))
}

/// Makes the file, locked; file and folder are on disk when this returns. What cannot be made whole
/// is removed.
pub(super) fn create(path: &Path, contents: &[u8]) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(MODE);
    let file = options.open(path).map_err(|e| Error::of_file(&e))?;
    let fill = || {
        // The umask may have taken bits away that the owner needs.
        file.set_permissions(Permissions::from_mode(MODE))?;
        writing(|| file.write_all_at(contents, 0))?;
        file.sync_all()?;
        sync_entry(path)
    };
    let filled = lock(&file).and_then(|()| fill().map_err(|e| Error::of_file(&e)));
    if let Err(error) = filled {
        // The first error is the one to tell.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(file)
}

/// Brings the contents of a file that was made before to the disk.
#[cfg(feature = "pkcs11")]
pub(super) fn fill(file: &File, contents: &[u8]) -> Result<()> {
    let fill = || {
        writing(|| file.write_all_at(contents, 0))?;
        file.sync_all()
    };
    fill().map_err(|e| Error::of_file(&e))
}

/// Gives a file another name in its folder; the folder is on disk when this returns. A file of that
/// name gives way.
#[cfg(feature = "pkcs11")]
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).and_then(|()| sync_entry(to)).map_err(|e| Error::of_file(&e))
}

/// Puts a file of these bytes in the place of the one at `path`, whose lock the caller holds. It is
/// on disk when this returns; before that, and after an error, the old one is at `path`, or, if the
/// folder could not be brought to the disk, one of the two after a crash.
pub(super) fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    match fs::remove_file(new) {
        // What a process left that was killed: the lock says that there is none now.
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::of_file(&e)),
        _ => {}
    }
    let file = create(new, contents)?;
    if let Err(e) = fs::rename(new, path) {
        let _ = fs::remove_file(new);
        return Err(Error::of_file(&e));
    }
    drop(file);
    sync_entry(path).map_err(|e| Error::of_file(&e))
}

/// Opens the file for reading and writing, and locks it.
pub(super) fn open(path: &Path) -> Result<File> {
    let file = trusted(path, OpenOptions::new().read(true).write(true))?;
    lock(&file)?;
    // The one that was opened may have been replaced before it could be locked.
    let (ours, there) = (file.metadata(), fs::symlink_metadata(path));
    let (ours, there) = (ours.map_err(|e| Error::of_file(&e))?, there.map_err(|e| Error::of_file(&e))?);
    if (ours.dev(), ours.ino()) == (there.dev(), there.ino()) { Ok(file) } else { Err(Error::VaultInUse) }
}

/// Opens the file for reading, without a lock.
pub(crate) fn peek(path: &Path) -> Result<File> {
    trusted(path, OpenOptions::new().read(true))
}

/// Opens a file that nobody else has access to.
fn trusted(path: &Path, options: &mut OpenOptions) -> Result<File> {
    // Neither a link nor, by waiting, a pipe gets anywhere; what was opened is what is judged.
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path).map_err(|e| match exposure(path) {
        Ok(Some(Exposure::Link | Exposure::NotAFile)) => Error::VaultPermissions,
        _ => Error::of_file(&e),
    })?;
    let metadata = file.metadata().map_err(|e| Error::of_file(&e))?;
    if exposed(&metadata).is_some() { Err(Error::VaultPermissions) } else { Ok(file) }
}

/// One holder at a time, until the file is closed: `VaultInUse`.
fn lock(file: &File) -> Result<()> {
    file.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => Error::VaultInUse,
        TryLockError::Error(e) => Error::of_file(&e),
    })
}
