//! Changing a registry file: one writer at a time, and readers see the old file or the new one.

use super::guard::check_folders;
use crate::error::{Error, Result};
use crate::size_limit::writing;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a writer waits for another one.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(5);
/// Public keys may be read by all.
const NEW_MODE: u32 = 0o644;

/// The right to change a file, held until dropped.
pub(super) struct Writer {
    /// Without symbolic links.
    path: PathBuf,
    _lock: File,
}

impl Writer {
    /// Waits at most ten seconds for the writer before; `Timeout` after that.
    ///
    /// The lock is on a file of its own, beside the one that is replaced.
    pub(super) fn begin(path: &Path) -> Result<Writer> {
        let path = resolve(path)?;
        check_folders(&path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let lock = options.open(beside(&path, ".lock")).map_err(|e| Error::of_file(&e))?;
        let end = Instant::now() + PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Writer { path, _lock: lock }),
                Err(TryLockError::Error(e)) => return Err(Error::of_file(&e)),
                Err(TryLockError::WouldBlock) if Instant::now() >= end => return Err(Error::Timeout),
                Err(TryLockError::WouldBlock) => thread::sleep(RETRY),
            }
        }
    }

    /// Puts a file of these bytes in the place of the old one, or of none. It is on disk, or the old one still is; if the
    /// folder cannot be brought to the disk, it is the new one or the old one after a crash.
    pub(super) fn replace(&self, bytes: &[u8]) -> Result<()> {
        let new = beside(&self.path, ".new");
        let replaced = self.write(&new, bytes).and_then(|()| fs::rename(&new, &self.path));
        if let Err(error) = replaced {
            // It may not have come to be; what matters is the error.
            let _ = fs::remove_file(&new);
            return Err(Error::of_file(&error));
        }
        sync_folder(&self.path).map_err(|e| Error::of_file(&e))
    }

    fn write(&self, new: &Path, bytes: &[u8]) -> io::Result<()> {
        // What a writer left that was killed; the lock says that there is none now.
        if let Err(error) = fs::remove_file(new)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
        writing(|| file.write_all(bytes))?;
        let old = match fs::metadata(&self.path) {
            Ok(old) => Some(old),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let (mine, mut mode) = (file.metadata()?, NEW_MODE);
        if let Some(old) = old {
            mode = old.mode() & 0o7777;
            if (old.uid(), old.gid()) != (mine.uid(), mine.gid()) {
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    }
}

/// The path without symbolic links; its last part need not exist.
fn resolve(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or(Error::InvalidArgument)?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder =
                fs::canonicalize(folder.unwrap_or(Path::new("."))).map_err(|e| Error::of_file(&e))?;
            Ok(folder.join(name))
        }
        Err(e) => Err(Error::of_file(&e)),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
