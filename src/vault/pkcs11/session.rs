//! A session with a token: logs in, finds and makes keys, and agrees secrets.

use super::module::{Module, check};
use super::pin::Pin;
use crate::crypto::{KEY_BYTES, Secret};
use crate::error::{Error, Result};
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_BBOOL, CK_ECDH1_DERIVE_PARAMS, CK_MECHANISM, CK_MECHANISM_TYPE,
    CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_SLOT_ID, CK_ULONG, CKA_VALUE, CKD_NULL, CKF_RW_SESSION,
    CKF_SERIAL_SESSION, CKM_ECDH1_DERIVE, CKR_OK, CKR_USER_ALREADY_LOGGED_IN, CKU_USER,
};
use std::ffi::c_void;
use std::ptr::{from_ref, null_mut};
use std::sync::RwLockReadGuard;
use std::sync::atomic::Ordering;

/// The value of an attribute that is passed to the library.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Number(CK_ULONG),
    Flag(CK_BBOOL),
    Bytes(&'a [u8]),
}

pub(super) type Attribute<'a> = (CK_ATTRIBUTE_TYPE, Value<'a>);

/// A type for which any bytes are a valid value.
pub(super) trait Plain {}
impl Plain for u8 {}
impl Plain for CK_ULONG {}

/// A session of one epoch of its library; closed when dropped.
pub(super) struct Session {
    module: Module,
    epoch: u64,
    handle: CK_SESSION_HANDLE,
}

impl Session {
    /// Opens a session with the token in `slot`, to read it or to change it.
    pub(super) fn open(module: Module, slot: CK_SLOT_ID, to_write: bool) -> Result<Session> {
        let mut handle = 0;
        let flags = if to_write { CKF_SERIAL_SESSION | CKF_RW_SESSION } else { CKF_SERIAL_SESSION };
        let epoch = {
            let _running = module.running();
            let open = module.functions().C_OpenSession.ok_or(Error::VaultFailed)?;
            // SAFETY: the handle is a place of ours; nothing is to be notified, so the pointer for
            // that is not used.
            check(unsafe { open(slot, flags, null_mut(), None, &mut handle) })?;
            module.sessions().fetch_add(1, Ordering::Relaxed);
            module.epoch()
        };
        Ok(Session { module, epoch, handle })
    }

