//! The registry in a file, after `known_hosts` (`docs/REGISTRIES.md`).

mod guard;
mod line;
mod write;

pub use line::{Entry, Malformed, Problem, Subject};

use super::rules::Rules;
use super::{Candidate, Registry, ServerKeys, ServerName};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::vault::Answers;
use guard::Stamp;
use line::{Stopped, each_line};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, BufReader};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use write::Writer;

/// A changed file of at most this many bytes is read on the spot, in a few milliseconds.
const SMALL: u64 = 256 * 1024;

/// Why a registry file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryFileError {
    /// A line is wrong.
    Malformed(Malformed),
    /// `FileNotFound`; `RegistryPermissions`: others than its owner, its group and root could have written it;
    /// `TooLarge`: it has over 1 GiB; `InvalidArgument`: it is no file; `Timeout`: another writer did not end within
    /// ten seconds; `NotFound`: it has no such entry; `PermissionDenied`, `DiskFull`, `ReadOnly` and others of the
    /// operating system.
    Failed(Error),
}

impl From<Error> for RegistryFileError {
    fn from(error: Error) -> RegistryFileError {
        RegistryFileError::Failed(error)
    }
}

impl RegistryFileError {
    /// The same without line and column: `BadRegistryFile` for a wrong line.
    pub fn error(self) -> Error {
        match self {
            RegistryFileError::Malformed(_) => Error::BadRegistryFile,
            RegistryFileError::Failed(error) => error,
        }
    }
}

impl fmt::Display for RegistryFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryFileError::Malformed(malformed) => malformed.fmt(f),
            RegistryFileError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RegistryFileError {}

type FileResult<T> = std::result::Result<T, RegistryFileError>;

/// What a file says.
#[derive(Default)]
struct Content {
    rules: Rules,
    servers: BTreeMap<ServerName, Vec<PublicKey>>,
}

/// A registry in a file: one entry a line, `place key comment`.
///
/// It decides as [`MemoryRegistry`](super::MemoryRegistry) does. Each decision
/// looks at the file's metadata first, and a file that has changed is read
/// anew, so the next handshake sees the change; established connections stay.
/// A large file that has changed has the registry answer
/// [later](Answers::Later), so that its reading keeps nobody waiting. A file
/// that has become unusable changes nothing: the old entries stay in force, and
/// [`FileRegistry::problem`] tells why.
///
/// Any thread may call any method. Changes are written atomically; writers,
/// other processes too, take turns.
pub struct FileRegistry {
    path: PathBuf,
    content: RwLock<Arc<Content>>,
    reading: Mutex<()>,
    seen: Mutex<Seen>,
}

/// What is known of the file on disk.
struct Seen {
    /// The stamp under which it was read, or found unusable; `None` if there was no file.
    stamp: Option<Stamp>,
    /// Whether a change after that is sure to show in the stamp.
    settled: bool,
    problem: Option<RegistryFileError>,
}

impl FileRegistry {
    /// Reads the registry file at `path`.
    ///
    /// # Errors
    /// A [`RegistryFileError`].
    pub fn open(path: impl AsRef<Path>) -> FileResult<FileRegistry> {
        let path = absolute(path)?;
        let (content, stamp, settled) = read(&path)?;
        Ok(FileRegistry {
            path,
            content: RwLock::new(Arc::new(content)),
            reading: Mutex::new(()),
            seen: Mutex::new(Seen { stamp: Some(stamp), settled, problem: None }),
        })
    }

    /// As [`FileRegistry::open`], but a file that is not there is made, empty, with mode 0644 less the umask.
    ///
    /// # Errors
    /// Those of [`FileRegistry::open`].
    pub fn open_or_create(path: impl AsRef<Path>) -> FileResult<FileRegistry> {
        create_if_missing(path.as_ref())?;
        FileRegistry::open(path)
    }

    /// Adds an entry to the file at `path`, which is made if it is not there; gives whether the entry was not there
    /// before. As [`FileRegistry::add`] for who needs no other entry: the file is read once, and none is kept.
    ///
    /// # Errors
    /// Those of [`FileRegistry::add`].
    pub fn add_to(path: impl AsRef<Path>, entry: &Entry) -> FileResult<bool> {
        create_if_missing(path.as_ref())?;
        add_if(&absolute(path)?, entry, |_| Ok(()))
    }

