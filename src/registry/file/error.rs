//! Why a registry file cannot be used or changed.

use super::line::Malformed;
use crate::error::Error;
use std::io;
use std::path::Path;
use std::{fmt, sync::Arc};

/// Why a registry file cannot be used or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryFileError {
    /// A line is wrong.
    Malformed(Malformed),
    /// Something is wrong with the path of the file, of one beside it, or of a folder above it.
    BadPath(BadPath),
    /// Another error. `FileNotFound`: there is no such file; `TooLarge`: the file has over 1 GiB,
    /// or would have; `Timeout`: other writers did not finish within ten seconds; `NotFound`: the
    /// file has no such entry; `InvalidArgument`: the comment does not fit.
    Failed(Error),
}

pub(super) type FileResult<T> = std::result::Result<T, RegistryFileError>;

impl From<Error> for RegistryFileError {
    fn from(error: Error) -> RegistryFileError {
        RegistryFileError::Failed(error)
    }
}

impl RegistryFileError {
    pub(super) fn at(path: &Path, problem: PathProblem) -> RegistryFileError {
        RegistryFileError::BadPath(BadPath { path: path.into(), problem })
    }

    /// Returns what a failed call on the file or folder at `path` means.
    pub(super) fn of_call(path: &Path, error: &io::Error) -> RegistryFileError {
        RegistryFileError::at(
            path,
            match error.kind() {
                io::ErrorKind::InvalidFilename => PathProblem::NameTooLong,
                _ => PathProblem::Failed(Error::of_file(error)),
            },
        )
    }

    /// Returns the error without line, column and path: `BadRegistryFile` for a wrong line,
    /// `RegistryPermissions` for a file that others could have written.
    pub fn error(self) -> Error {
        match self {
            RegistryFileError::Malformed(_) => Error::BadRegistryFile,
            RegistryFileError::BadPath(bad) => bad.problem.error(),
            RegistryFileError::Failed(error) => error,
        }
    }
}

impl fmt::Display for RegistryFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryFileError::Malformed(malformed) => malformed.fmt(f),
            RegistryFileError::BadPath(bad) => bad.fmt(f),
            RegistryFileError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RegistryFileError {}

/// The file or folder that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPath {
    /// The registry file, one beside it, or a folder above it.
    pub path: Arc<Path>,
    /// What is wrong with it.
    pub problem: PathProblem,
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

/// What is wrong with a file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathProblem {
    /// All users may write to it.
    WritableByAll,
    /// It belongs to the user with this number, who is neither root nor the user that runs this
    /// program.
    OwnedBy(u32),
    /// It is a folder, a device, a pipe or a socket.
    NotAFile,
    /// Its name, or the whole path, is longer than the system allows.
    NameTooLong,
    /// This user may neither write to it nor replace it by a file that differs in nothing but the
    /// change.
    NotReplaceable(Kept),
    /// A call of the operating system failed.
    Failed(Error),
}

impl PathProblem {
    fn error(&self) -> Error {
        match self {
            PathProblem::WritableByAll | PathProblem::OwnedBy(_) => Error::RegistryPermissions,
            PathProblem::NotAFile | PathProblem::NameTooLong => Error::InvalidArgument,
            PathProblem::NotReplaceable(_) => Error::PermissionDenied,
            PathProblem::Failed(error) => *error,
        }
    }
}

impl fmt::Display for PathProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathProblem::WritableByAll => f.write_str("all users may write it"),
            PathProblem::OwnedBy(user) => {
                write!(f, "it belongs to user {user}, who is neither root nor the one that runs this")
            }
            PathProblem::NotAFile => f.write_str("it is not a regular file"),
            PathProblem::NameTooLong => f.write_str("the name is too long"),
            PathProblem::NotReplaceable(Kept::Place) => {
                f.write_str("this user may neither write it nor put another file in its place")
            }
            PathProblem::NotReplaceable(kept) => {
                write!(f, "this user may neither write it nor replace it with {kept} kept")
            }
            PathProblem::Failed(error) => error.fmt(f),
        }
    }
}

/// What a file that replaces another must take over from it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// Owner and group.
    Owner,
    /// The permission bits.
    Mode,
    /// The extended attribute of this name. An access control list is one, too.
    Attribute(Arc<str>),
    /// Its other names: hard links.
    Links,
    /// Its place in the folder.
    Place,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kept::Owner => f.write_str("its owner and group"),
            Kept::Mode => f.write_str("its mode"),
            Kept::Attribute(name) if &**name == super::attributes::ACCESS_LIST => {
                f.write_str("its access control list")
            }
            Kept::Attribute(name) => write!(f, "its extended attribute {}", name.escape_default()),
            Kept::Links => f.write_str("its hard links"),
            Kept::Place => f.write_str("its place"),
        }
    }
}
