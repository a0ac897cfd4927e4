//! # Vaults that are kept
//!
//! A key that outlives its program is kept in a file, by an agent (a separate process,
//! `curve-tun agent`), or in a PKCS#11 token. `docs/VAULTS.md` says which to choose. All of them
//! are freed with `curve_tun_vault_free`.
//!
//! A vault on disk hands out a nonce only once the bound of its counter is on the disk. So the
//! first box after opening, and one in 1,048,576 after that, takes as long as the disk takes, and
//! may fail with `CURVE_TUN_ERR_DISK_FULL`, `CURVE_TUN_ERR_READ_ONLY` or `CURVE_TUN_ERR_IO`;
//! nothing is lost then, and the next call tries again.

use super::boundary::{self, Out, bytes, catch_ok, out, string};
use super::result::curve_tun_result;
use super::vault::curve_tun_vault;
use crate::error::{Error, Result};
use crate::vault::{Cost, FileVault, Vault};
use std::ffi::c_char;
use std::path::Path;
use std::sync::Arc;

/// The most characters of a PKCS#11 URI.
const URI_MAX: usize = 8192;

/// Makes a vault with a new key in a new file of mode 0600. A file that is already at `path` is
/// never overwritten.
///
/// The file is sealed with the `len` bytes of `passphrase`, which the caller wipes; with 0 bytes
/// its permissions alone protect it. Sealing takes about a second and 256 MiB: libsodium's
/// "moderate" cost of Argon2id. File and folder are on the disk when this returns. May return
/// `CURVE_TUN_ERR_ALREADY_EXISTS`; `CURVE_TUN_ERR_FILE_NOT_FOUND` if the folder does not exist;
/// `CURVE_TUN_ERR_PERMISSION_DENIED`, `CURVE_TUN_ERR_READ_ONLY`, `CURVE_TUN_ERR_DISK_FULL`,
/// `CURVE_TUN_ERR_TOO_MANY_FILES`, `CURVE_TUN_ERR_IO`, `CURVE_TUN_ERR_INVALID_ARGUMENT` for a path
/// of over 4,095 bytes, `CURVE_TUN_ERR_OUT_OF_MEMORY`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads:
/// any. Blocks on the disk, and as long as that cost takes.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_vault_create_file(
    path: *const c_char,
    passphrase: *const u8,
    len: usize,
    vault: *mut *mut curve_tun_vault,
) -> curve_tun_result {
    // SAFETY: the header's demands on pointers.
    catch_ok(|| unsafe { create_file(path, passphrase, len, Cost::default(), vault) })
}

/// As `curve_tun_vault_create_file`, with a cost of the caller's choice, which opening the vault
/// then takes as well: `operations` passes (1 to 65,536) over `memory` bytes (8,192 to
/// 4,294,967,296).
///
/// May also return `CURVE_TUN_ERR_INVALID_ARGUMENT` for a cost out of that range, or without a
/// passphrase. Threads: any. Blocks on the disk, and as long as that cost takes.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_vault_create_file_at_cost(
    path: *const c_char,
    passphrase: *const u8,
    len: usize,
    operations: u64,
    memory: u64,
    vault: *mut *mut curve_tun_vault,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        unsafe { bytes(passphrase, len)? };
        if len == 0 {
            return Err(Error::InvalidArgument);
        }
        // SAFETY: as above.
        unsafe { create_file(path, passphrase, len, Cost { operations, memory }, vault) }
    })
}

/// # Safety
/// The header's demands on pointers.
unsafe fn create_file(
    path: *const c_char,
    passphrase: *const u8,
    len: usize,
    cost: Cost,
    vault: *mut *mut curve_tun_vault,
) -> Result<()> {
    // SAFETY: the caller's promise.
    let (path, passphrase, mut vault) =
        unsafe { (boundary::path(path)?, bytes(passphrase, len)?, out(vault)?) };
    give(&mut vault, FileVault::create(path, some(passphrase), cost)?);
    Ok(())
}

/// Opens the vault in a file, which is locked until the vault is gone. A sealed file is opened with
/// the `len` bytes of `passphrase`, which the caller wipes.
///
/// May return `CURVE_TUN_ERR_FILE_NOT_FOUND`; `CURVE_TUN_ERR_VAULT_PERMISSIONS` if the file is a
/// symbolic link, no regular file, another user's, or open to group or others;
/// `CURVE_TUN_ERR_VAULT_IN_USE`; `CURVE_TUN_ERR_VAULT_CORRUPT`, `CURVE_TUN_ERR_VAULT_VERSION`;
/// `CURVE_TUN_ERR_WRONG_PASSPHRASE` if the passphrase does not open it, is missing, or is given for
/// a vault without one; `CURVE_TUN_ERR_PERMISSION_DENIED`, `CURVE_TUN_ERR_READ_ONLY`,
/// `CURVE_TUN_ERR_TOO_MANY_FILES`, `CURVE_TUN_ERR_IO`, `CURVE_TUN_ERR_INVALID_ARGUMENT` for a path
/// of over 4,095 bytes, `CURVE_TUN_ERR_OUT_OF_MEMORY`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads:
/// any. Blocks on the disk, and as long as the cost at which the file was sealed takes.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_vault_open_file(
    path: *const c_char,
    passphrase: *const u8,
    len: usize,
    vault: *mut *mut curve_tun_vault,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (path, passphrase, mut vault) =
            unsafe { (boundary::path(path)?, bytes(passphrase, len)?, out(vault)?) };
        give(&mut vault, FileVault::open(path, some(passphrase))?);
        Ok(())
    })
}

