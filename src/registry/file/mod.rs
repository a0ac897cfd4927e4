//! The registry in a file, after `known_hosts` (`docs/REGISTRIES.md`).

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

/// A changed file of at most this many bytes is read on the spot, in a few milliseconds.
const SMALL: u64 = 256 * 1024;

/// What a file says.
#[derive(Default)]
struct Content {
    rules: Rules,
    servers: BTreeMap<ServerName, Vec<PublicKey>>,
}

/// What decides.
#[derive(Default)]
struct InForce {
    content: Arc<Content>,
    /// Keys that a file denies which has a wrong line, so that else the old content stays.
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

/// A registry in a file: one entry a line, `place key comment`.
///
/// It decides as [`MemoryRegistry`](super::MemoryRegistry) does. Each decision
/// looks at the file's metadata first, and a file that has changed is read
/// anew, so the next handshake sees the change; established connections stay.
/// A large file that has changed has the registry answer
/// [later](Registry::deferred), so that its reading keeps nobody waiting. A file
/// that has become unusable lets nobody in: the old entries stay in force, and
/// [`FileRegistry::problem`] tells why. Only the keys that it denies are denied
/// from then on, also if another of its lines is wrong.
///
/// Any thread may call any method. Changes are written atomically; writers,
/// other processes too, take turns. Owner, group, mode, access control list,
/// other extended attributes and hard links of the file stay as they are, or
/// the change is refused.
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

/// What is known of the file on disk.
struct Seen {
    /// The stamp under which it was read, or found unusable; `None` if there was no file.
    stamp: Option<ChangeStamp>,
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
        let Read { told, stamp, settled, .. } = read(&path)?.whole()?;
        Ok(FileRegistry {
            path,
            in_force: RwLock::new(Arc::new(InForce { content: Arc::new(told), ..InForce::default() })),
            reading: Mutex::new(()),
            seen: Mutex::new(Seen { stamp: Some(stamp), settled, problem: None }),
        })
    }

    /// As [`FileRegistry::open`], but a file that is not there is made, empty, with mode 0644 less
    /// the umask.
    ///
    /// # Errors
    /// Those of [`FileRegistry::open`].
    pub fn open_or_create(path: impl AsRef<Path>) -> FileResult<FileRegistry> {
        create_if_missing(&absolute(&path)?)?;
        FileRegistry::open(path)
    }

    /// Adds an entry to the file at `path`, which is made, with mode 0644 less the umask, if it is
    /// not there; gives whether the entry was not there before. As [`FileRegistry::add`] for who
    /// needs no other entry: the file is read once, and none is kept.
    ///
    /// # Errors
    /// Those of [`FileRegistry::add`]; no file is made then.
    pub fn add_to(path: impl AsRef<Path>, entry: &Entry) -> FileResult<bool> {
        add_if(&absolute(path)?, true, entry, |_| Ok(()))
    }

    /// Takes an entry out of the file at `path`, as [`FileRegistry::remove`]: the file is read
    /// once, and none is kept.
    ///
    /// # Errors
    /// Those of [`FileRegistry::remove`].
    pub fn remove_from(path: impl AsRef<Path>, subject: &Subject, key: &PublicKey) -> FileResult<()> {
        remove_if(&absolute(path)?, |entry| entry.subject == *subject && entry.key == *key).map(drop)
    }

    /// Takes every entry of a key out of the file at `path`, but those that deny it; gives how many
    /// there were.
    ///
    /// # Errors
    /// `NotFound` if there was none; and those of [`FileRegistry::remove`].
    pub fn remove_key_from(path: impl AsRef<Path>, key: &PublicKey) -> FileResult<u64> {
        let denial = Subject::Client(Place::Nowhere);
        remove_if(&absolute(path)?, |entry| entry.key == *key && entry.subject != denial)
    }

    /// Returns where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file now, changed or not. Blocks as long as that takes: about a second for a
    /// million entries.
    ///
    /// # Errors
    /// A [`RegistryFileError`]: the old entries stay in force.
    pub fn reload(&self) -> FileResult<()> {
        let _turn = lock(&self.reading);
        self.read_anew()
    }

    /// Says why the entries in force are not those of the file, if that is so.
    pub fn problem(&self) -> Option<RegistryFileError> {
        self.refresh();
        lock(&self.seen).problem.clone()
    }

    /// Returns the keys that may come in from `address`, in ascending order; none if it is unknown.
    pub fn lookup(&self, address: IpAddr) -> Vec<PublicKey> {
        let in_force = self.fresh();
        let mut keys = in_force.content.rules.admitted(address);
        keys.retain(|key| !in_force.denies(key));
        keys
    }

