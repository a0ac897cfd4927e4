//! # Version, memory and keys
//!
//! The text of a key, public or secret, is 44 characters of base64 (RFC 4648, section 4).

use super::boundary::{array, array_mut, bytes, bytes_mut, catch, catch_ok};
use super::result::curve_tun_result;
use crate::crypto::{KEY_BYTES, KEY_TEXT_LEN, SecretKey, decode_key, encode_key, wipe};
use crate::error::Result;
use std::ffi::c_char;

/// Bytes in a key.
pub const CURVE_TUN_KEY_BYTES: usize = 32;
/// Characters in the text of a key, and the zero after them.
pub const CURVE_TUN_KEY_TEXT_SIZE: usize = 45;
/// The largest message, in bytes.
pub const CURVE_TUN_MESSAGE_MAX: usize = 65503;

const _: () = assert!(CURVE_TUN_KEY_BYTES == KEY_BYTES);
const _: () = assert!(CURVE_TUN_KEY_TEXT_SIZE == KEY_TEXT_LEN + 1);
const _: () = assert!(CURVE_TUN_MESSAGE_MAX == crate::protocol::MESSAGE_MAX);

/// Returns the version of the library in use, such as `"1.2.3"`; `CURVE_TUN_VERSION` is that of
/// this header.
///
/// A static string. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn curve_tun_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Returns the version of the binary interface of the library in use. A program or a binding built
/// with a header of another `CURVE_TUN_ABI_VERSION` does not work with this library; one that loads
/// the library itself checks once.
///
/// Until 1.0 each minor version has a different interface; from then on the major version alone
/// counts. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn curve_tun_abi_version() -> u32 {
    ABI_VERSION
}

/// The major version in the high 16 bits, and until 1.0 the minor one in the low 16.
const ABI_VERSION: u32 = {
    let (major, minor) = (number(env!("CARGO_PKG_VERSION_MAJOR")), number(env!("CARGO_PKG_VERSION_MINOR")));
    if major == 0 { minor } else { major << 16 }
};

const fn number(text: &str) -> u32 {
    match u32::from_str_radix(text, 10) {
        Ok(number) if number < 1 << 16 => number,
        _ => panic!("the parts of a version are numbers"),
    }
}

/// Says whether all long-term and minute keys of this process so far are in memory that the system
/// has locked, so that none reaches swap.
///
/// False once the system has refused to lock memory (`RLIMIT_MEMLOCK`, a filter of system calls);
/// everything works all the same. True before the first key. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn curve_tun_memory_locked() -> bool {
    crate::crypto::memory_locked()
}

/// Makes a new key pair. The caller keeps the secret key secret, and wipes it.
///
/// May return `CURVE_TUN_ERR_OUT_OF_MEMORY`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any.
/// cbindgen:ptrs-as-arrays=[[public_key;CURVE_TUN_KEY_BYTES], [secret_key;CURVE_TUN_KEY_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_keypair_generate(
    public_key: *mut u8,
    secret_key: *mut u8,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (public_key, secret_key) = unsafe { (array_mut(public_key)?, array_mut(secret_key)?) };
        let secret = SecretKey::generate()?;
        *public_key = secret.public_key()?.0;
        secret.expose(secret_key);
        Ok(())
    })
}

/// Writes the text of a public key, with a zero after it.
///
/// Threads: any.
/// cbindgen:ptrs-as-arrays=[[public_key;CURVE_TUN_KEY_BYTES], [text;CURVE_TUN_KEY_TEXT_SIZE]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_public_key_to_text(
    public_key: *const u8,
    text: *mut c_char,
) -> curve_tun_result {
    // SAFETY: the header's demands on pointers.
    catch_ok(|| unsafe { to_text(public_key, text) })
}

/// Reads a public key from its text, which has `len` characters and needs no zero after them.
///
/// May return `CURVE_TUN_ERR_BAD_KEY_TEXT` unless the text is that of exactly one key: 44
/// characters of base64 in its one valid form. Any 32 bytes are a key here; one of low order is
/// refused where it would be used. Threads: any.
/// cbindgen:ptrs-as-arrays=[[public_key;CURVE_TUN_KEY_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_public_key_from_text(
    text: *const c_char,
    len: usize,
    public_key: *mut u8,
) -> curve_tun_result {
    // SAFETY: the header's demands on pointers.
    catch_ok(|| unsafe { from_text(text, len, public_key) })
}

/// Writes the text of a secret key, with a zero after it. The caller keeps the text secret, and
/// wipes it.
///
/// Takes the same time for every key. Threads: any.
/// cbindgen:ptrs-as-arrays=[[secret_key;CURVE_TUN_KEY_BYTES], [text;CURVE_TUN_KEY_TEXT_SIZE]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_secret_key_to_text(
    secret_key: *const u8,
    text: *mut c_char,
) -> curve_tun_result {
    // SAFETY: the header's demands on pointers.
    catch_ok(|| unsafe { to_text(secret_key, text) })
}

/// Reads a secret key from its text, which has `len` characters and needs no zero after them. The
/// caller keeps text and key secret, and wipes them.
///
/// Takes the same time for every valid text. May return `CURVE_TUN_ERR_BAD_KEY_TEXT`, as
/// `curve_tun_public_key_from_text` does. Threads: any.
/// cbindgen:ptrs-as-arrays=[[secret_key;CURVE_TUN_KEY_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_secret_key_from_text(
    text: *const c_char,
    len: usize,
    secret_key: *mut u8,
) -> curve_tun_result {
    // SAFETY: the header's demands on pointers.
    catch_ok(|| unsafe { from_text(text, len, secret_key) })
}

/// Overwrites `len` bytes with zeros in a way that no compiler removes. Does nothing for NULL.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_wipe(bytes: *mut std::ffi::c_void, len: usize) {
    catch(|| {
        // SAFETY: the header's demands on pointers.
        wipe(unsafe { bytes_mut(bytes.cast(), len)? });
        Ok(())
    })
}

/// # Safety
/// `key` and `text` are NULL or have the bytes of a key and of its text with the zero.
unsafe fn to_text(key: *const u8, text: *mut c_char) -> Result<()> {
    // SAFETY: the caller's promise.
    let (key, text) = unsafe { (array(key)?, array_mut::<CURVE_TUN_KEY_TEXT_SIZE>(text.cast())?) };
    let mut characters = encode_key(key);
    text[..KEY_TEXT_LEN].copy_from_slice(&characters);
    text[KEY_TEXT_LEN] = 0;
    wipe(&mut characters);
    Ok(())
}

/// # Safety
/// `text` is NULL or has `len` bytes, and `key` is NULL or has the bytes of a key.
unsafe fn from_text(text: *const c_char, len: usize, key: *mut u8) -> Result<()> {
    // SAFETY: the caller's promise.
    let (text, key) = unsafe { (bytes(text.cast(), len)?, array_mut(key)?) };
    decode_key(text, key)
}