/// Opens the vault of the agent at a Unix socket (`curve-tun agent`), which alone knows the key.
/// The agent must run as the same user or as root, and may be restarted.
///
/// Connections do not call this vault on the spot: they stop with a request
/// (`curve_tun_connection_request`). Each request, including this one, may take 5 seconds, within
/// which the agent may start or restart; after that it fails with `CURVE_TUN_ERR_TIMEOUT`. If the
/// agent restarts with another key, requests fail with `CURVE_TUN_ERR_VAULT_FAILED`. A box may have
/// 65,503 bytes more than its overhead: `CURVE_TUN_ERR_TOO_LARGE`.
///
/// May return, when its 5 seconds are over, `CURVE_TUN_ERR_FILE_NOT_FOUND` if there is no socket,
/// `CURVE_TUN_ERR_CONNECTION_REFUSED` if no agent listens at it, `CURVE_TUN_ERR_CLOSED` if the
/// agent does not serve this user, `CURVE_TUN_ERR_TIMEOUT`; at once, `CURVE_TUN_ERR_UNSUPPORTED` on
/// systems other than Linux, `CURVE_TUN_ERR_PERMISSION_DENIED` if it is another user's,
/// `CURVE_TUN_ERR_VAULT_VERSION` if it is of another version, `CURVE_TUN_ERR_VAULT_FAILED` for an
/// invalid answer, `CURVE_TUN_ERR_INVALID_ARGUMENT` for a path of over 107 bytes,
/// `CURVE_TUN_ERR_TOO_MANY_FILES`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any. Blocks for at
/// most 5 seconds.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_vault_open_agent(
    socket_path: *const c_char,
    vault: *mut *mut curve_tun_vault,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (path, mut vault) = unsafe { (boundary::path(socket_path)?, out(vault)?) };
        give(&mut vault, open_agent(path)?);
        Ok(())
    })
}

/// Opens the key in the PKCS#11 token that a URI (RFC 7512) names, such as
/// `pkcs11:token=office;object=myserver?module-path=/usr/lib/softhsm/libsofthsm2.so`, with the
/// `len` bytes of `pin`, which the caller wipes; with 0 bytes the PIN is the URI's, if it has one.
/// `docs/VAULTS.md` lists the attributes.
///
/// Connections do not call this vault on the spot: they stop with a request
/// (`curve_tun_connection_request`). While the token is away, calls fail with
/// `CURVE_TUN_ERR_NOT_FOUND`; when it is back they work again, after one login. This vault does not
/// try a refused PIN again; neither should the program, nor whatever restarts it: tokens lock.
///
/// May return `CURVE_TUN_ERR_UNSUPPORTED` if this library was built without the feature `pkcs11`;
/// `CURVE_TUN_ERR_INVALID_ARGUMENT` if the URI is malformed, has an unknown attribute, or fits
/// several tokens or keys, or if the PIN has over 255 bytes; `CURVE_TUN_ERR_FILE_NOT_FOUND` if its
/// module or PIN file does not exist; `CURVE_TUN_ERR_VAULT_PERMISSIONS` if others than its owner
/// and group can read the PIN file, or others than its owner can write it;
/// `CURVE_TUN_ERR_NOT_FOUND` if no token or X25519 key fits; `CURVE_TUN_ERR_WRONG_PASSPHRASE` for a
/// wrong PIN or none; `CURVE_TUN_ERR_PIN_LOCKED` if the PIN is locked, expired or not set;
/// `CURVE_TUN_ERR_VAULT_FAILED` if the module fails; for the file in which the bound of the counter
/// is kept, the errors of `curve_tun_vault_open_file` and `curve_tun_vault_create_file`. Threads:
/// any. Blocks as long as the token does.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_vault_open_pkcs11(
    uri: *const c_char,
    pin: *const u8,
    len: usize,
    vault: *mut *mut curve_tun_vault,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (uri, pin, mut vault) =
            unsafe { (string(uri, URI_MAX, Error::InvalidArgument)?, bytes(pin, len)?, out(vault)?) };
        give(&mut vault, open_pkcs11(uri, some(pin))?);
        Ok(())
    })
}

#[cfg(target_os = "linux")]
fn open_agent(path: &Path) -> Result<crate::vault::AgentVault> {
    crate::vault::AgentVault::open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_agent(_: &Path) -> Result<FileVault> {
    Err(Error::Unsupported)
}

#[cfg(feature = "pkcs11")]
fn open_pkcs11(uri: &str, pin: Option<&[u8]>) -> Result<crate::vault::Pkcs11Vault> {
    crate::vault::Pkcs11Vault::open(uri, pin)
}

#[cfg(not(feature = "pkcs11"))]
fn open_pkcs11(_: &str, _: Option<&[u8]>) -> Result<FileVault> {
    Err(Error::Unsupported)
}

/// Takes an empty passphrase for none.
fn some(passphrase: &[u8]) -> Option<&[u8]> {
    (!passphrase.is_empty()).then_some(passphrase)
}

fn give(place: &mut Out<*mut curve_tun_vault>, vault: impl Vault + 'static) {
    place.give(curve_tun_vault(Arc::new(vault)));
}
