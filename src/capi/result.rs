//! # Results

use super::boundary::Failure;
use crate::error::Error;
use std::ffi::c_char;

/// What a call returns. The numbers never change and are never reused.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum curve_tun_result {
    /// Success.
    CURVE_TUN_OK = 0,
    /// A pointer that must not be NULL was NULL.
    CURVE_TUN_ERR_NULL = 1,
    /// An argument is out of its documented range.
    CURVE_TUN_ERR_INVALID_ARGUMENT = 2,
    /// The call does not fit the object's present state.
    CURVE_TUN_ERR_WRONG_STATE = 3,
    /// A message is over `CURVE_TUN_MESSAGE_MAX` bytes.
    CURVE_TUN_ERR_TOO_LARGE = 4,
    /// The caller's buffer is too small; what it was for is still there.
    CURVE_TUN_ERR_TOO_SMALL = 5,
    /// Nothing to do or to give just now.
    CURVE_TUN_ERR_WOULD_BLOCK = 6,
    /// The deadline passed.
    CURVE_TUN_ERR_TIMEOUT = 7,
    /// The connection, socket or listener is closed.
    CURVE_TUN_ERR_CLOSED = 8,
    /// The text is not a public key: 44 characters of base64.
    CURVE_TUN_ERR_BAD_KEY_TEXT = 9,
    /// The text is not an IP address or network.
    CURVE_TUN_ERR_BAD_ADDRESS = 10,
    /// A public key of low order, with which no secret can be agreed.
    CURVE_TUN_ERR_WEAK_KEY = 11,
    /// The peer sent something other than the one packet expected of it.
    CURVE_TUN_ERR_BAD_PACKET = 12,
    /// The server could not open the hello, or its cookie does not open: it has another key, or its vault fails.
    CURVE_TUN_ERR_WRONG_SERVER_KEY = 13,
    /// The initiate came after its minute key was gone.
    CURVE_TUN_ERR_COOKIE_EXPIRED = 14,
    /// The registry does not accept this key from this address.
    CURVE_TUN_ERR_UNKNOWN_PEER = 15,
    /// A counter reached its end; a nonce would repeat.
    CURVE_TUN_ERR_COUNTER_EXHAUSTED = 16,
    /// The server has as many handshakes in flight as it allows.
    CURVE_TUN_ERR_TOO_MANY_HANDSHAKES = 17,
    /// The vault refused or failed.
    CURVE_TUN_ERR_VAULT_FAILED = 18,
    /// The registry failed to decide.
    CURVE_TUN_ERR_REGISTRY_FAILED = 19,
    /// There is no such entry.
    CURVE_TUN_ERR_NOT_FOUND = 20,
    /// The object belongs to the parent of this forked process.
    CURVE_TUN_ERR_FORKED = 21,
    /// Guarded memory could not be had.
    CURVE_TUN_ERR_OUT_OF_MEMORY = 22,
    /// libsodium could not be initialised.
    CURVE_TUN_ERR_CRYPTO_UNAVAILABLE = 23,
    /// The host name has no address.
    CURVE_TUN_ERR_NAME_NOT_FOUND = 24,
    /// Nothing listens at the address.
    CURVE_TUN_ERR_CONNECTION_REFUSED = 25,
    /// The network or host cannot be reached.
    CURVE_TUN_ERR_UNREACHABLE = 26,
    /// The local address is in use.
    CURVE_TUN_ERR_ADDRESS_IN_USE = 27,
    /// The local address is not one of this machine.
    CURVE_TUN_ERR_ADDRESS_NOT_AVAILABLE = 28,
    /// The operating system denies permission.
    CURVE_TUN_ERR_PERMISSION_DENIED = 29,
    /// The process or the system is out of file descriptors.
    CURVE_TUN_ERR_TOO_MANY_FILES = 30,
    /// The operating system failed in another way.
    CURVE_TUN_ERR_IO = 31,
    /// A defect in this library was caught; the object is closed.
    CURVE_TUN_ERR_INTERNAL = 32,
    /// Another process, or another vault of this one, has the vault's file open.
    CURVE_TUN_ERR_VAULT_IN_USE = 33,
    /// The vault's file is a link, is no regular file, belongs to another user, or is open to group or others.
    CURVE_TUN_ERR_VAULT_PERMISSIONS = 34,
    /// The vault's file is damaged, or is none.
    CURVE_TUN_ERR_VAULT_CORRUPT = 35,
    /// The vault's file, or the agent, is of a later version than this library knows.
    CURVE_TUN_ERR_VAULT_VERSION = 36,
    /// The passphrase or PIN is wrong, or missing, or was given for a vault without one.
    CURVE_TUN_ERR_WRONG_PASSPHRASE = 37,
    /// Something is already there, and is not overwritten.
    CURVE_TUN_ERR_ALREADY_EXISTS = 38,
    /// There is no such file.
    CURVE_TUN_ERR_FILE_NOT_FOUND = 39,
    /// The disk, or the user's share of it, is full.
    CURVE_TUN_ERR_DISK_FULL = 40,
    /// The file system is read-only.
    CURVE_TUN_ERR_READ_ONLY = 41,
    /// This build of the library lacks the feature.
    CURVE_TUN_ERR_UNSUPPORTED = 42,
    /// Others than its owner, its group and root could have written the registry's file.
    CURVE_TUN_ERR_REGISTRY_PERMISSIONS = 43,
    /// A line of the registry's file is wrong.
    CURVE_TUN_ERR_BAD_REGISTRY_FILE = 44,
    /// The server is known by another key.
    CURVE_TUN_ERR_KEY_CHANGED = 45,
    /// The key is denied.
    CURVE_TUN_ERR_KEY_DENIED = 46,
    /// DNS gave an answer without a valid proof by DNSSEC.
    CURVE_TUN_ERR_NOT_VALIDATED = 47,
    /// The PIN of a token is locked, expired or not set.
    CURVE_TUN_ERR_PIN_LOCKED = 48,
}

