//! The lock by which writers of a registry file take turns. It is a file of its own beside the
//! registry file, because the registry file is replaced.

use super::attributes::share_lock;
use super::error::{FileResult, RegistryFileError};
use super::write::beside;
use crate::error::Error;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const RETRY: Duration = Duration::from_millis(5);
/// How long the writer that makes a lock may take to share it with the others.
const SHARING: Duration = Duration::from_secs(2);

/// Takes the lock. Waits until `end` for the writers before, and returns `Timeout` after that.
pub(super) fn take(registry: &Path, end: Instant) -> FileResult<File> {
    let path = beside(registry, ".lock");
    let lock = open(&path, end).map_err(|e| RegistryFileError::of_call(&path, &e))?;
    // A registry file that does not exist yet belongs to its maker alone, and so does the lock.
    if let Ok(registry) = File::open(registry) {
        // A user who is left out gets the error when opening the lock.
        let _ = share_lock(&lock, &registry);
    }
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(e)) => return Err(RegistryFileError::of_call(&path, &e)),
            Err(TryLockError::WouldBlock) if Instant::now() >= end => return Err(Error::Timeout.into()),
            Err(TryLockError::WouldBlock) => thread::sleep(RETRY),
        }
    }
}

fn open(path: &Path, end: Instant) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    loop {
        // Opening and making are two calls, because in a sticky folder Linux refuses to open
        // another user's file with a call that may also make it (fs.protected_regular).
        let opened = match options.create_new(false).open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => options.create_new(true).open(path),
            opened => opened,
        };
        match opened {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && Instant::now() < end => {}
            Err(e)
                if e.kind() == io::ErrorKind::PermissionDenied
                    && is_being_shared(path)
                    && Instant::now() < end =>
            {
                thread::sleep(RETRY);
            }
            opened => return opened,
        }
    }
}

fn is_being_shared(path: &Path) -> bool {
    let made = fs::metadata(path).and_then(|metadata| metadata.modified());
    made.is_ok_and(|made| SystemTime::now().duration_since(made).is_ok_and(|age| age < SHARING))
}
