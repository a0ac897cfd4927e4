//! # Registries
//!
//! A registry says which public keys may come in from where. A place is a string: an address; a
//! network; `*`, anywhere; or `!`, nowhere. A key with an entry `!` is denied, whatever other
//! entries it has. A key that may come in from anywhere may do so also where a network has entries.
//! Of the networks that contain an address, the most specific one that has entries decides alone.
//! An empty registry lets nobody in.

use super::boundary::{array_mut, catch_ok, end, flag, key, object, out, string, zero};
use super::growing::{self, growing};
use super::result::curve_tun_result;
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
#[cfg(feature = "dns")]
use crate::registry::DnsRegistry;
use crate::registry::{
    Candidate, Entry, FileRegistry, MemoryRegistry, Place, Registry, Subject, read_address,
};
use std::ffi::{CString, c_char, c_void};
use std::mem::offset_of;
use std::net::IpAddr;
use std::sync::Arc;

/// Decides which clients may come in.
pub struct curve_tun_registry(pub(super) Kind);

pub(super) enum Kind {
    Memory(Arc<MemoryRegistry>),
    File(Arc<FileRegistry>),
    #[cfg(feature = "dns")]
    Dns(Arc<DnsRegistry>),
    Host(Arc<HostRegistry>),
}

/// A registry implemented by the program, for `curve_tun_registry_custom`.
///
/// `verify` may be called from any thread, and from several at once: from the threads that call a
/// custom vault's functions, with `curve_tun_registry_verify` and `_answer` in place of the calls
/// on a vault. It must not use the connection or socket that is being served, nor let a C++
/// exception or a `longjmp` out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_registry_callbacks {
    /// `sizeof(curve_tun_registry_callbacks)`.
    pub size: usize,
    /// Flag: 0 if `verify` answers in microseconds, and connections may call it on the spot; 1 if
    /// it takes longer, and connections stop with a request instead
    /// (`curve_tun_connection_request`). If the program answers the requests itself, `verify` may
    /// be NULL; anything else that needs it then gets `CURVE_TUN_ERR_REGISTRY_FAILED`.
    pub deferred: u32,
    /// 0.
    pub reserved: u32,
    /// Says whether the client that has proven to hold this public key's secret may come in from
    /// this address to the server of this name (`listener` of `curve_tun_options`; an empty string
    /// if it has none). `*accepted` is 0; set it to 1 to let the client in. Any other value, and
    /// any return value but `CURVE_TUN_OK`, means that the registry failed, and the client is
    /// refused with `CURVE_TUN_ERR_REGISTRY_FAILED`.
    pub verify: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            address: *const c_char,
            public_key: *const u8,
            listener: *const c_char,
            accepted: *mut u32,
        ) -> i32,
    >,
    /// Called once, when nothing uses the registry any more, on the thread that freed its last
    /// user; may be NULL.
    pub free: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
}

growing!(given curve_tun_registry_callbacks, offset_of!(curve_tun_registry_callbacks, verify));

/// Makes an empty registry in memory.
///
/// Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_registry_new(registry: *mut *mut curve_tun_registry) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let mut out = unsafe { out(registry)? };
        out.give(curve_tun_registry(Kind::Memory(Arc::new(MemoryRegistry::new()))));
        Ok(())
    })
}

/// Makes a registry that the program implements. `callbacks` is copied; `user_data` is passed to
/// each function as it is.
///
/// On success the registry owns `user_data`, and `free` is called for it; on failure it is not. May
/// return `CURVE_TUN_ERR_INVALID_ARGUMENT` for a wrong size or an invalid flag;
/// `CURVE_TUN_ERR_NULL` also if `verify` is NULL without `deferred`. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_registry_custom(
    callbacks: *const curve_tun_registry_callbacks,
    user_data: *mut c_void,
    registry: *mut *mut curve_tun_registry,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers; the struct has integers, and functions that may
        // be NULL.
        let (callbacks, mut registry) = unsafe { (growing::read(callbacks)?, out(registry)?) };
        zero(callbacks.reserved)?;
        let deferred = flag(callbacks.deferred)?;
        if !deferred && callbacks.verify.is_none() {
            return Err(Error::Null);
        }
        let host = Arc::new(HostRegistry { callbacks, deferred, user_data });
        registry.give(curve_tun_registry(Kind::Host(host)));
        Ok(())
    })
}

