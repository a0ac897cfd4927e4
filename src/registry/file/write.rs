//! Changing a registry file: one writer at a time, and readers see the old file or the new one.
//!
//! What decides who reads the file stays as it was: owner, group, mode, access control list and all
//! other extended attributes, hard links. So a file that this user can replace by one that has them
//! all is replaced. A file that this user cannot replace in that way, but may write, as an operator
//! of its group, is changed in place, in steps that each leave a whole file. Otherwise the change
//! is refused.

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

/// How long a writer waits for others.
const PATIENCE: Duration = Duration::from_secs(10);
/// Public keys may be read by all.
const NEW_MODE: u32 = 0o644;

/// A change of a file.
pub(super) struct Edit {
    /// What was read to make it; `None` if there was no file.
    pub from: Option<ChangeStamp>,
    /// All bytes of the new file.
    pub text: Vec<u8>,
    /// The same change in place.
    pub step: Step,
}

/// A change that leaves every byte of the other lines where it is.
pub(super) enum Step {
    /// This line comes after all others.
    Append(String),
    /// The lines become comments: where their first bytes that are not blank are.
    Comment(Vec<u64>),
}

/// The right to change a file, held until dropped.
pub(super) struct Writer {
    /// Without symbolic links.
    path: PathBuf,
    end: Instant,
    _lock: File,
}

impl Writer {
    /// Waits at most ten seconds for the writers before; `Timeout` after that. What is refused is
    /// refused before anything is made: the file itself is not, and without `create` it has to be
    /// there.
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

    /// Makes the change that `edit` says, from what it reads, and gives whether it said one. If the
    /// file changes between its reading and the change, by an editor for instance, it is done over.
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

    /// The change is on disk, or was not made; if the folder cannot be brought to the disk, it is
    /// there or not after a crash. Gives whether the file still was what had been read.
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
            // To change it in place takes less, or nothing.
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

    /// Puts a new file in the place of the old one, or of none.
    fn replace(&self, edit: &Edit) -> Result<(), Failure> {
        let old = match edit.from {
            Some(_) => Some(File::open(&self.path)?),
            None => None,
        };
        if let Some(old) = &old
            && old.metadata()?.nlink() > 1
        {
            // The old bytes would stay under its other names.
            return Err(Failure::NotKept(Kept::Links));
        }
        let new = beside(&self.path, ".new");
        let written = self.write(&new, old.as_ref(), &edit.text);
        let replaced = written.and_then(|()| fs::rename(&new, &self.path).map_err(in_the_folder));
        if let Err(error) = replaced {
            // It may not have come to be; what matters is the error.
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        Ok(())
    }

    fn write(&self, new: &Path, old: Option<&File>, bytes: &[u8]) -> Result<(), Failure> {
        // What a writer left that was killed; the lock says that there is none now.
        if let Err(error) = fs::remove_file(new)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(in_the_folder(error));
        }
        // Nobody reads it who may not read the old one.
        let mode = if old.is_some() { 0o600 } else { NEW_MODE };
        let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(new);
        let mut file = made.map_err(in_the_folder)?;
        if let Some(old) = old {
            carry_over(old, &file)?;
        }
        writing(|| file.write_all(bytes))?;
        if let Some(old) = old {
            // Again, for to write to a file may take some of it away.
            carry_over(old, &file)?;
        }
        Ok(file.sync_all()?)
    }
}

/// Refuses who can neither give a new file the owner of the old one nor write that.
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

/// Says whether the folder, or a mount upon the file, stands in the way of a new file, or the
/// system failed.
fn in_the_folder(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ResourceBusy => Failure::NotKept(Kept::Place),
        _ => Failure::Io(error),
    }
}

/// Makes a change in the file itself. Whenever it is cut short, a reader finds the old entries or
/// the new ones. Gives whether the file still was as `from` says.
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
            // It comes as a comment, of which any part changes nothing, and one byte makes an entry
            // of it.
            let comment = [broken.as_bytes(), b"#", rest, b"\n"].concat();
            if let Err(error) = writing(|| file.write_all_at(&comment, end)).and_then(|()| file.sync_data()) {
                // If that fails, too, a part of a comment is left.
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
