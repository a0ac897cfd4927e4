//! # Vaults
//!
//! A vault is the only holder of a long-term secret key. It seals and opens boxes with that key,
//! and makes the long-term nonce itself, which it gives with the box. No call reveals the secret
//! key.

use super::boundary::{
    array, array_mut, bytes, bytes_mut, catch_ok, disjoint, end, flag, key, object, out, zero,
};
use super::growing::{self, growing};
use super::keys::CURVE_TUN_KEY_BYTES;
use super::result::curve_tun_result;
use crate::crypto::{PublicKey, TAG_BYTES};
use crate::error::{Error, Result};
use crate::vault::{LongTermNonce, MemoryVault, Purpose, Vault};
use std::ffi::c_void;
use std::mem::offset_of;
use std::sync::Arc;

/// Bytes of a long-term nonce, which a vault makes; in the nonce of a box it follows the purpose's
/// prefix.
pub const CURVE_TUN_NONCE_BYTES: usize = 16;
/// Bytes by which a box is longer than its message.
pub const CURVE_TUN_BOX_OVERHEAD: usize = 16;

/// Purpose: the box in a hello. A vault only opens it. Nonce: the 8 bytes of the packet's counter.
pub const CURVE_TUN_PURPOSE_HELLO: u32 = 1;
/// Purpose: the box in a cookie packet. Nonce: `CURVE_TUN_NONCE_BYTES`.
pub const CURVE_TUN_PURPOSE_COOKIE: u32 = 2;
/// Purpose: the vouch in an initiate. Nonce: `CURVE_TUN_NONCE_BYTES`.
pub const CURVE_TUN_PURPOSE_VOUCH: u32 = 3;

const _: () = assert!(CURVE_TUN_NONCE_BYTES == size_of::<LongTermNonce>());
const _: () = assert!(CURVE_TUN_BOX_OVERHEAD == TAG_BYTES);
const _: () = assert!(CURVE_TUN_PURPOSE_HELLO == Purpose::Hello as u32);
const _: () = assert!(CURVE_TUN_PURPOSE_COOKIE == Purpose::Cookie as u32);
const _: () = assert!(CURVE_TUN_PURPOSE_VOUCH == Purpose::Vouch as u32);

/// The holder of a long-term secret key.
pub struct curve_tun_vault(pub(super) Arc<dyn Vault>);

/// A vault implemented by the program, for `curve_tun_vault_custom`.
///
/// The functions may be called from any thread, and from several at once. Without `deferred` it is
/// the thread whose call needs the vault: a call on a connection or a socket in its handshake, or
/// `curve_tun_vault_box`, `_box_open` or `_answer`. With `deferred`, calls on connections do not
/// call them; for blocking sockets, the library's own threads do, 256 at most: further requests
/// wait for one, until the deadline of their handshake. The functions must not use the connection
/// or socket that is being served, nor let a C++ exception or a `longjmp` out. They return
/// `CURVE_TUN_OK` or an error: `CURVE_TUN_ERR_BAD_PACKET` for a box that does not open,
/// `CURVE_TUN_ERR_WEAK_KEY` for a peer's key of low order, `CURVE_TUN_ERR_TIMEOUT`, or
/// `CURVE_TUN_ERR_VAULT_FAILED`, for which any other value is taken.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_vault_callbacks {
    /// `sizeof(curve_tun_vault_callbacks)`.
    pub size: usize,
    /// The public key whose secret the vault holds.
    pub public_key: [u8; CURVE_TUN_KEY_BYTES],
    /// Flag: 0 if the functions answer in microseconds, and connections may call them on the spot;
    /// 1 if they take longer, and connections stop with a request instead
    /// (`curve_tun_connection_request`). If the program answers the requests itself, `box_seal` and
    /// `box_open` may be NULL; anything else that needs them then gets
    /// `CURVE_TUN_ERR_VAULT_FAILED`.
    pub deferred: u32,
    /// 0.
    pub reserved: u32,
    /// Makes a nonce of `CURVE_TUN_NONCE_BYTES` that was never used with this secret key before,
    /// and seals `len` bytes of `message` for the peer into `sealed`, which has
    /// `len + CURVE_TUN_BOX_OVERHEAD` bytes: `crypto_box_easy` under the purpose's prefix
    /// (`"CurveCPK"` for a cookie, `"CurveCPV"` for a vouch) and the nonce.
    pub box_seal: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            purpose: u32,
            peer_public_key: *const u8,
            message: *const u8,
            len: usize,
            nonce: *mut u8,
            sealed: *mut u8,
        ) -> i32,
    >,
    /// Opens the `len` bytes of a box from the peer into `message`, which has
    /// `len - CURVE_TUN_BOX_OVERHEAD` bytes: `crypto_box_open_easy` under the purpose's prefix
    /// (`"CurveCP-client-H"` for a hello, otherwise as in `box_seal`) and the nonce, which has
    /// `nonce_len` bytes.
    pub box_open: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            purpose: u32,
            peer_public_key: *const u8,
            nonce: *const u8,
            nonce_len: usize,
            sealed: *const u8,
            len: usize,
            message: *mut u8,
        ) -> i32,
    >,
    /// Called once, when nothing uses the vault any more, on the thread that freed its last user;
    /// may be NULL.
    pub free: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
}