/// Adds an entry, which says where the holder of a public key may come in from. Adding it again
/// changes nothing. It applies from the next handshake on.
///
/// `place` is as described above: `192.0.2.7`, `192.0.2.0/24`, `*` or `!`; `0.0.0.0/0` is all of
/// IPv4, `::/0` all of IPv6. For a registry in a file, the entry is written to the file. An entry
/// `!` is written even to a file with a wrong line, of which nothing else comes into force
/// (`curve_tun_registry_file_problem`). May return `CURVE_TUN_ERR_BAD_ADDRESS`;
/// `CURVE_TUN_ERR_WRONG_STATE` for a registry that is neither in memory nor in a file; and the
/// errors of `curve_tun_registry_open_file`, `CURVE_TUN_ERR_DISK_FULL`, `CURVE_TUN_ERR_READ_ONLY`;
/// `CURVE_TUN_ERR_PERMISSION_DENIED` also if this user may neither write the file nor replace it by
/// one that is the same in everything else, including its access control list; and
/// `CURVE_TUN_ERR_TIMEOUT` if another writer does not finish. Threads: any. Blocks only for a file:
/// as long as it takes to read and write it, and at most ten seconds for other writers.
/// cbindgen:ptrs-as-arrays=[[public_key;CURVE_TUN_KEY_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_registry_add(
    registry: *const curve_tun_registry,
    place: *const c_char,
    public_key: *const u8,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (registry, place, key) = unsafe { entry(registry, place, public_key)? };
        match &registry.0 {
            Kind::Memory(memory) => memory.add(place, key),
            Kind::File(file) => {
                let entry = Entry { subject: Subject::Client(place), key, comment: String::new() };
                file.add(&entry).map_err(|error| error.error())?;
            }
            _ => return Err(Error::WrongState),
        }
        Ok(())
    })
}

/// Removes exactly the entry that `curve_tun_registry_add` added. It no longer applies from the
/// next handshake on; established connections stay.
///
/// May return `CURVE_TUN_ERR_NOT_FOUND` if there is no entry with this place and key, and the
/// errors of `curve_tun_registry_add`. Threads: any. Blocks as `curve_tun_registry_add` does.
/// cbindgen:ptrs-as-arrays=[[public_key;CURVE_TUN_KEY_BYTES]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_registry_remove(
    registry: *const curve_tun_registry,
    place: *const c_char,
    public_key: *const u8,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (registry, place, key) = unsafe { entry(registry, place, public_key)? };
        match &registry.0 {
            Kind::Memory(memory) => memory.remove(place, &key),
            Kind::File(file) => file.remove(&Subject::Client(place), &key).map_err(|error| error.error()),
            _ => Err(Error::WrongState),
        }
    })
}

/// Gives a public key that may come in from an address: of several, the least when compared as
/// numbers.
///
/// May return `CURVE_TUN_ERR_NOT_FOUND` if no key may come in from there;
/// `CURVE_TUN_ERR_BAD_ADDRESS`, also for a network; `CURVE_TUN_ERR_WRONG_STATE` for a custom
/// registry; and for one in DNS `CURVE_TUN_ERR_NOT_VALIDATED`, `CURVE_TUN_ERR_TIMEOUT`,
/// `CURVE_TUN_ERR_REGISTRY_FAILED` and `CURVE_TUN_ERR_FORKED`. Threads: any. Blocks only for a file
/// that has changed, as long as it takes to read it, and for DNS, at most for its timeout.
/// cbindgen:ptrs-as-arrays=[[public_key;CURVE_TUN_KEY_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_registry_lookup(
    registry: *const curve_tun_registry,
    address: *const c_char,
    public_key: *mut u8,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (registry, address, place) =
            unsafe { (object(registry)?, ip_address(address)?, array_mut(public_key)?) };
        let keys = match &registry.0 {
            Kind::Memory(memory) => memory.lookup(address),
            Kind::File(file) => file.lookup(address),
            #[cfg(feature = "dns")]
            Kind::Dns(dns) => dns.lookup(address, None)?,
            Kind::Host(_) => return Err(Error::WrongState),
        };
        *place = keys.iter().min().ok_or(Error::NotFound)?.0;
        Ok(())
    })
}

