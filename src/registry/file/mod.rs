//! The registry in a file, modelled on `known_hosts` (`docs/REGISTRIES.md`).

mod attributes;
mod change;
mod error;
mod line;
mod lock;
mod trust;
mod write;

pub use error::{BadPath, Kept, PathProblem, RegistryFileError};
pub use line::{Entry, Malformed, Problem, Subject};

use super::rules::Rules;
use super::{Candidate, KnownKeys, Place, Registry, ServerKeys, ServerName};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use change::{add_if, create_if_missing, remove_if};
use error::FileResult;
use line::{Line, each_line};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use trust::ChangeStamp;

/// The size in bytes up to which a changed file is read within the call, which takes a few
/// milliseconds.
const SMALL: u64 = 256 * 1024;

/// The content of a file.
#[derive(Default)]
struct Content {
    rules: Rules,
    servers: BTreeMap<ServerName, Vec<PublicKey>>,
}

/// The entries that decide.
#[derive(Default)]
struct InForce {
    content: Arc<Content>,
    /// The keys that a file with a wrong line denies. Nothing else of such a file is used; the old
    /// content stays in force.
    denied: BTreeSet<PublicKey>,
}

impl InForce {
    fn denies(&self, key: &PublicKey) -> bool {
        self.denied.contains(key) || self.content.rules.denies(key)
    }

    /// Returns the keys of the entries for a server, denied or not.
    fn servers(&self, name: &ServerName) -> &[PublicKey] {
        self.content.servers.get(name).map_or(&[], Vec::as_slice)
    }
}

/// A registry in a file: one entry on each line, `place key comment`.
///
/// It decides as [`MemoryRegistry`](super::MemoryRegistry) does. Each decision first looks at the
/// file's metadata. A file that has changed is read again, so the next handshake sees the change;
/// established connections stay. If a large file has changed, the registry answers
/// [later](Registry::deferred), so that nobody else is kept waiting while it is read.
///
/// A file that has become unusable admits nobody new: the old entries stay in force, and
/// [`FileRegistry::problem`] says why. There is one exception: if a line is wrong, the keys that
/// the other lines deny are denied from then on.
///
/// Any thread may call any method. Changes are written atomically, and writers take turns,
/// including those of other processes. The file keeps its owner, group, mode, access control list,
/// other extended attributes and hard links, or the change is refused.
pub struct FileRegistry {
    path: PathBuf,
    in_force: RwLock<Arc<InForce>>,
    reading: Mutex<()>,
    seen: Mutex<Seen>,
}