growing!(given curve_tun_vault_callbacks, offset_of!(curve_tun_vault_callbacks, box_seal));

/// Makes a vault in memory with a new key.
///
/// May return `CURVE_TUN_ERR_OUT_OF_MEMORY`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_vault_generate(vault: *mut *mut curve_tun_vault) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let mut vault = unsafe { out(vault)? };
        vault.give(curve_tun_vault(Arc::new(MemoryVault::generate()?)));
        Ok(())
    })
}

/// Makes a vault in memory from a secret key, which it copies. The caller wipes the original.
///
/// May return `CURVE_TUN_ERR_OUT_OF_MEMORY`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any.
/// cbindgen:ptrs-as-arrays=[[secret_key;CURVE_TUN_KEY_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_vault_from_secret(
    secret_key: *const u8,
    vault: *mut *mut curve_tun_vault,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (secret, mut vault) = unsafe { (array(secret_key)?, out(vault)?) };
        vault.give(curve_tun_vault(Arc::new(MemoryVault::from_secret(secret)?)));
        Ok(())
    })
}

/// Makes a vault that the program implements. `callbacks` is copied; `user_data` is passed to each
/// function as it is.
///
/// On success the vault owns `user_data`, and `free` is called for it; on failure it is not. May
/// return `CURVE_TUN_ERR_INVALID_ARGUMENT` for a wrong size or an invalid flag;
/// `CURVE_TUN_ERR_NULL` also if `box_seal` or `box_open` is NULL without `deferred`. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_vault_custom(
    callbacks: *const curve_tun_vault_callbacks,
    user_data: *mut c_void,
    vault: *mut *mut curve_tun_vault,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers; the struct has integers, and functions that may
        // be NULL.
        let (callbacks, mut vault) = unsafe { (growing::read(callbacks)?, out(vault)?) };
        zero(callbacks.reserved)?;
        let deferred = flag(callbacks.deferred)?;
        if !deferred && (callbacks.box_seal.is_none() || callbacks.box_open.is_none()) {
            return Err(Error::Null);
        }
        vault.give(curve_tun_vault(Arc::new(HostVault { callbacks, deferred, user_data })));
        Ok(())
    })
}

/// Gives the public key whose secret the vault holds.
///
/// Threads: any.
/// cbindgen:ptrs-as-arrays=[[public_key;CURVE_TUN_KEY_BYTES]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_vault_public_key(
    vault: *const curve_tun_vault,
    public_key: *mut u8,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (vault, place) = unsafe { (object(vault)?, array_mut(public_key)?) };
        *place = vault.0.public_key().0;
        Ok(())
    })
}

/// Seals `len` bytes for a peer under a new long-term nonce, and gives both. `sealed` gets
/// `len + CURVE_TUN_BOX_OVERHEAD` bytes.
///
/// May return `CURVE_TUN_ERR_INVALID_ARGUMENT` for an unknown purpose and for
/// `CURVE_TUN_PURPOSE_HELLO`, `CURVE_TUN_ERR_WEAK_KEY` for a peer's key of low order,
/// `CURVE_TUN_ERR_FORKED`, `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, `CURVE_TUN_ERR_VAULT_FAILED`, and the
/// errors of vaults that are kept (below). Threads: any. Blocks as long as a custom vault's
/// function does, or the disk, the agent or the token.
/// cbindgen:ptrs-as-arrays=[[peer_public_key;CURVE_TUN_KEY_BYTES], [nonce;CURVE_TUN_NONCE_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_vault_box(
    vault: *const curve_tun_vault,
    purpose: u32,
    peer_public_key: *const u8,
    message: *const u8,
    len: usize,
    nonce: *mut u8,
    sealed: *mut u8,
) -> curve_tun_result {
    catch_ok(|| {
        let sealed_len = len.checked_add(TAG_BYTES).ok_or(Error::InvalidArgument)?;
        disjoint((message, len), (sealed, sealed_len))?;
        // SAFETY: the header's demands on pointers.
        let (vault, peer, message, nonce, sealed) = unsafe {
            (
                object(vault)?,
                key(peer_public_key)?,
                bytes(message, len)?,
                array_mut(nonce)?,
                bytes_mut(sealed, sealed_len)?,
            )
        };
        *nonce = vault.0.box_seal(Purpose::from_code(purpose)?, &peer, message, sealed)?;
        Ok(())
    })
}

