//! PKCS #11 libraries: loaded once for the process, initialised, and asked for their tokens.
//!
//! The bindings are those of `cryptoki-sys`. Its safe companion `cryptoki` does not give access to
//! its table of functions. No other table can be used to read an agreed secret straight to memory
//! that is wiped: a library may return a new table, with sessions of its own, each time it is asked
//! (p11-kit's proxy does).

use crate::error::{Error, Result};
use cryptoki_sys::{
    CK_C_INITIALIZE_ARGS, CK_FUNCTION_LIST, CK_INFO, CK_MECHANISM_TYPE, CK_RV, CK_SLOT_ID, CK_SLOT_INFO,
    CK_TOKEN_INFO, CK_TRUE, CK_ULONG, CKF_OS_LOCKING_OK, CKR_BUFFER_TOO_SMALL,
    CKR_CRYPTOKI_ALREADY_INITIALIZED, CKR_CRYPTOKI_NOT_INITIALIZED, CKR_DEVICE_MEMORY, CKR_DEVICE_REMOVED,
    CKR_HOST_MEMORY, CKR_OK, CKR_PIN_EXPIRED, CKR_PIN_INCORRECT, CKR_PIN_INVALID, CKR_PIN_LEN_RANGE,
    CKR_PIN_LOCKED, CKR_SESSION_READ_ONLY, CKR_SLOT_ID_INVALID, CKR_TOKEN_NOT_PRESENT,
    CKR_TOKEN_NOT_RECOGNIZED, CKR_TOKEN_WRITE_PROTECTED, CKR_USER_PIN_NOT_INITIALIZED,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// The shortest time between two initialisations of a library.
const RENEWED_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// How many times to ask for a list that grows while it is read.
const LIST_TRIES: usize = 8;
/// The value that a token gives if it does not count its sessions.
const UNAVAILABLE: CK_ULONG = CK_ULONG::MAX;

/// A loaded library.
#[derive(Clone)]
pub(super) struct Module(Arc<Loaded>);

struct Loaded {
    /// The library's functions. This is a copy that was made once, because a library may keep its
    /// own table where it likes.
    functions: CK_FUNCTION_LIST,
    /// The loaded library, which the functions belong to.
    _library: cryptoki_sys::Pkcs11,
    /// Locked for reading while a function runs, and for writing while the library is finalised.
    calls: RwLock<()>,
    life: Mutex<Life>,
    /// Counts how often we have initialised the library. Sessions of an earlier epoch are gone.
    epoch: AtomicU64,
    /// The number of our sessions, of any epoch.
    sessions: AtomicUsize,
}

/// How the library was initialised.
struct Life {
    /// Whether we initialised it, because no other part of the process had done so.
    ours: bool,
    since: Instant,
}

impl Module {
    /// Loads the library at `path` and initialises it. It stays loaded as long as the process
    /// lives, because others may use it, too.
    ///
    /// # Errors
    /// `FileNotFound`, `VaultFailed`.
    pub(super) fn load(path: &Path) -> Result<Module> {
        let module = Module::loaded(path)?;
        module.initialize()?;
        Ok(module)
    }

    fn loaded(path: &Path) -> Result<Module> {
        static LOADED: Mutex<Option<HashMap<PathBuf, Module>>> = Mutex::new(None);
        let mut loaded = lock(&LOADED);
        let loaded = loaded.get_or_insert_default();
        if let Some(module) = loaded.get(path) {
            return Ok(module.clone());
        }
        if path.is_absolute() && !path.exists() {
            return Err(Error::FileNotFound);
        }
        // SAFETY: what the library's initialisers do is the library's affair, as it was its user's
        // to name it.
        let library = unsafe { cryptoki_sys::Pkcs11::new(path) }.map_err(|_| Error::VaultFailed)?;
        let get = *library.C_GetFunctionList.as_ref().map_err(|_| Error::VaultFailed)?;
        let mut functions = null_mut();
        // SAFETY: the library sets the pointer to a table that lives as long as it does, or says
        // that it did not.
        check(unsafe { get(&mut functions) })?;
        // SAFETY: NULL aside, that pointer is to such a table; it is read as one of version 2.40,
        // with which later ones begin.
        let functions = *unsafe { functions.as_ref() }.ok_or(Error::VaultFailed)?;
        let life = Mutex::new(Life { ours: false, since: Instant::now() });
        let (epoch, sessions) = (AtomicU64::new(0), AtomicUsize::new(0));
        let module = Loaded { functions, _library: library, calls: RwLock::new(()), life, epoch, sessions };
        let module = Module(Arc::new(module));
        loaded.insert(path.to_owned(), module.clone());
        Ok(module)
    }

    /// Initialises the library if that has not been done, or if another part of the process has
    /// finalised it.
    fn initialize(&self) -> Result<()> {
        let mut life = lock(&self.0.life);
        // Do this again only if necessary: some libraries count how often they are initialised, and
        // must be finalised as many times.
        if self.epoch() == 0 || self.info_or_code().err() == Some(CKR_CRYPTOKI_NOT_INITIALIZED) {
            self.begin(&mut life)?;
        }
        Ok(())
    }

    fn begin(&self, life: &mut Life) -> Result<()> {
        let mut arguments = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: CKF_OS_LOCKING_OK,
            pReserved: null_mut(),
        };
        let initialize = self.functions().C_Initialize.ok_or(Error::VaultFailed)?;
        // SAFETY: the arguments are of the type that the function expects, and last longer than the
        // call.
        let done = unsafe { initialize((&raw mut arguments).cast()) };
        life.ours = done == CKR_OK;
        life.since = Instant::now();
        self.0.epoch.fetch_add(1, Ordering::Relaxed);
        if done == CKR_CRYPTOKI_ALREADY_INITIALIZED { Ok(()) } else { check(done) }
    }

    /// Makes a library look for its tokens again, if it does so only when it is initialised.
    /// Returns whether it has looked since the epoch `seen`.
    ///
    /// The library is left alone if another part of the process initialised it or has sessions, if
    /// we have any ourselves, if a call has not returned, or if it was initialised just now.
    pub(super) fn renew(&self, seen: u64) -> Result<bool> {
        let mut life = lock(&self.0.life);
        if self.epoch() != seen {
            return Ok(true);
        }
        if !life.ours || life.since.elapsed() < RENEWED_AT_MOST_EVERY || self.counts_sessions() {
            return Ok(false);
        }
        let Ok(_alone) = self.0.calls.try_write() else { return Ok(false) };
        if self.0.sessions.load(Ordering::Relaxed) > 0 {
            return Ok(false);
        }
        let finalize = self.functions().C_Finalize.ok_or(Error::VaultFailed)?;
        // SAFETY: the argument has to be NULL. No other thread of ours is in a function of the
        // library.
        check(unsafe { finalize(null_mut()) })?;
        self.begin(&mut life)?;
        Ok(true)
    }

    /// Returns whether a token reports sessions of this process.
    fn counts_sessions(&self) -> bool {
        let slots = self.slots().unwrap_or_default();
        let counts = slots.into_iter().filter_map(|slot| Some(self.token_info(slot).ok()?.ulSessionCount));
        counts.into_iter().any(|count| count != 0 && count != UNAVAILABLE)
    }

    pub(super) fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Relaxed)
    }

    pub(super) fn functions(&self) -> &CK_FUNCTION_LIST {
        &self.0.functions
    }

    /// Keeps the library from being finalised while a function of it runs.
    pub(super) fn running(&self) -> RwLockReadGuard<'_, ()> {
        self.0.calls.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sessions(&self) -> &AtomicUsize {
        &self.0.sessions
    }

    pub(super) fn info(&self) -> Result<CK_INFO> {
        self.info_or_code().map_err(error)
    }

    fn info_or_code(&self) -> std::result::Result<CK_INFO, CK_RV> {
        let _running = self.running();
        let get = self.functions().C_GetInfo.ok_or(CKR_CRYPTOKI_NOT_INITIALIZED)?;
        let mut info = CK_INFO::default();
        // SAFETY: the place has the type that the function fills.
        match unsafe { get(&mut info) } {
            CKR_OK => Ok(info),
            code => Err(code),
        }
    }

    /// Returns the slots that have a token.
    pub(super) fn slots(&self) -> Result<Vec<CK_SLOT_ID>> {
        let _running = self.running();
        let get = self.functions().C_GetSlotList.ok_or(Error::VaultFailed)?;
        // SAFETY: without a list the function gives the number alone; else it has room for so many.
        list(|slots, count| unsafe { get(CK_TRUE, slots, count) })
    }

    pub(super) fn slot_info(&self, slot: CK_SLOT_ID) -> Result<CK_SLOT_INFO> {
        let _running = self.running();
        let get = self.functions().C_GetSlotInfo.ok_or(Error::VaultFailed)?;
        let mut info = CK_SLOT_INFO::default();
        // SAFETY: the place has the type that the function fills.
        check(unsafe { get(slot, &mut info) })?;
        Ok(info)
    }

    pub(super) fn token_info(&self, slot: CK_SLOT_ID) -> Result<CK_TOKEN_INFO> {
        let _running = self.running();
        let get = self.functions().C_GetTokenInfo.ok_or(Error::VaultFailed)?;
        let mut info = CK_TOKEN_INFO::default();
        // SAFETY: the place has the type that the function fills.
        check(unsafe { get(slot, &mut info) })?;
        Ok(info)
    }

    pub(super) fn mechanisms(&self, slot: CK_SLOT_ID) -> Result<Vec<CK_MECHANISM_TYPE>> {
        let _running = self.running();
        let get = self.functions().C_GetMechanismList.ok_or(Error::VaultFailed)?;
        // SAFETY: without a list the function gives the number alone; else it has room for so many.
        list(|mechanisms, count| unsafe { get(slot, mechanisms, count) })
    }
}