    /// Takes an entry out of the file at `path`, as [`FileRegistry::remove`]: the file is read once, and none is kept.
    ///
    /// # Errors
    /// Those of [`FileRegistry::remove`].
    pub fn remove_from(path: impl AsRef<Path>, subject: &Subject, key: &PublicKey) -> FileResult<()> {
        remove(&absolute(path)?, subject, key)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file now, changed or not. Blocks as long as that takes: about a second for a million entries.
    ///
    /// # Errors
    /// A [`RegistryFileError`]: the old entries stay in force.
    pub fn reload(&self) -> FileResult<()> {
        let _turn = lock(&self.reading);
        self.read_anew()
    }

    /// Why the entries in force are not those of the file, if that is so.
    pub fn problem(&self) -> Option<RegistryFileError> {
        self.refresh();
        lock(&self.seen).problem
    }

    /// The keys that may come in from `address`, in ascending order; none if it is unknown.
    pub fn lookup(&self, address: IpAddr) -> Vec<PublicKey> {
        self.fresh().rules.admitted(address)
    }

    /// The keys that the server of this name has entries with, denied or not; and whether `key` is denied.
    pub(super) fn known(&self, name: &ServerName, key: &PublicKey) -> (Vec<PublicKey>, bool) {
        let content = self.fresh();
        (content.servers.get(name).cloned().unwrap_or_default(), content.rules.denies(key))
    }

    /// Adds an entry to the file; gives whether it was not there before. Another comment makes no other entry.
    ///
    /// # Errors
    /// `InvalidArgument` for a comment over 1024 bytes, with control characters, or with blanks around it; and those
    /// of [`FileRegistry::open`]. The file is then as it was; or, if only its folder could not be brought to the disk,
    /// the new one, which a crash may take back. To add the entry again is right in either case.
    pub fn add(&self, entry: &Entry) -> FileResult<bool> {
        self.add_if(entry, |_| Ok(()))
    }

    /// As [`FileRegistry::add`], if `allow` has nothing against any entry that is there when it is written.
    pub(super) fn add_if(&self, entry: &Entry, allow: impl FnMut(&Entry) -> Result<()>) -> FileResult<bool> {
        let added = add_if(&self.path, entry, allow)?;
        if added {
            self.refresh();
        }
        Ok(added)
    }

    /// Takes an entry, in however many lines it is, out of the file.
    ///
    /// # Errors
    /// `NotFound` if there is no such entry; and those of [`FileRegistry::open`]. The file is then as it was, or the new
    /// one, as with [`FileRegistry::add`].
    pub fn remove(&self, subject: &Subject, key: &PublicKey) -> FileResult<()> {
        remove(&self.path, subject, key)?;
        self.refresh();
        Ok(())
    }

    /// Shows each entry of the file at `path`, in order, to `take`.
    ///
    /// # Errors
    /// Those of [`FileRegistry::open`]; entries before a wrong line have been shown.
    pub fn each_entry(path: impl AsRef<Path>, mut take: impl FnMut(Entry)) -> FileResult<()> {
        let path = absolute(path)?;
        each(&path, |entry, _| entry.into_iter().for_each(&mut take)).map(drop)
    }

    /// Whether the file is as it was read.
    fn is_fresh(&self) -> bool {
        let now = Stamp::at(&self.path);
        let seen = lock(&self.seen);
        seen.settled && seen.stamp == now
    }

    /// Reads the file if it has changed.
    fn refresh(&self) {
        if self.is_fresh() {
            return;
        }
        let _turn = lock(&self.reading);
        // Another thread may have read it meanwhile. A failure is kept for those who ask.
        if !self.is_fresh() {
            let _ = self.read_anew();
        }
    }

    /// What the file says now, or said when it last was usable.
    fn fresh(&self) -> Arc<Content> {
        self.refresh();
        self.content.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Only one thread at a time does this.
    fn read_anew(&self) -> FileResult<()> {
        let before = Stamp::at(&self.path);
        let settled = before.is_some_and(|stamp| stamp.is_settled());
        match read(&self.path) {
            Ok((content, stamp, settled)) => {
                *self.content.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(content);
                *lock(&self.seen) = Seen { stamp: Some(stamp), settled, problem: None };
                Ok(())
            }
            Err(problem) => {
                // What is wrong with a line is wrong until the file changes; other failures may pass by themselves.
                let settled = settled && matches!(problem, RegistryFileError::Malformed(_));
                *lock(&self.seen) = Seen { stamp: before, settled, problem: Some(problem) };
                Err(problem)
            }
        }
    }
}

impl Registry for FileRegistry {
    fn verify(&self, candidate: &Candidate) -> Result<bool> {
        Ok(self.fresh().rules.admit(candidate.address, &candidate.key))
    }

    fn answers(&self) -> Answers {
        let large = Stamp::at(&self.path).is_some_and(|stamp| stamp.size() > SMALL);
        if large && !self.is_fresh() { Answers::Later } else { Answers::Now }
    }

    /// Whoever comes while the file is read waits for that.
    fn calls_at_once(&self) -> usize {
        1
    }
}

impl ServerKeys for FileRegistry {
    /// The keys of the entries `[host]:port`, in the order of the file, without those that are denied. Does not wait.
    fn server_keys(&self, name: &ServerName, _: Option<Duration>) -> Result<Vec<PublicKey>> {
        let content = self.fresh();
        let keys = content.servers.get(name).into_iter().flatten();
        let keys: Vec<_> = keys.filter(|key| !content.rules.denies(key)).copied().collect();
        if keys.is_empty() { Err(Error::NotFound) } else { Ok(keys) }
    }
}

fn absolute(path: impl AsRef<Path>) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|_| Error::InvalidArgument)
}