/// Says whether the holder of a public key may come in from an address.
///
/// The listener's name is empty. A link-local address may have its scope after it (`fe80::1%eth0`),
/// which is ignored. May return `CURVE_TUN_ERR_BAD_ADDRESS`, and `CURVE_TUN_ERR_REGISTRY_FAILED` or
/// `CURVE_TUN_ERR_NOT_VALIDATED` if the registry cannot tell. Threads: any. Blocks as long as a
/// custom registry's function does, for a file that has changed, and for DNS, at most for its
/// timeout.
/// cbindgen:ptrs-as-arrays=[[public_key;CURVE_TUN_KEY_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_registry_verify(
    registry: *const curve_tun_registry,
    address: *const c_char,
    public_key: *const u8,
    accepted: *mut bool,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (registry, address, key, mut accepted) =
            unsafe { (object(registry)?, ip_address(address)?, key(public_key)?, out(accepted)?) };
        accepted.set(registry.shared().verify(&Candidate::new(address.to_canonical(), key))?);
        Ok(())
    })
}

/// Frees the caller's reference to a registry; servers that were made with it keep it.
///
/// Threads: the last call on this pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_registry_free(registry: *mut curve_tun_registry) {
    // SAFETY: the header's demands on pointers.
    unsafe { end(registry) }
}

impl curve_tun_registry {
    pub(super) fn shared(&self) -> Arc<dyn Registry> {
        match &self.0 {
            Kind::Memory(registry) => registry.clone(),
            Kind::File(registry) => registry.clone(),
            #[cfg(feature = "dns")]
            Kind::Dns(registry) => registry.clone(),
            Kind::Host(registry) => registry.clone(),
        }
    }
}

/// A limit on the characters of an address or a network: more than any has.
const ADDRESS_MAX: usize = 63;

/// # Safety
/// As [`string`].
pub(super) unsafe fn ip_address(text: *const c_char) -> Result<IpAddr> {
    // SAFETY: the caller's promise.
    read_address(unsafe { string(text, ADDRESS_MAX, Error::BadAddress) }?)
}

/// Reads the arguments of `curve_tun_registry_add` and `_remove`.
///
/// # Safety
/// As [`object`], [`string`] and [`key`].
unsafe fn entry<'a>(
    registry: *const curve_tun_registry,
    place: *const c_char,
    public_key: *const u8,
) -> Result<(&'a curve_tun_registry, Place, PublicKey)> {
    // SAFETY: the caller's promise.
    let (registry, place, key) =
        unsafe { (object(registry)?, string(place, ADDRESS_MAX, Error::BadAddress)?, key(public_key)?) };
    Ok((registry, place.parse()?, key))
}

/// A registry that a C program implements.
pub(super) struct HostRegistry {
    callbacks: curve_tun_registry_callbacks,
    deferred: bool,
    user_data: *mut c_void,
}

// SAFETY: the header demands that the callbacks take `user_data` on any thread.
unsafe impl Send for HostRegistry {}
// SAFETY: the header demands that the callbacks may run on several threads at once.
unsafe impl Sync for HostRegistry {}

impl Registry for HostRegistry {
    fn verify(&self, candidate: &Candidate) -> Result<bool> {
        let verify = self.callbacks.verify.ok_or(Error::RegistryFailed)?;
        let address = CString::new(candidate.address.to_string()).map_err(|_| Error::Internal)?;
        let listener = CString::new(&*candidate.listener).map_err(|_| Error::Internal)?;
        let key = candidate.key.0.as_ptr();
        let mut accepted = 0;
        // SAFETY: the function and its `user_data` are the host's promise; every pointer is valid
        // for what the struct's comment says of it.
        let told = unsafe { verify(self.user_data, address.as_ptr(), key, listener.as_ptr(), &mut accepted) };
        if told == 0 { flag(accepted).map_err(|_| Error::RegistryFailed) } else { Err(Error::RegistryFailed) }
    }

    fn deferred(&self) -> bool {
        self.deferred
    }
}

impl Drop for HostRegistry {
    fn drop(&mut self) {
        if let Some(free) = self.callbacks.free {
            // SAFETY: the host's promise, and this is the last use of `user_data`.
            unsafe { free(self.user_data) }
        }
    }
}
