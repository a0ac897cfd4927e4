//! Changes a registry file: one writer at a time, and readers see either the old file or the new
//! one.
//!
//! What decides who can read the file stays as it was: owner, group, mode, access control list and
//! all other extended attributes, and hard links. If this user can replace the file by one that has
//! them all, it is replaced. If not, but this user may write to the file, for example as an
//! operator of its group, it is changed in place, in steps that each leave a complete file.
//! Otherwise the change is refused.

use super::attributes::{Failure, carry_over};
use super::error::{FileResult, Kept, PathProblem, RegistryFileError};
use super::lock;
use super::trust::{self, ChangeStamp, FILE_MAX, check_folders};
use crate::error::Error;
use crate::sys::{sync_entry, writing};
use nix::unistd::geteuid;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a writer waits for other writers.
const PATIENCE: Duration = Duration::from_secs(10);
/// Everybody may read public keys.
const NEW_MODE: u32 = 0o644;

/// A change to a file.
pub(super) struct Edit {
    /// The stamp of the file that was read to make this change; `None` if there was no file.
    pub from: Option<ChangeStamp>,
    /// All bytes of the new file.
    pub text: Vec<u8>,
    /// The same change, made in place.
    pub step: Step,
}

/// A change that leaves every byte of the other lines where it is.
pub(super) enum Step {
    /// Adds this line after all others.
    Append(String),
    /// Turns lines into comments: the offsets of their first bytes that are not blank.
    Comment(Vec<u64>),
}

/// The right to change a file, held until it is dropped.
pub(super) struct Writer {
    /// The path of the file, without symbolic links.
    path: PathBuf,
    end: Instant,
    _lock: File,
}

impl Writer {
    /// Waits at most ten seconds for the writers before, and returns `Timeout` after that.
    ///
    /// What is to be refused is refused before any file is made. The registry file itself is not
    /// made here; without `create` it must exist.
    pub(super) fn begin(path: &Path, create: bool) -> FileResult<Writer> {
        // A link that leads nowhere stays what it is.
        let create = create && !path.is_symlink();
        match trust::open(path) {
            Err(RegistryFileError::Failed(Error::FileNotFound)) if create => {}
            opened => check_may_write(path, &opened?)?,
        }
        let path = resolve(path).map_err(|(at, e)| RegistryFileError::of_call(&at, &e))?;
        check_folders(&path)?;
        let end = Instant::now() + PATIENCE;
        let lock = lock::take(&path, end)?;
        Ok(Writer { path, end, _lock: lock })
    }

    /// Makes the change that `edit` returns after reading the file, and returns whether there was
    /// one. If the file changes in between, for example because an editor saves it, `edit` is
    /// called again.
    pub(super) fn change(&self, mut edit: impl FnMut() -> FileResult<Option<Edit>>) -> FileResult<bool> {
        while let Some(edit) = edit()? {
            if self.make(&edit)? {
                return Ok(true);
            }
            if Instant::now() >= self.end {
                return Err(Error::Timeout.into());
            }
        }
        Ok(false)
    }