/// An empty file, unless there is one.
fn create_if_missing(path: &Path) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
        Ok(file) => file.sync_all().map_err(|e| Error::of_file(&e)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(Error::of_file(&e)),
    }
}

/// Adds an entry to the file, if it is not there and `allow` has nothing against any that is; gives whether it did.
fn add_if(path: &Path, entry: &Entry, mut allow: impl FnMut(&Entry) -> Result<()>) -> FileResult<bool> {
    line::check_comment(&entry.comment)?;
    let writer = Writer::begin(path)?;
    let (mut text, mut known, mut allowed) = (Vec::new(), false, Ok(()));
    each(path, |there, line| {
        text.extend_from_slice(line);
        text.push(b'\n');
        if let Some(there) = there {
            known |= there.subject == entry.subject && there.key == entry.key;
            allowed = allowed.and_then(|()| allow(&there));
        }
    })?;
    allowed?;
    if known {
        return Ok(false);
    }
    text.extend_from_slice(format!("{entry}\n").as_bytes());
    writer.replace(&text)?;
    Ok(true)
}

/// Takes an entry out of the file.
fn remove(path: &Path, subject: &Subject, key: &PublicKey) -> FileResult<()> {
    let writer = Writer::begin(path)?;
    let (mut text, mut known) = (Vec::new(), false);
    each(path, |there, line| {
        if there.is_some_and(|there| there.subject == *subject && there.key == *key) {
            known = true;
        } else {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
    })?;
    if !known {
        return Err(Error::NotFound.into());
    }
    Ok(writer.replace(&text)?)
}

/// What the file at `path` says, the stamp it has, and whether a further change is sure to show in that.
fn read(path: &Path) -> FileResult<(Content, Stamp, bool)> {
    let (mut rules, mut servers) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
    let (stamp, settled) = each(path, |entry, _| match entry {
        Some(Entry { subject: Subject::Client(place), key, .. }) => rules.push((place, key)),
        Some(Entry { subject: Subject::Server(name), key, .. }) => servers.entry(name).or_default().push(key),
        None => {}
    })?;
    Ok((Content { rules: rules.into_iter().collect(), servers }, stamp, settled))
}

/// Shows each line of the file at `path` to `take`, with the entry that it has, if it has one.
fn each(path: &Path, take: impl FnMut(Option<Entry>, &[u8])) -> FileResult<(Stamp, bool)> {
    let file = guard::open(path)?;
    let failed = |e: io::Error| RegistryFileError::Failed(Error::of_file(&e));
    let before = Stamp::of_file(&file).map_err(failed)?;
    let settled = before.is_settled();
    each_line(BufReader::with_capacity(1 << 16, &file), take).map_err(|stopped| match stopped {
        Stopped::Malformed(malformed) => RegistryFileError::Malformed(malformed),
        Stopped::Io(e) => failed(e),
    })?;
    let after = Stamp::of_file(&file).map_err(failed)?;
    Ok((after, settled && before == after))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