impl fmt::Debug for FileRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRegistry").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What is known about the file on disk.
struct Seen {
    /// The stamp under which the file was read, or found unusable; `None` if there was no file.
    stamp: Option<ChangeStamp>,
    /// Whether a later change is sure to show in the stamp.
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
        let Read { told, stamp, settled, .. } = read(&path)?.whole()?;
        Ok(FileRegistry {
            path,
            in_force: RwLock::new(Arc::new(InForce { content: Arc::new(told), ..InForce::default() })),
            reading: Mutex::new(()),
            seen: Mutex::new(Seen { stamp: Some(stamp), settled, problem: None }),
        })
    }

    /// Like [`FileRegistry::open`], but makes an empty file, with mode 0644 less the umask, if
    /// there is none.
    ///
    /// # Errors
    /// Those of [`FileRegistry::open`].
    pub fn open_or_create(path: impl AsRef<Path>) -> FileResult<FileRegistry> {
        create_if_missing(&absolute(&path)?)?;
        FileRegistry::open(path)
    }

    /// Adds an entry to the file at `path`, and returns whether it was not there before. If there
    /// is no file, makes it, with mode 0644 less the umask.
    ///
    /// This is [`FileRegistry::add`] for callers that need no other entry: the file is read once,
    /// and no entries are kept.
    ///
    /// # Errors
    /// Those of [`FileRegistry::add`]; no file is made then.
    pub fn add_to(path: impl AsRef<Path>, entry: &Entry) -> FileResult<bool> {
        add_if(&absolute(path)?, true, entry, |_| Ok(()))
    }

    /// Removes an entry from the file at `path`, as [`FileRegistry::remove`] does. The file is read
    /// once, and no entries are kept.
    ///
    /// # Errors
    /// Those of [`FileRegistry::remove`].
    pub fn remove_from(path: impl AsRef<Path>, subject: &Subject, key: &PublicKey) -> FileResult<()> {
        remove_if(&absolute(path)?, |entry| entry.subject == *subject && entry.key == *key).map(drop)
    }

    /// Removes every entry of a key from the file at `path`, except entries that deny it. Returns
    /// how many there were.
    ///
    /// # Errors
    /// `NotFound` if there was none; and those of [`FileRegistry::remove`].
    pub fn remove_key_from(path: impl AsRef<Path>, key: &PublicKey) -> FileResult<u64> {
        let denial = Subject::Client(Place::Nowhere);
        remove_if(&absolute(path)?, |entry| entry.key == *key && entry.subject != denial)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file now, whether it has changed or not. Blocks as long as that takes: about a
    /// second for a million entries.
    ///
    /// # Errors
    /// A [`RegistryFileError`]; the old entries stay in force.
    pub fn reload(&self) -> FileResult<()> {
        let _turn = lock(&self.reading);
        self.read_anew()
    }

    /// Returns why the entries in force are not those of the file; `None` if they are.
    pub fn problem(&self) -> Option<RegistryFileError> {
        self.refresh();
        lock(&self.seen).problem.clone()
    }

    /// Returns the keys that may connect from `address`, in ascending order; empty if there are
    /// none.
    pub fn lookup(&self, address: IpAddr) -> Vec<PublicKey> {
        let in_force = self.fresh();
        let mut keys = in_force.content.rules.admitted(address);
        keys.retain(|key| !in_force.denies(key));
        keys
    }

    /// Returns the keys that the server of this name has entries with, denied or not, and whether
    /// `key` is denied.
    pub(super) fn known(&self, name: &ServerName, key: &PublicKey) -> KnownKeys {
        let in_force = self.fresh();
        KnownKeys { keys: in_force.servers(name).to_vec(), denied: in_force.denies(key) }
    }

    /// Adds an entry to the file; returns whether it was not there before. An entry that differs
    /// only in its comment is the same entry.
    ///
    /// An entry that denies a key ([`Place::Nowhere`]) is added even to a file with a wrong line.
    /// That line stays as it is, and [`FileRegistry::problem`] continues to report it. Registries
    /// that have the file open deny the key from then on.
    ///
    /// # Errors
    /// `InvalidArgument` for a comment over 1024 bytes, with control characters, or with blanks
    /// around it; `BadPath` if this user may neither write to the file nor replace it by one that
    /// differs in nothing else, or may not use the lock beside it; and those of
    /// [`FileRegistry::open`]. The file is then as it was. The one exception: if only its folder
    /// could not be synced to the disk, it is the new file, which a crash may take back. In either
    /// case it is right to add the entry again.
    pub fn add(&self, entry: &Entry) -> FileResult<bool> {
        self.add_if(entry, |_| Ok(()))
    }

    /// Like [`FileRegistry::add`], if `allow` has nothing against it at the time of writing. For an
    /// entry of a server, `allow` gets what the file has about that server and about the key.
    pub(super) fn add_if(
        &self,
        entry: &Entry,
        allow: impl FnMut(&KnownKeys) -> Result<()>,
    ) -> FileResult<bool> {
        let added = add_if(&self.path, false, entry, allow)?;
        if added {
            self.refresh();
        }
        Ok(added)
    }

    /// Removes an entry from the file, from as many lines as it stands on. If the file can be
    /// written but not replaced, each of these lines becomes a comment.
    ///
    /// # Errors
    /// `NotFound` if there is no such entry; and those of [`FileRegistry::add`]. The file is then
    /// as it was, or the new one, as described there.
    pub fn remove(&self, subject: &Subject, key: &PublicKey) -> FileResult<()> {
        FileRegistry::remove_from(&self.path, subject, key)?;
        self.refresh();
        Ok(())
    }

    /// Passes each entry of the file at `path` to `take`, in order.
    ///
    /// # Errors
    /// Those of [`FileRegistry::open`]. If a line is wrong, the entries of all other lines have
    /// been passed to `take`.
    pub fn each_entry(path: impl AsRef<Path>, mut take: impl FnMut(Entry)) -> FileResult<()> {
        let path = absolute(path)?;
        each(&path, |line| line.entry.into_iter().for_each(&mut take))?.whole().map(drop)
    }

    /// Returns whether the file is still as it was when it was read.
    fn is_fresh(&self) -> bool {
        let now = ChangeStamp::at(&self.path);
        let seen = lock(&self.seen);
        seen.settled && seen.stamp == now
    }

    /// Reads the file if it has changed.
    fn refresh(&self) {
        if self.is_fresh() {
            return;
        }
        let _turn = lock(&self.reading);
        // Another thread may have read the file in the meantime. A failure is kept, for `problem`
        // to report.
        if !self.is_fresh() {
            let _ = self.read_anew();
        }
    }

    /// Returns what the file says now, or what it said when it was last usable.
    fn fresh(&self) -> Arc<InForce> {
        self.refresh();
        self.in_force()
    }

    fn in_force(&self) -> Arc<InForce> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again. Only one thread at a time may do this.
    fn read_anew(&self) -> FileResult<()> {
        let before = ChangeStamp::at(&self.path);
        let settled = before.is_some_and(|stamp| stamp.is_settled());
        let enforce = |new| *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        let read = read(&self.path).and_then(|read| match read.wrong {
            // It is right to deny a key, whatever the wrong line was meant to say.
            Some(wrong) => {
                let content = self.in_force().content.clone();
                enforce(InForce { content, denied: read.told.rules.denied() });
                Err(RegistryFileError::Malformed(wrong))
            }
            None => Ok(read),
        });
        match read {
            Ok(Read { told, stamp, settled, .. }) => {
                enforce(InForce { content: Arc::new(told), ..InForce::default() });
                *lock(&self.seen) = Seen { stamp: Some(stamp), settled, problem: None };
                Ok(())
            }
            Err(problem) => {
                // A wrong line stays wrong until the file changes; other failures may go away by
                // themselves.
                let settled = settled && matches!(problem, RegistryFileError::Malformed(_));
                *lock(&self.seen) = Seen { stamp: before, settled, problem: Some(problem.clone()) };
                Err(problem)
            }
        }
    }
}

