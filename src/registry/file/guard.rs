//! Opening a registry file, and telling whether it may be trusted and has changed.

use crate::error::{Error, Result};
use nix::unistd::geteuid;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The most bytes in a registry file.
pub(super) const FILE_MAX: u64 = 1 << 30;
/// A file changed this shortly before it was read may change again within the same tick of the file system's clock.
const SETTLING: Duration = Duration::from_millis(50);

const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The stamp of the file that is there now, if one is.
    pub(super) fn at(path: &Path) -> Option<Stamp> {
        fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata))
    }

    pub(super) fn of_file(file: &File) -> io::Result<Stamp> {
        Ok(Stamp::of(&file.metadata()?))
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether a further change is sure to give another stamp.
    pub(super) fn is_settled(&self) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let since = Duration::new(seconds.unsigned_abs(), nanoseconds.unsigned_abs() as u32);
        // A clock that is far off, ahead or behind, tells nothing; the stamp is all there is then.
        let changed = SystemTime::UNIX_EPOCH.checked_add(since);
        changed.is_none_or(|changed| match SystemTime::now().duration_since(changed) {
            Ok(age) => age >= SETTLING,
            Err(ahead) => ahead.duration() >= SETTLING,
        })
    }
}

/// Opens the file at `path` for reading, if nobody but its owner, its group and root can have written it.
///
/// # Errors
/// `RegistryPermissions`, `TooLarge`, `InvalidArgument` for what is no file, and those of the operating system.
pub(super) fn open(path: &Path) -> Result<File> {
    // A pipe is refused, not waited for.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|e| Error::of_file(&e))?;
    let metadata = file.metadata().map_err(|e| Error::of_file(&e))?;
    if !metadata.is_file() {
        return Err(Error::InvalidArgument);
    }
    let real = fs::canonicalize(path).map_err(|e| Error::of_file(&e))?;
    check_folders(path)?;
    check_folders(&real)?;
    if metadata.mode() & OTHERS_WRITE != 0 || !is_ours(&metadata) {
        return Err(Error::RegistryPermissions);
    }
    if metadata.len() > FILE_MAX {
        return Err(Error::TooLarge);
    }
    Ok(file)
}

/// `RegistryPermissions` if others can put another file, or link, in the place of what is at `path`, which is absolute.
pub(super) fn check_folders(path: &Path) -> Result<()> {
    for (i, folder) in path.ancestors().skip(1).enumerate() {
        let metadata = fs::metadata(folder).map_err(|e| Error::of_file(&e))?;
        let open = metadata.mode() & OTHERS_WRITE != 0 && metadata.mode() & STICKY == 0;
        if open || (i == 0 && !is_ours(&metadata)) {
            return Err(Error::RegistryPermissions);
        }
    }
    Ok(())
}

/// Whether it belongs to root or to the user that runs this process.
fn is_ours(metadata: &Metadata) -> bool {
    metadata.uid() == 0 || metadata.uid() == geteuid().as_raw()
}