use curve_tun_result::*;

impl From<Error> for curve_tun_result {
    fn from(error: Error) -> curve_tun_result {
        match error {
            Error::Null => CURVE_TUN_ERR_NULL,
            Error::InvalidArgument => CURVE_TUN_ERR_INVALID_ARGUMENT,
            Error::WrongState => CURVE_TUN_ERR_WRONG_STATE,
            Error::TooLarge => CURVE_TUN_ERR_TOO_LARGE,
            Error::TooSmall => CURVE_TUN_ERR_TOO_SMALL,
            Error::WouldBlock => CURVE_TUN_ERR_WOULD_BLOCK,
            Error::Timeout => CURVE_TUN_ERR_TIMEOUT,
            Error::Closed => CURVE_TUN_ERR_CLOSED,
            Error::BadKeyText => CURVE_TUN_ERR_BAD_KEY_TEXT,
            Error::BadAddress => CURVE_TUN_ERR_BAD_ADDRESS,
            Error::WeakKey => CURVE_TUN_ERR_WEAK_KEY,
            Error::BadPacket => CURVE_TUN_ERR_BAD_PACKET,
            Error::WrongServerKey => CURVE_TUN_ERR_WRONG_SERVER_KEY,
            Error::CookieExpired => CURVE_TUN_ERR_COOKIE_EXPIRED,
            Error::UnknownPeer => CURVE_TUN_ERR_UNKNOWN_PEER,
            Error::CounterExhausted => CURVE_TUN_ERR_COUNTER_EXHAUSTED,
            Error::TooManyHandshakes => CURVE_TUN_ERR_TOO_MANY_HANDSHAKES,
            Error::VaultFailed => CURVE_TUN_ERR_VAULT_FAILED,
            Error::RegistryFailed => CURVE_TUN_ERR_REGISTRY_FAILED,
            Error::NotFound => CURVE_TUN_ERR_NOT_FOUND,
            Error::Forked => CURVE_TUN_ERR_FORKED,
            Error::OutOfMemory => CURVE_TUN_ERR_OUT_OF_MEMORY,
            Error::CryptoUnavailable => CURVE_TUN_ERR_CRYPTO_UNAVAILABLE,
            Error::NameNotFound => CURVE_TUN_ERR_NAME_NOT_FOUND,
            Error::ConnectionRefused => CURVE_TUN_ERR_CONNECTION_REFUSED,
            Error::Unreachable => CURVE_TUN_ERR_UNREACHABLE,
            Error::AddressInUse => CURVE_TUN_ERR_ADDRESS_IN_USE,
            Error::AddressNotAvailable => CURVE_TUN_ERR_ADDRESS_NOT_AVAILABLE,
            Error::PermissionDenied => CURVE_TUN_ERR_PERMISSION_DENIED,
            Error::TooManyFiles => CURVE_TUN_ERR_TOO_MANY_FILES,
            Error::Io => CURVE_TUN_ERR_IO,
            Error::Internal => CURVE_TUN_ERR_INTERNAL,
            Error::VaultInUse => CURVE_TUN_ERR_VAULT_IN_USE,
            Error::VaultPermissions => CURVE_TUN_ERR_VAULT_PERMISSIONS,
            Error::VaultCorrupt => CURVE_TUN_ERR_VAULT_CORRUPT,
            Error::VaultVersion => CURVE_TUN_ERR_VAULT_VERSION,
            Error::WrongPassphrase => CURVE_TUN_ERR_WRONG_PASSPHRASE,
            Error::AlreadyExists => CURVE_TUN_ERR_ALREADY_EXISTS,
            Error::FileNotFound => CURVE_TUN_ERR_FILE_NOT_FOUND,
            Error::DiskFull => CURVE_TUN_ERR_DISK_FULL,
            Error::ReadOnly => CURVE_TUN_ERR_READ_ONLY,
            Error::Unsupported => CURVE_TUN_ERR_UNSUPPORTED,
            Error::RegistryPermissions => CURVE_TUN_ERR_REGISTRY_PERMISSIONS,
            Error::BadRegistryFile => CURVE_TUN_ERR_BAD_REGISTRY_FILE,
            Error::KeyChanged => CURVE_TUN_ERR_KEY_CHANGED,
            Error::KeyDenied => CURVE_TUN_ERR_KEY_DENIED,
            Error::NotValidated => CURVE_TUN_ERR_NOT_VALIDATED,
            Error::PinLocked => CURVE_TUN_ERR_PIN_LOCKED,
        }
    }
}