impl Registry for FileRegistry {
    fn verify(&self, candidate: &Candidate) -> Result<bool> {
        let in_force = self.fresh();
        let (address, key) = (candidate.address, &candidate.key);
        Ok(!in_force.denied.contains(key) && in_force.content.rules.admit(address, key))
    }

    fn deferred(&self) -> bool {
        let large = ChangeStamp::at(&self.path).is_some_and(|stamp| stamp.size() > SMALL);
        large && !self.is_fresh()
    }

    /// Returns 1, because all who come while the file is read wait for that.
    fn max_concurrency(&self) -> usize {
        1
    }
}

impl ServerKeys for FileRegistry {
    /// Returns the keys of the entries `[host]:port`, in the order of the file, without denied
    /// keys. Does not wait.
    fn server_keys(&self, name: &ServerName, _: Option<Duration>) -> Result<Vec<PublicKey>> {
        let in_force = self.fresh();
        let keys = in_force.servers(name).iter();
        let keys: Vec<_> = keys.filter(|key| !in_force.denies(key)).copied().collect();
        if keys.is_empty() { Err(Error::NotFound) } else { Ok(keys) }
    }
}

fn absolute(path: impl AsRef<Path>) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|_| Error::InvalidArgument)
}

/// A file that has been read to its end.
struct Read<T> {
    told: T,
    /// The stamp of the file when reading began.
    stamp: ChangeStamp,
    /// Whether any change after that is sure to show in the stamp.
    settled: bool,
    /// The first wrong line.
    wrong: Option<Malformed>,
}

impl<T> Read<T> {
    /// Returns the same, or an error if a line is wrong.
    fn whole(self) -> FileResult<Read<T>> {
        match self.wrong {
            Some(wrong) => Err(RegistryFileError::Malformed(wrong)),
            None => Ok(self),
        }
    }
}

/// Reads the file at `path`.
fn read(path: &Path) -> FileResult<Read<Content>> {
    let (mut rules, mut servers) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
    let Read { stamp, settled, wrong, .. } = each(path, |line| match line.entry {
        Some(Entry { subject: Subject::Client(place), key, .. }) => rules.push((place, key)),
        Some(Entry { subject: Subject::Server(name), key, .. }) => servers.entry(name).or_default().push(key),
        None => {}
    })?;
    Ok(Read { told: Content { rules: rules.into_iter().collect(), servers }, stamp, settled, wrong })
}

/// Passes each line of the file at `path` to `take`.
fn each(path: &Path, take: impl FnMut(Line<'_>)) -> FileResult<Read<()>> {
    let file = trust::open(path)?;
    let failed = |e: io::Error| RegistryFileError::of_call(path, &e);
    let stamp = ChangeStamp::of_file(&file).map_err(failed)?;
    let settled = stamp.is_settled();
    let wrong = each_line(BufReader::with_capacity(1 << 16, &file), take).map_err(failed)?;
    let steady = stamp == ChangeStamp::of_file(&file).map_err(failed)?;
    Ok(Read { told: (), stamp, settled: settled && steady, wrong })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