    /// Makes a change. When this returns, the change is on disk, or it was not made; only if the
    /// folder could not be synced, a crash may take it back. Returns whether the file was still the
    /// one that had been read.
    fn make(&self, edit: &Edit) -> FileResult<bool> {
        if edit.text.len() as u64 > FILE_MAX {
            return Err(Error::TooLarge.into());
        }
        if ChangeStamp::at(&self.path) != edit.from {
            return Ok(false);
        }
        let kept = match self.replace(edit) {
            Ok(()) => return sync_entry(&self.path).map(|()| true).map_err(|e| self.failed(&e)),
            Err(Failure::NotKept(kept)) => kept,
            // A change in place takes less room, or none.
            Err(Failure::Io(e)) if Error::of_file(&e) == Error::DiskFull && edit.from.is_some() => {
                Kept::Place
            }
            Err(Failure::Io(e)) => return Err(self.failed(&e)),
        };
        let Some(from) = edit.from else { return Err(self.not_replaceable(kept)) };
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(&self.path).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => self.not_replaceable(kept),
            _ => self.failed(&e),
        })?;
        in_place(&file, from, &edit.step).map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &io::Error) -> RegistryFileError {
        RegistryFileError::of_call(&self.path, error)
    }

    fn not_replaceable(&self, kept: Kept) -> RegistryFileError {
        RegistryFileError::at(&self.path, PathProblem::NotReplaceable(kept))
    }

    /// Puts a new file in the place of the old one, if there is one.
    fn replace(&self, edit: &Edit) -> Result<(), Failure> {
        let old = match edit.from {
            Some(_) => Some(File::open(&self.path)?),
            None => None,
        };
        if let Some(old) = &old
            && old.metadata()?.nlink() > 1
        {
            // The old bytes would stay under the file's other names.
            return Err(Failure::NotKept(Kept::Links));
        }
        let new = beside(&self.path, ".new");
        let written = self.write(&new, old.as_ref(), &edit.text);
        let replaced = written.and_then(|()| fs::rename(&new, &self.path).map_err(in_the_folder));
        if let Err(error) = replaced {
            // The new file may not exist; the error is what matters.
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        Ok(())
    }

    fn write(&self, new: &Path, old: Option<&File>, bytes: &[u8]) -> Result<(), Failure> {
        // Remove what a killed writer left. The lock says that no other writer runs now.
        if let Err(error) = fs::remove_file(new)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(in_the_folder(error));
        }
        // Nobody may read the new file who may not read the old one.
        let mode = if old.is_some() { 0o600 } else { NEW_MODE };
        let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(new);
        let mut file = made.map_err(in_the_folder)?;
        if let Some(old) = old {
            carry_over(old, &file)?;
        }
        writing(|| file.write_all(bytes))?;
        if let Some(old) = old {
            // Again, because writing to a file may take some of this away.
            carry_over(old, &file)?;
        }
        Ok(file.sync_all()?)
    }
}

/// Refuses a user who can neither give a new file the owner of the old one nor write to the old
/// one.
fn check_may_write(path: &Path, file: &File) -> FileResult<()> {
    let failed = |e| RegistryFileError::of_call(path, &e);
    let owner = file.metadata().map_err(failed)?.uid();
    let me = geteuid();
    if me.is_root() || me.as_raw() == owner {
        return Ok(());
    }
    OpenOptions::new().write(true).open(path).map(drop).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => {
            RegistryFileError::at(path, PathProblem::NotReplaceable(Kept::Owner))
        }
        _ => failed(e),
    })
}

/// Tells apart a folder, or a mount on the file, that stands in the way of a new file, and a
/// failure of the system.
fn in_the_folder(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ResourceBusy => Failure::NotKept(Kept::Place),
        _ => Failure::Io(error),
    }
}

/// Makes a change in the file itself. If it is cut short at any point, a reader finds either the
/// old entries or the new ones. Returns whether the file still was as `from` says.
fn in_place(file: &File, from: ChangeStamp, step: &Step) -> io::Result<bool> {
    if ChangeStamp::of_file(file)? != from {
        return Ok(false);
    }
    match step {
        Step::Append(line) => {
            let end = from.size();
            let mut last = [b'\n'];
            if end > 0 {
                file.read_exact_at(&mut last, end - 1)?;
            }
            let broken = if last == [b'\n'] { "" } else { "\n" };
            let (first, rest) = line.as_bytes().split_at(1);
            // The line is written as a comment first, because any part of a comment changes
            // nothing. One more byte then makes it an entry.
            let comment = [broken.as_bytes(), b"#", rest, b"\n"].concat();
            if let Err(error) = writing(|| file.write_all_at(&comment, end)).and_then(|()| file.sync_data()) {
                // If this fails, too, a part of the comment is left.
                let _ = file.set_len(end);
                return Err(error);
            }
            writing(|| file.write_all_at(first, end + broken.len() as u64))?;
        }
        Step::Comment(lines) => {
            for at in lines {
                writing(|| file.write_all_at(b"#", *at))?;
            }
        }
    }
    file.sync_all()?;
    Ok(true)
}

/// Returns the path without symbolic links; its last part need not exist.
fn resolve(path: &Path) -> Result<PathBuf, (PathBuf, io::Error)> {
    match fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let Some(name) = path.file_name() else { return Err((path.to_owned(), e)) };
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            Ok(fs::canonicalize(folder).map_err(|e| (folder.to_owned(), e))?.join(name))
        }
        Err(e) => Err((path.to_owned(), e)),
    }
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