impl Failure for *const c_char {
    fn failure(_: Error) -> Self {
        c"".as_ptr()
    }
}

/// The name of a result, such as `"CURVE_TUN_ERR_TIMEOUT"`; `"CURVE_TUN_UNKNOWN"` for a number that is none.
///
/// A static string, never NULL. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn curve_tun_result_name(result: i32) -> *const c_char {
    match (result, Error::from_code(result)) {
        (0, _) => c"CURVE_TUN_OK".as_ptr(),
        (_, Some(error)) => error.c_strings().0.as_ptr().cast(),
        (_, None) => c"CURVE_TUN_UNKNOWN".as_ptr(),
    }
}

/// A sentence that says what a result means, in English, without a final stop.
///
/// A static string, never NULL. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn curve_tun_result_message(result: i32) -> *const c_char {
    match (result, Error::from_code(result)) {
        (0, _) => c"success".as_ptr(),
        (_, Some(error)) => error.c_strings().1.as_ptr().cast(),
        (_, None) => c"not a result of curve_tun".as_ptr(),
    }
}

/// Whether the same call, made again after a while, may succeed though the program has changed nothing: then a loop that
/// accepts, or that connects, goes on ("Sockets" has a table). true for `CURVE_TUN_ERR_TIMEOUT` or
/// `CURVE_TUN_ERR_TOO_MANY_FILES`, say, and for `CURVE_TUN_ERR_WRONG_SERVER_KEY`, as a server whose
/// vault is out looks the same; not for `CURVE_TUN_ERR_CLOSED`, which is said of an object that is
/// at its end.
///
/// false for `CURVE_TUN_OK`, and for a number that is no result. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn curve_tun_result_is_transient(result: i32) -> bool {
    Error::from_code(result).is_some_and(Error::is_transient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn text(string: *const c_char) -> &'static str {
        // SAFETY: the functions give static strings.
        unsafe { CStr::from_ptr(string) }.to_str().unwrap()
    }

    #[test]
    fn every_error_has_its_number_name_and_message_in_c() {
        for error in Error::ALL {
            let result = curve_tun_result::from(error);
            assert_eq!(result as i32, error.code());
            assert_eq!(format!("{result:?}"), error.name());
            assert_eq!(text(curve_tun_result_name(result as i32)), error.name());
            assert_eq!(text(curve_tun_result_message(result as i32)), error.message());
            assert_eq!(curve_tun_result_is_transient(result as i32), error.is_transient());
        }
    }

    #[test]
    fn success_and_numbers_that_are_no_result_have_texts_too() {
        assert_eq!(text(curve_tun_result_name(0)), "CURVE_TUN_OK");
        assert_eq!(text(curve_tun_result_message(0)), "success");
        let last = Error::ALL.into_iter().map(Error::code).max().unwrap();
        for number in [-1, last + 1, i32::MIN, i32::MAX] {
            assert_eq!(text(curve_tun_result_name(number)), "CURVE_TUN_UNKNOWN");
            assert_eq!(text(curve_tun_result_message(number)), "not a result of curve_tun");
            assert!(!curve_tun_result_is_transient(number));
        }
    }
}
