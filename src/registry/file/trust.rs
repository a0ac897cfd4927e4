//! Opens a registry file, and checks whether it can be trusted and whether it has changed.

use super::error::{FileResult, PathProblem, RegistryFileError};
use crate::error::Error;
use nix::unistd::geteuid;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The most bytes in a registry file.
pub(super) const FILE_MAX: u64 = 1 << 30;
/// A file that changed this shortly before it was read may change again within the same tick of the
/// file system's clock.
const SETTLING: Duration = Duration::from_millis(50);

const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// The metadata that change when the file changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ChangeStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl ChangeStamp {
    fn of(metadata: &Metadata) -> ChangeStamp {
        ChangeStamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns the stamp of the file that is at `path` now, if there is one.
    pub(super) fn at(path: &Path) -> Option<ChangeStamp> {
        fs::metadata(path).ok().map(|metadata| ChangeStamp::of(&metadata))
    }

    pub(super) fn of_file(file: &File) -> io::Result<ChangeStamp> {
        Ok(ChangeStamp::of(&file.metadata()?))
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Returns whether any further change is sure to give another stamp.
    pub(super) fn is_settled(&self) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let since = Duration::new(seconds.unsigned_abs(), nanoseconds.unsigned_abs() as u32);
        // A clock that is far off, ahead or behind, tells nothing; then there is only the stamp.
        let changed = SystemTime::UNIX_EPOCH.checked_add(since);
        changed.is_none_or(|changed| match SystemTime::now().duration_since(changed) {
            Ok(age) => age >= SETTLING,
            Err(ahead) => ahead.duration() >= SETTLING,
        })
    }
}

/// Opens the file at `path` for reading, if nobody but its owner, its group and root can have
/// written it.
///
/// # Errors
/// `FileNotFound`, `TooLarge`, and `BadPath` for a file that others could have written, for
/// something that is not a regular file, and for what the operating system refuses.
pub(super) fn open(path: &Path) -> FileResult<File> {
    // A pipe is refused rather than waited for.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let failed = |e: io::Error| match Error::of_file(&e) {
        Error::FileNotFound => RegistryFileError::Failed(Error::FileNotFound),
        _ => RegistryFileError::of_call(path, &e),
    };
    let file = opened.map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(RegistryFileError::at(path, PathProblem::NotAFile));
    }
    let real = fs::canonicalize(path).map_err(failed)?;
    check_folders(path)?;
    check_folders(&real)?;
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err(RegistryFileError::at(&real, PathProblem::WritableByAll));
    }
    if !is_ours(&metadata) {
        return Err(RegistryFileError::at(&real, PathProblem::OwnedBy(metadata.uid())));
    }
    if metadata.len() > FILE_MAX {
        return Err(Error::TooLarge.into());
    }
    Ok(file)
}

/// Returns `BadPath` if others can put another file or link in the place of what is at `path`,
/// which must be absolute.
pub(super) fn check_folders(path: &Path) -> FileResult<()> {
    for (i, folder) in path.ancestors().skip(1).enumerate() {
        let metadata = fs::metadata(folder).map_err(|e| RegistryFileError::of_call(folder, &e))?;
        if metadata.mode() & OTHERS_WRITE != 0 && metadata.mode() & STICKY == 0 {
            return Err(RegistryFileError::at(folder, PathProblem::WritableByAll));
        }
        if i == 0 && !is_ours(&metadata) {
            return Err(RegistryFileError::at(folder, PathProblem::OwnedBy(metadata.uid())));
        }
    }
    Ok(())
}

/// Returns whether the file or folder belongs to root or to the user that runs this process.
fn is_ours(metadata: &Metadata) -> bool {
    metadata.uid() == 0 || metadata.uid() == geteuid().as_raw()
}
