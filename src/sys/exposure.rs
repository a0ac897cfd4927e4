//! Checks who else can read or change a file that holds a secret.

use crate::error::{Error, Result};
use nix::unistd::geteuid;
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Why a file is not trusted to hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exposure {
    /// It is a symbolic link; links are not followed.
    Link,
    /// It is not a regular file.
    NotAFile,
    /// It belongs to the user with this number, who is not the user that this process runs as.
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

/// Returns why the file at `path` is not trusted; `None` if it is.
///
/// # Errors
/// Those of [`Error::of_file`].
pub(crate) fn exposure(path: &Path) -> Result<Option<Exposure>> {
    Ok(exposed(&fs::symlink_metadata(path).map_err(|e| Error::of_file(&e))?))
}

/// Like [`exposure`], for a file that is open.
pub(crate) fn exposed(metadata: &Metadata) -> Option<Exposure> {
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

/// Returns why an open file is not trusted to hold a passphrase, a PIN or the text of a secret key:
/// others than its owner and group have access to it, or the group can write to it. `None` if it is
/// trusted.
///
/// The group may read it, because that is how service managers and orchestrators hand secrets to
/// the user of a service. Anything that is not a regular file, such as a pipe, is not judged by its
/// mode.
pub fn secret_exposure(file: &Metadata) -> Option<Exposure> {
    let mode = file.mode() & 0o7777;
    (file.is_file() && mode & 0o027 != 0).then_some(Exposure::Mode(mode))
}
