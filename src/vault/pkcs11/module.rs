//! PKCS #11 libraries: loaded once for the process, and what their errors mean.

use crate::crypto::{KEY_BYTES, Secret};
use crate::error::{Error, Result};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as ModuleError, RvError};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A loaded library, initialised.
#[derive(Clone)]
pub(super) struct Module {
    pub context: Pkcs11,
    /// Its own entry points, for what `context` would do with a copy of a secret left behind.
    entry: Arc<cryptoki_sys::Pkcs11>,
}

impl Module {
    /// The library at `path`, which stays loaded and initialised as long as the process lives: others may use it, too.
    ///
    /// # Errors
    /// `FileNotFound`, `VaultFailed`.
    pub(super) fn load(path: &Path) -> Result<Module> {
        static LOADED: Mutex<Option<HashMap<PathBuf, Module>>> = Mutex::new(None);
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.get_or_insert_default();
        if let Some(module) = loaded.get(path) {
            // Somebody else may have finalised it.
            module.initialize()?;
            return Ok(module.clone());
        }
        if path.is_absolute() && !path.exists() {
            return Err(Error::FileNotFound);
        }
        let context = Pkcs11::new(path).map_err(|e| error(&e))?;
        let module = Module { context, entry: Arc::new(entry_points(path)?) };
        module.initialize()?;
        loaded.insert(path.to_owned(), module.clone());
        Ok(module)
    }

    fn initialize(&self) -> Result<()> {
        match self.context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Err(ModuleError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
            done => done.map_err(|e| error(&e)),
        }
    }

    /// Reads the 32 bytes of a secret key straight to where they are wiped.
    #[allow(unsafe_code)]
    pub(super) fn read_value(&self, session: &Session, object: ObjectHandle) -> Result<Secret<KEY_BYTES>> {
        let mut value = Secret::<KEY_BYTES>::zeroed()?;
        let mut attribute = cryptoki_sys::CK_ATTRIBUTE {
            type_: cryptoki_sys::CKA_VALUE,
            pValue: value.bytes_mut().as_mut_ptr().cast(),
            ulValueLen: KEY_BYTES as cryptoki_sys::CK_ULONG,
        };
        let mut functions = std::ptr::null_mut();
        // SAFETY: the library is loaded, and initialised; it sets the pointer to a table that lives as long, or says
        // that it did not.
        let get = unsafe {
            if self.entry.C_GetFunctionList(&mut functions) != cryptoki_sys::CKR_OK || functions.is_null() {
                return Err(Error::VaultFailed);
            }
            (*functions).C_GetAttributeValue.ok_or(Error::VaultFailed)?
        };
        // SAFETY: one attribute is given, whose pointer and length are those of `value`, which outlives the call.
        let got = unsafe { get(session.handle(), object.handle(), &mut attribute, 1) };
        if got == cryptoki_sys::CKR_OK && attribute.ulValueLen as usize == KEY_BYTES {
            Ok(value)
        } else {
            Err(Error::VaultFailed)
        }
    }
}

#[allow(unsafe_code)]
fn entry_points(path: &Path) -> Result<cryptoki_sys::Pkcs11> {
    // SAFETY: the same library was loaded just before; what its initialisers do was done then, and is the library's
    // affair, as it was its user's to name it.
    unsafe { cryptoki_sys::Pkcs11::new(path) }.map_err(|_| Error::VaultFailed)
}

/// What a library's error means to a caller.
pub(super) fn error(error: &ModuleError) -> Error {
    let ModuleError::Pkcs11(error, _) = error else { return Error::VaultFailed };
    match error {
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => Error::WrongPassphrase,
        RvError::PinLocked | RvError::PinExpired | RvError::UserPinNotInitialized => Error::PermissionDenied,
        RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::SlotIdInvalid
        | RvError::DeviceRemoved => Error::NotFound,
        RvError::HostMemory | RvError::DeviceMemory => Error::OutOfMemory,
        RvError::TokenWriteProtected => Error::ReadOnly,
        _ => Error::VaultFailed,
    }
}
