//! Why a registry file could not be used or changed, and what to do about it.

use crate::failure::Failure;
use curve_tun::Error;
use curve_tun::registry::{BadPath, Kept, PathProblem, RegistryFileError};
use nix::unistd::{Uid, User};
use std::path::Path;

/// Returns the failure for an error with the file, with what to do about it.
pub fn failure(path: &Path, error: RegistryFileError) -> Failure {
    let error = match error {
        RegistryFileError::BadPath(bad) => return Failure::new(&bad).hint(what_to_do(path, &bad)),
        error => error,
    };
    let failure = Failure::new(format_args!("{}: {error}", path.display()));
    match error {
        RegistryFileError::Malformed(_) => failure.hint(
            "Correct that line. Servers that have the file open go on with the entries they have; `peers add` denies a \
             key ('!') all the same.",
        ),
        RegistryFileError::Failed(Error::FileNotFound) => {
            failure.hint("`curve-tun peers add` makes the file, but no folder.")
        }
        RegistryFileError::Failed(Error::NotFound) => {
            failure.hint("`curve-tun peers list` shows the entries that there are.")
        }
        RegistryFileError::Failed(Error::TooLarge) => failure.hint("A registry file has at most 1 GiB."),
        RegistryFileError::Failed(Error::Timeout) => failure.hint(format_args!(
            "Another program has been changing the file for ten seconds; try again when it has ended. \
             `fuser {}.lock` shows which.",
            path.display()
        )),
        _ => failure,
    }
}

fn what_to_do(registry: &Path, bad: &BadPath) -> String {
    let path = bad.path.display();
    let folder = bad.path.parent().unwrap_or(Path::new("/")).display();
    match &bad.problem {
        PathProblem::WritableByAll => format!("Try: chmod o-w {path}"),
        PathProblem::OwnedBy(number) => {
            let user = User::from_uid(Uid::from_raw(*number)).ok().flatten();
            let user = user.map_or_else(|| format!("'#{number}'"), |user| user.name);
            format!(
                "A registry file and its folder must belong to root or to the user that reads them. Run this as the user \
                 whose file it is (sudo -u {user}), or give it to root: chown root {path}"
            )
        }
        PathProblem::NotAFile => "Name a file of lines, or one that is yet to be made.".to_owned(),
        PathProblem::NameTooLong => {
            "The name of a registry file has at most 250 bytes, and its path at most 4,090: .lock and .new are put behind \
             it."
                .to_owned()
        }
        PathProblem::NotReplaceable(Kept::Place) => format!(
            "Run this as the owner of the file or of {folder}, or as root. If you are: `lsattr -d {path} {folder}` shows \
             whether the file or its folder is immutable."
        ),
        PathProblem::NotReplaceable(_) => format!(
            "Nothing was changed, for who may read the file would have changed with it. Run this as the owner of the file \
             or as root; or let its group write it: chmod g+w {path}"
        ),
        PathProblem::Failed(Error::FileNotFound) => format!("Make the folder first: mkdir -p {path}"),
        PathProblem::Failed(Error::PermissionDenied) if bad.path.extension().is_some_and(|e| e == "lock") => {
            if bad.path.symlink_metadata().is_ok() {
                format!(
                    "By this file those take turns who may write {}, and you are not among them; or it was made before \
                     you were, and the next change by root puts that right. Run this as root or as the file's owner.",
                    registry.display()
                )
            } else {
                format!(
                    "You may not make files in {folder}, and each change makes some there. Run this as the folder's owner \
                     or as root."
                )
            }
        }
        PathProblem::Failed(Error::PermissionDenied) => {
            "You may not read it, or not enter a folder above it: `namei -l` shows which. Run this as its owner or as root."
                .to_owned()
        }
        PathProblem::Failed(Error::DiskFull) => "The file is as it was. Make room on that disk, or in your quota.".to_owned(),
        PathProblem::Failed(Error::ReadOnly) => "Mount the file system for writing, or change the original.".to_owned(),
        _ => format!("`ls -l {path}` may show more."),
    }
}