    /// Keeps the library from being finalised while a function of it runs.
    ///
    /// # Errors
    /// `VaultFailed` if the session ended with an earlier epoch, because another session may have
    /// its handle by now.
    fn running(&self) -> Result<RwLockReadGuard<'_, ()>> {
        let running = self.module.running();
        if self.epoch == self.module.epoch() { Ok(running) } else { Err(Error::VaultFailed) }
    }

    /// Logs the process in to the token, with a PIN, or without one if the token has its own
    /// keypad.
    pub(super) fn login(&self, pin: Option<&Pin>) -> Result<()> {
        let _running = self.running()?;
        let login = self.module.functions().C_Login.ok_or(Error::VaultFailed)?;
        let pin = pin.map(Pin::bytes);
        let (bytes, len) = pin.map_or((null_mut(), 0), |pin| (pin.as_ptr().cast_mut(), pin.len()));
        // SAFETY: pointer and length are those of the PIN, which is only read; or NULL and 0.
        match unsafe { login(self.handle, CKU_USER, bytes, len as CK_ULONG) } {
            // Another session of this process has logged in.
            CKR_USER_ALREADY_LOGGED_IN => Ok(()),
            code => check(code),
        }
    }

    /// Returns the objects that have these attributes.
    pub(super) fn find(&self, attributes: &[Attribute<'_>]) -> Result<Vec<CK_OBJECT_HANDLE>> {
        let _running = self.running()?;
        let functions = self.module.functions();
        let start = functions.C_FindObjectsInit.ok_or(Error::VaultFailed)?;
        let next = functions.C_FindObjects.ok_or(Error::VaultFailed)?;
        let end = functions.C_FindObjectsFinal.ok_or(Error::VaultFailed)?;
        let mut template = template(attributes);
        // SAFETY: pointer and length are those of the template, whose values outlive the call.
        check(unsafe { start(self.handle, template.as_mut_ptr(), template.len() as CK_ULONG) })?;
        let (mut found, mut some, mut count) = (Vec::new(), [0; 16], 0);
        let searched = loop {
            // SAFETY: there is room for so many handles.
            let code = unsafe { next(self.handle, some.as_mut_ptr(), some.len() as CK_ULONG, &mut count) };
            match some.get(..count as usize) {
                Some([]) if code == CKR_OK => break Ok(()),
                Some(some) if code == CKR_OK => found.extend_from_slice(some),
                _ => break check(code).and(Err(Error::VaultFailed)),
            }
        };
        // SAFETY: a search is under way, and ends.
        let ended = check(unsafe { end(self.handle) });
        searched.and(ended)?;
        Ok(found)
    }

    /// Reads an attribute whose value is a number.
    pub(super) fn number(&self, object: CK_OBJECT_HANDLE, attribute: CK_ATTRIBUTE_TYPE) -> Result<CK_ULONG> {
        let mut number = [0];
        let size = self.read(object, attribute, &mut number)?;
        if size == size_of_val(&number) { Ok(number[0]) } else { Err(Error::VaultFailed) }
    }

    /// Reads the value of an attribute into `place`, and returns the size of the value in bytes.
    pub(super) fn read<T: Plain>(
        &self,
        object: CK_OBJECT_HANDLE,
        attribute: CK_ATTRIBUTE_TYPE,
        place: &mut [T],
    ) -> Result<usize> {
        let _running = self.running()?;
        let get = self.module.functions().C_GetAttributeValue.ok_or(Error::VaultFailed)?;
        let room = size_of_val(place);
        let pointer = place.as_mut_ptr().cast();
        let mut attribute = CK_ATTRIBUTE { type_: attribute, pValue: pointer, ulValueLen: room as CK_ULONG };
        // SAFETY: one attribute is given, whose pointer and length are those of `place`, of which
        // any bytes are values.
        check(unsafe { get(self.handle, object, &mut attribute, 1) })?;
        let size = usize::try_from(attribute.ulValueLen).ok().filter(|size| *size <= room);
        size.ok_or(Error::VaultFailed)
    }

    /// Makes a key pair, and returns the public key and the private key.
    pub(super) fn generate_pair(
        &self,
        mechanism: CK_MECHANISM_TYPE,
        public: &[Attribute<'_>],
        private: &[Attribute<'_>],
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)> {
        let _running = self.running()?;
        let generate = self.module.functions().C_GenerateKeyPair.ok_or(Error::VaultFailed)?;
        let mut mechanism = CK_MECHANISM { mechanism, pParameter: null_mut(), ulParameterLen: 0 };
        let (mut public, mut private) = (template(public), template(private));
        let (public_len, private_len) = (public.len() as CK_ULONG, private.len() as CK_ULONG);
        let (public, private) = (public.as_mut_ptr(), private.as_mut_ptr());
        let (mut public_key, mut private_key) = (0, 0);
        // SAFETY: pointers and lengths are those of the templates, whose values outlive the call;
        // the mechanism has no parameter; the handles are places of ours.
        check(unsafe {
            generate(
                self.handle,
                &mut mechanism,
                public,
                public_len,
                private,
                private_len,
                &mut public_key,
                &mut private_key,
            )
        })?;
        Ok((public_key, private_key))
    }

    /// Makes a private key agree a secret with the point of a peer. The secret is a new object with
    /// these attributes.
    pub(super) fn derive(
        &self,
        key: CK_OBJECT_HANDLE,
        point: &[u8],
        attributes: &[Attribute<'_>],
    ) -> Result<CK_OBJECT_HANDLE> {
        let _running = self.running()?;
        let derive = self.module.functions().C_DeriveKey.ok_or(Error::VaultFailed)?;
        let mut parameters = CK_ECDH1_DERIVE_PARAMS {
            kdf: CKD_NULL,
            ulSharedDataLen: 0,
            pSharedData: null_mut(),
            ulPublicDataLen: point.len() as CK_ULONG,
            pPublicData: point.as_ptr().cast_mut(),
        };
        let mut mechanism = CK_MECHANISM {
            mechanism: CKM_ECDH1_DERIVE,
            pParameter: (&raw mut parameters).cast(),
            ulParameterLen: size_of::<CK_ECDH1_DERIVE_PARAMS>() as CK_ULONG,
        };
        let mut template = template(attributes);
        let (attributes, len) = (template.as_mut_ptr(), template.len() as CK_ULONG);
        let mut derived = 0;
        // SAFETY: mechanism, parameters and template outlive the call, and the point, which is only
        // read; the handle is a place of ours.
        check(unsafe { derive(self.handle, &mut mechanism, key, attributes, len, &mut derived) })?;
        Ok(derived)
    }

    /// Reads the 32 bytes of a secret straight into memory that is wiped.
    pub(super) fn secret(&self, object: CK_OBJECT_HANDLE) -> Result<Secret<KEY_BYTES>> {
        let mut value = Secret::<KEY_BYTES>::zeroed()?;
        let len = self.read(object, CKA_VALUE, value.bytes_mut())?;
        if len == KEY_BYTES { Ok(value) } else { Err(Error::VaultFailed) }
    }

    pub(super) fn destroy(&self, object: CK_OBJECT_HANDLE) -> Result<()> {
        let _running = self.running()?;
        let destroy = self.module.functions().C_DestroyObject.ok_or(Error::VaultFailed)?;
        // SAFETY: it takes handles alone.
        check(unsafe { destroy(self.handle, object) })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Ok(_running) = self.running()
            && let Some(close) = self.module.functions().C_CloseSession
        {
            // SAFETY: it takes the handle alone, which is still this session's.
            let _ = unsafe { close(self.handle) };
        }
        self.module.sessions().fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the attributes in the library's form. The library only reads them.
fn template<'a>(attributes: &'a [Attribute<'a>]) -> Vec<CK_ATTRIBUTE> {
    let raw = |(kind, value): &'a Attribute<'a>| {
        let (place, size): (*const c_void, usize) = match value {
            Value::Number(number) => (from_ref(number).cast(), size_of::<CK_ULONG>()),
            Value::Flag(flag) => (from_ref(flag).cast(), size_of::<CK_BBOOL>()),
            Value::Bytes(bytes) => (bytes.as_ptr().cast(), bytes.len()),
        };
        CK_ATTRIBUTE { type_: *kind, pValue: place.cast_mut(), ulValueLen: size as CK_ULONG }
    };
    attributes.iter().map(raw).collect()
}