    /// Returns the keys that the server of this name has entries with, denied or not; and whether
    /// `key` is denied.
    pub(super) fn known(&self, name: &ServerName, key: &PublicKey) -> KnownKeys {
        let in_force = self.fresh();
        KnownKeys { keys: in_force.servers(name).to_vec(), denied: in_force.denies(key) }
    }

    /// Adds an entry to the file; gives whether it was not there before. Another comment makes no
    /// other entry.
    ///
    /// An entry that denies a key ([`Place::Nowhere`]) is also added to a file with a wrong line,
    /// which stays as it is, and which [`FileRegistry::problem`] goes on to tell. Registries that
    /// have the file open deny the key from then on.
    ///
    /// # Errors
    /// `InvalidArgument` for a comment over 1024 bytes, with control characters, or with blanks
    /// around it; `BadPath` if this user may neither write the file nor replace it by one that
    /// differs in nothing else, or may not use the lock beside it; and those of
    /// [`FileRegistry::open`]. The file is then as it was; or, if only its folder could not be
    /// brought to the disk, the new one, which a crash may take back. To add the entry again is
    /// right in either case.
    pub fn add(&self, entry: &Entry) -> FileResult<bool> {
        self.add_if(entry, |_| Ok(()))
    }

    /// As [`FileRegistry::add`], if `allow` has nothing against it when it is written: of an entry
    /// of a server it is told what the file has of that server and of the key.
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

    /// Takes an entry, in however many lines it is, out of the file. Where the file cannot be
    /// replaced, but written, each of these lines becomes a comment.
    ///
    /// # Errors
    /// `NotFound` if there is no such entry; and those of [`FileRegistry::add`]. The file is then
    /// as it was, or the new one, as there.
    pub fn remove(&self, subject: &Subject, key: &PublicKey) -> FileResult<()> {
        FileRegistry::remove_from(&self.path, subject, key)?;
        self.refresh();
        Ok(())
    }

    /// Shows each entry of the file at `path`, in order, to `take`.
    ///
    /// # Errors
    /// Those of [`FileRegistry::open`]; the entries of all lines that are not wrong have been
    /// shown.
    pub fn each_entry(path: impl AsRef<Path>, mut take: impl FnMut(Entry)) -> FileResult<()> {
        let path = absolute(path)?;
        each(&path, |line| line.entry.into_iter().for_each(&mut take))?.whole().map(drop)
    }

    /// Says whether the file is as it was read.
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
        // Another thread may have read it meanwhile. A failure is kept for those who ask.
        if !self.is_fresh() {
            let _ = self.read_anew();
        }
    }

    /// Returns what the file says now, or said when it last was usable.
    fn fresh(&self) -> Arc<InForce> {
        self.refresh();
        self.in_force()
    }

    fn in_force(&self) -> Arc<InForce> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Only one thread at a time does this.
    fn read_anew(&self) -> FileResult<()> {
        let before = ChangeStamp::at(&self.path);
        let settled = before.is_some_and(|stamp| stamp.is_settled());
        let enforce = |new| *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        let read = read(&self.path).and_then(|read| match read.wrong {
            // To deny a key is right, whatever the wrong line was to say.
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
                // What is wrong with a line is wrong until the file changes; other failures may
                // pass by themselves.
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

    /// Whoever comes while the file is read waits for that.
    fn max_concurrency(&self) -> usize {
        1
    }
}

impl ServerKeys for FileRegistry {
    /// Returns the keys of the entries `[host]:port`, in the order of the file, without those that
    /// are denied. Does not wait.
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
    /// As it was when that began.
    stamp: ChangeStamp,
    /// Whether any change after that is sure to show in the stamp.
    settled: bool,
    /// The first line that is wrong.
    wrong: Option<Malformed>,
}

impl<T> Read<T> {
    /// Returns the same, if no line is wrong.
    fn whole(self) -> FileResult<Read<T>> {
        match self.wrong {
            Some(wrong) => Err(RegistryFileError::Malformed(wrong)),
            None => Ok(self),
        }
    }
}

/// Returns what the file at `path` says.
fn read(path: &Path) -> FileResult<Read<Content>> {
    let (mut rules, mut servers) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
    let Read { stamp, settled, wrong, .. } = each(path, |line| match line.entry {
        Some(Entry { subject: Subject::Client(place), key, .. }) => rules.push((place, key)),
        Some(Entry { subject: Subject::Server(name), key, .. }) => servers.entry(name).or_default().push(key),
        None => {}
    })?;
    Ok(Read { told: Content { rules: rules.into_iter().collect(), servers }, stamp, settled, wrong })
}

/// Shows each line of the file at `path` to `take`.
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
