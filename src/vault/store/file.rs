//! A vault's file on disk: created so that nobody else can ever read it, and opened only if nobody
//! else can.

use crate::error::{Error, Result};
use crate::sys::{Exposure, exposed, exposure, sync_entry, writing};
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Owner only.
const MODE: u32 = 0o600;

/// Makes the file, locked; file and folder are on disk when this returns. A file that cannot be
/// completed is removed.
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

/// Syncs the contents of a file that was made before to the disk.
#[cfg(feature = "pkcs11")]
pub(super) fn fill(file: &File, contents: &[u8]) -> Result<()> {
    let fill = || {
        writing(|| file.write_all_at(contents, 0))?;
        file.sync_all()
    };
    fill().map_err(|e| Error::of_file(&e))
}

/// Renames a file in its folder; the folder is on disk when this returns. A file of that name is
/// replaced.
#[cfg(feature = "pkcs11")]
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).and_then(|()| sync_entry(to)).map_err(|e| Error::of_file(&e))
}

/// Replaces the file at `path`, whose lock the caller holds, by one with these bytes. It is on disk
/// when this returns. Before that, and after an error, the old file is at `path`; only if the
/// folder could not be synced, it is one of the two after a crash.
pub(super) fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    match fs::remove_file(new) {
        // Left by a process that was killed: the lock says that none is running now.
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
    // Links are not followed and pipes not waited for; the checks are on the file that was opened.
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path).map_err(|e| match exposure(path) {
        Ok(Some(Exposure::Link | Exposure::NotAFile)) => Error::VaultPermissions,
        _ => Error::of_file(&e),
    })?;
    let metadata = file.metadata().map_err(|e| Error::of_file(&e))?;
    if exposed(&metadata).is_some() { Err(Error::VaultPermissions) } else { Ok(file) }
}

/// Locks the file until it is closed; `VaultInUse` if another holder has it.
fn lock(file: &File) -> Result<()> {
    file.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => Error::VaultInUse,
        TryLockError::Error(e) => Error::of_file(&e),
    })
}