/// Reads a list through a function that returns the length first.
fn list<T: Default + Clone>(get: impl Fn(*mut T, &mut CK_ULONG) -> CK_RV) -> Result<Vec<T>> {
    for _ in 0..LIST_TRIES {
        let mut count = 0;
        check(get(null_mut(), &mut count))?;
        let mut list = vec![T::default(); usize::try_from(count).map_err(|_| Error::VaultFailed)?];
        match get(list.as_mut_ptr(), &mut count) {
            CKR_BUFFER_TOO_SMALL => {}
            code => {
                check(code)?;
                list.truncate(usize::try_from(count).map_err(|_| Error::VaultFailed)?);
                return Ok(list);
            }
        }
    }
    Err(Error::VaultFailed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks the result of a function.
///
/// # Errors
/// What `code` means, unless it is `CKR_OK`.
pub(super) fn check(code: CK_RV) -> Result<()> {
    if code == CKR_OK { Ok(()) } else { Err(error(code)) }
}

/// Returns what a library's error means to a caller.
fn error(code: CK_RV) -> Error {
    match code {
        CKR_PIN_INCORRECT | CKR_PIN_INVALID | CKR_PIN_LEN_RANGE => Error::WrongPassphrase,
        CKR_PIN_LOCKED | CKR_PIN_EXPIRED | CKR_USER_PIN_NOT_INITIALIZED => Error::PinLocked,
        CKR_TOKEN_NOT_PRESENT | CKR_TOKEN_NOT_RECOGNIZED | CKR_SLOT_ID_INVALID | CKR_DEVICE_REMOVED => {
            Error::NotFound
        }
        CKR_HOST_MEMORY | CKR_DEVICE_MEMORY => Error::OutOfMemory,
        CKR_TOKEN_WRITE_PROTECTED | CKR_SESSION_READ_ONLY => Error::ReadOnly,
        _ => Error::VaultFailed,
    }
}