/// Opens a box of `len` bytes that a peer sealed. `nonce` has 8 bytes for
/// `CURVE_TUN_PURPOSE_HELLO`, otherwise `CURVE_TUN_NONCE_BYTES`. `message` gets
/// `len - CURVE_TUN_BOX_OVERHEAD` bytes.
///
/// May return `CURVE_TUN_ERR_BAD_PACKET` if it does not open or is too short;
/// `CURVE_TUN_ERR_INVALID_ARGUMENT` for an unknown purpose, `CURVE_TUN_ERR_WEAK_KEY` for a peer's
/// key of low order, `CURVE_TUN_ERR_FORKED`, `CURVE_TUN_ERR_VAULT_FAILED`, and the errors of vaults
/// that are kept (below). Threads: any. Blocks as long as a custom vault's function does, or the
/// agent or the token.
/// cbindgen:ptrs-as-arrays=[[peer_public_key;CURVE_TUN_KEY_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_vault_box_open(
    vault: *const curve_tun_vault,
    purpose: u32,
    peer_public_key: *const u8,
    nonce: *const u8,
    sealed: *const u8,
    len: usize,
    message: *mut u8,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (vault, peer) = unsafe { (object(vault)?, key(peer_public_key)?) };
        let purpose = Purpose::from_code(purpose)?;
        // SAFETY: as above.
        let (nonce, sealed_bytes) = unsafe { (bytes(nonce, purpose.nonce_len())?, bytes(sealed, len)?) };
        let message_len = len.checked_sub(TAG_BYTES).ok_or(Error::BadPacket)?;
        disjoint((sealed, len), (message, message_len))?;
        // SAFETY: as above.
        let message = unsafe { bytes_mut(message, message_len)? };
        vault.0.box_open(purpose, &peer, nonce, sealed_bytes, message)
    })
}

/// Frees the caller's reference to a vault. Its key is wiped when the last server and connection
/// that use it are gone.
///
/// Threads: the last call on this pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_vault_free(vault: *mut curve_tun_vault) {
    // SAFETY: the header's demands on pointers.
    unsafe { end(vault) }
}

/// A vault that a C program implements.
struct HostVault {
    callbacks: curve_tun_vault_callbacks,
    deferred: bool,
    user_data: *mut c_void,
}

// SAFETY: the header demands that the callbacks take `user_data` on any thread.
unsafe impl Send for HostVault {}
// SAFETY: the header demands that the callbacks may run on several threads at once.
unsafe impl Sync for HostVault {}

/// Returns the error for a code from a vault's function, or from an answer given in its place.
pub(super) fn vault_error(code: i32) -> Error {
    match Error::from_code(code) {
        Some(known @ (Error::BadPacket | Error::WeakKey | Error::Timeout)) => known,
        _ => Error::VaultFailed,
    }
}

fn told(code: i32) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(vault_error(code)) }
}

impl Vault for HostVault {
    fn public_key(&self) -> PublicKey {
        PublicKey(self.callbacks.public_key)
    }

    fn box_seal(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<LongTermNonce> {
        let seal = self.callbacks.box_seal.ok_or(Error::VaultFailed)?;
        if purpose == Purpose::Hello || message.len() + TAG_BYTES != sealed.len() {
            return Err(Error::InvalidArgument);
        }
        let mut nonce = [0; CURVE_TUN_NONCE_BYTES];
        // SAFETY: the function and its `user_data` are the host's promise; every pointer is valid
        // for what the struct's comment says of it.
        told(unsafe {
            seal(
                self.user_data,
                purpose as u32,
                peer.0.as_ptr(),
                message.as_ptr(),
                message.len(),
                nonce.as_mut_ptr(),
                sealed.as_mut_ptr(),
            )
        })?;
        Ok(nonce)
    }

    fn box_open(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &[u8],
        sealed: &[u8],
        message: &mut [u8],
    ) -> Result<()> {
        let open = self.callbacks.box_open.ok_or(Error::VaultFailed)?;
        if nonce.len() != purpose.nonce_len() || message.len() + TAG_BYTES != sealed.len() {
            return Err(Error::InvalidArgument);
        }
        // SAFETY: as in `box_seal`.
        told(unsafe {
            open(
                self.user_data,
                purpose as u32,
                peer.0.as_ptr(),
                nonce.as_ptr(),
                nonce.len(),
                sealed.as_ptr(),
                sealed.len(),
                message.as_mut_ptr(),
            )
        })
    }

    fn deferred(&self) -> bool {
        self.deferred
    }
}

impl Drop for HostVault {
    fn drop(&mut self) {
        if let Some(free) = self.callbacks.free {
            // SAFETY: the host's promise, and this is the last use of `user_data`.
            unsafe { free(self.user_data) }
        }
    }
}
