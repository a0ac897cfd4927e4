//! The one error type.

use std::{fmt, io};

/// Everything that can go wrong, as what a caller can act on.
///
/// Each error has a number that is never reused ([`Error::code`], C's
/// `curve_tun_result`), an atom ([`Error::atom`], Erlang's `{error, Reason}`)
/// and a sentence ([`fmt::Display`]). Nothing of it ever goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// A pointer that must not be NULL was NULL (C only).
    Null,
    /// An argument is out of its documented range.
    InvalidArgument,
    /// The call does not fit the object's present state.
    WrongState,
    /// A message is over [`MESSAGE_MAX`](crate::protocol::MESSAGE_MAX) bytes.
    TooLarge,
    /// The caller's buffer is too small; what it was for is still there.
    TooSmall,
    /// Nothing to do or to give just now.
    WouldBlock,
    /// The deadline passed.
    Timeout,
    /// The connection, socket or listener is closed.
    Closed,
    /// The text is not a public key: 44 characters of base64.
    BadKeyText,
    /// The text is not an IP address or network.
    BadAddress,
    /// A public key of low order, with which no secret can be agreed.
    WeakKey,
    /// The peer sent something other than the one packet expected of it.
    BadPacket,
    /// The server could not open the hello, or its cookie does not open: it has another key, or its vault fails.
    WrongServerKey,
    /// The initiate came after its minute key was gone.
    CookieExpired,
    /// The registry does not accept this key from this address.
    UnknownPeer,
    /// A counter reached its end; a nonce would repeat.
    CounterExhausted,
    /// The server has as many handshakes in flight as it allows.
    TooManyHandshakes,
    /// The vault refused or failed.
    VaultFailed,
    /// The registry failed to decide.
    RegistryFailed,
    /// There is no such entry.
    NotFound,
    /// The object belongs to the parent of this forked process.
    Forked,
    /// Guarded memory could not be had.
    OutOfMemory,
    /// libsodium could not be initialised.
    CryptoUnavailable,
    /// The host name has no address.
    NameNotFound,
    /// Nothing listens at the address.
    ConnectionRefused,
    /// The network or host cannot be reached.
    Unreachable,
    /// The local address is in use.
    AddressInUse,
    /// The local address is not one of this machine.
    AddressNotAvailable,
    /// The operating system denies permission.
    PermissionDenied,
    /// The process or the system is out of file descriptors.
    TooManyFiles,
    /// The operating system failed in another way.
    Io,
    /// A defect in this library was caught; the object is closed.
    Internal,
    /// Another process, or another vault of this one, has the vault's file open.
    VaultInUse,
    /// The vault's file is a link, is no regular file, belongs to another user, or is open to group or others.
    VaultPermissions,
    /// The vault's file is damaged, or is none.
    VaultCorrupt,
    /// The vault's file, or the agent, is of a later version than this library knows.
    VaultVersion,
    /// The passphrase or PIN is wrong, or missing, or was given for a vault without one.
    WrongPassphrase,
    /// Something is already there, and is not overwritten.
    AlreadyExists,
    /// There is no such file.
    FileNotFound,
    /// The disk, or the user's share of it, is full.
    DiskFull,
    /// The file system is read-only.
    ReadOnly,
    /// This build of the library lacks the feature.
    Unsupported,
    /// Others than its owner, its group and root could have written the registry's file.
    RegistryPermissions,
    /// A line of the registry's file is wrong.
    BadRegistryFile,
    /// The server is known by another key.
    KeyChanged,
    /// The key is denied.
    KeyDenied,
    /// DNS gave an answer without a valid proof by DNSSEC.
    NotValidated,
    /// The PIN of a token is locked, expired or not set.
    PinLocked,
}

/// What fails, fails with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Every error, in the order of their numbers.
    pub const ALL: [Error; 48] = [
        Error::Null,
        Error::InvalidArgument,
        Error::WrongState,
        Error::TooLarge,
        Error::TooSmall,
        Error::WouldBlock,
        Error::Timeout,
        Error::Closed,
        Error::BadKeyText,
        Error::BadAddress,
        Error::WeakKey,
        Error::BadPacket,
        Error::WrongServerKey,
        Error::CookieExpired,
        Error::UnknownPeer,
        Error::CounterExhausted,
        Error::TooManyHandshakes,
        Error::VaultFailed,
        Error::RegistryFailed,
        Error::NotFound,
        Error::Forked,
        Error::OutOfMemory,
        Error::CryptoUnavailable,
        Error::NameNotFound,
        Error::ConnectionRefused,
        Error::Unreachable,
        Error::AddressInUse,
        Error::AddressNotAvailable,
        Error::PermissionDenied,
        Error::TooManyFiles,
        Error::Io,
        Error::Internal,
        Error::VaultInUse,
        Error::VaultPermissions,
        Error::VaultCorrupt,
        Error::VaultVersion,
        Error::WrongPassphrase,
        Error::AlreadyExists,
        Error::FileNotFound,
        Error::DiskFull,
        Error::ReadOnly,
        Error::Unsupported,
        Error::RegistryPermissions,
        Error::BadRegistryFile,
        Error::KeyChanged,
        Error::KeyDenied,
        Error::NotValidated,
        Error::PinLocked,
    ];

    /// Number, C name, Erlang atom and sentence: the one table of them all.
    const fn row(self) -> (i32, &'static str, &'static str, &'static str) {
        match self {
            Error::Null => (1, "CURVE_TUN_ERR_NULL\0", "badarg", "a pointer that must not be NULL is NULL\0"),
            Error::InvalidArgument => {
                (2, "CURVE_TUN_ERR_INVALID_ARGUMENT\0", "badarg", "an argument is out of range\0")
            }
            Error::WrongState => {
                (3, "CURVE_TUN_ERR_WRONG_STATE\0", "wrong_state", "the call does not fit the present state\0")
            }
            Error::TooLarge => {
                (4, "CURVE_TUN_ERR_TOO_LARGE\0", "emsgsize", "the message is larger than 65503 bytes\0")
            }
            Error::TooSmall => {
                (5, "CURVE_TUN_ERR_TOO_SMALL\0", "enospc", "the buffer is too small for what it is to hold\0")
            }
            Error::WouldBlock => {
                (6, "CURVE_TUN_ERR_WOULD_BLOCK\0", "eagain", "there is nothing to do or to give just now\0")
            }
            Error::Timeout => (7, "CURVE_TUN_ERR_TIMEOUT\0", "timeout", "the deadline passed\0"),
            Error::Closed => (8, "CURVE_TUN_ERR_CLOSED\0", "closed", "the connection is closed\0"),
            Error::BadKeyText => (
                9,
                "CURVE_TUN_ERR_BAD_KEY_TEXT\0",
                "bad_key_text",
                "the text is not a key: 44 characters of base64\0",
            ),
            Error::BadAddress => (
                10,
                "CURVE_TUN_ERR_BAD_ADDRESS\0",
                "bad_address",
                "the text is not an IP address or network\0",
            ),
            Error::WeakKey => (
                11,
                "CURVE_TUN_ERR_WEAK_KEY\0",
                "weak_key",
                "the public key has a low order and agrees no secret\0",
            ),
            Error::BadPacket => (
                12,
                "CURVE_TUN_ERR_BAD_PACKET\0",
                "bad_packet",
                "the peer sent something other than the packet expected of it\0",
            ),
            Error::WrongServerKey => (
                13,
                "CURVE_TUN_ERR_WRONG_SERVER_KEY\0",
                "wrong_server_key",
                "the server does not hold the secret of the public key given for it, or its vault is out of order\0",
            ),
            Error::CookieExpired => (
                14,
                "CURVE_TUN_ERR_COOKIE_EXPIRED\0",
                "cookie_expired",
                "the client answered the cookie after its minute key was gone\0",
            ),
            Error::UnknownPeer => (
                15,
                "CURVE_TUN_ERR_UNKNOWN_PEER\0",
                "unknown_peer",
                "the registry does not accept the peer's key from its address\0",
            ),
            Error::CounterExhausted => (
                16,
                "CURVE_TUN_ERR_COUNTER_EXHAUSTED\0",
                "counter_exhausted",
                "the counter is at its end and a nonce would repeat\0",
            ),
            Error::TooManyHandshakes => (
                17,
                "CURVE_TUN_ERR_TOO_MANY_HANDSHAKES\0",
                "too_many_handshakes",
                "the server has as many handshakes in flight as it allows\0",
            ),
            Error::VaultFailed => {
                (18, "CURVE_TUN_ERR_VAULT_FAILED\0", "vault_failed", "the vault refused or failed\0")
            }
            Error::RegistryFailed => {
                (19, "CURVE_TUN_ERR_REGISTRY_FAILED\0", "registry_failed", "the registry failed to decide\0")
            }
            Error::NotFound => (20, "CURVE_TUN_ERR_NOT_FOUND\0", "not_found", "there is no such entry\0"),
            Error::Forked => {
                (21, "CURVE_TUN_ERR_FORKED\0", "forked", "the object belongs to the parent of this process\0")
            }
            Error::OutOfMemory => {
                (22, "CURVE_TUN_ERR_OUT_OF_MEMORY\0", "enomem", "guarded memory could not be had\0")
            }
            Error::CryptoUnavailable => (
                23,
                "CURVE_TUN_ERR_CRYPTO_UNAVAILABLE\0",
                "crypto_unavailable",
                "libsodium could not be initialised\0",
            ),
            Error::NameNotFound => {
                (24, "CURVE_TUN_ERR_NAME_NOT_FOUND\0", "nxdomain", "the host name has no address\0")
            }
            Error::ConnectionRefused => {
                (25, "CURVE_TUN_ERR_CONNECTION_REFUSED\0", "econnrefused", "nothing listens at the address\0")
            }
            Error::Unreachable => {
                (26, "CURVE_TUN_ERR_UNREACHABLE\0", "ehostunreach", "the network or host cannot be reached\0")
            }
            Error::AddressInUse => {
                (27, "CURVE_TUN_ERR_ADDRESS_IN_USE\0", "eaddrinuse", "the local address is in use\0")
            }
            Error::AddressNotAvailable => (
                28,
                "CURVE_TUN_ERR_ADDRESS_NOT_AVAILABLE\0",
                "eaddrnotavail",
                "the local address is not one of this machine\0",
            ),
            Error::PermissionDenied => (
                29,
                "CURVE_TUN_ERR_PERMISSION_DENIED\0",
                "eacces",
                "the operating system denies permission\0",
            ),
            Error::TooManyFiles => (
                30,
                "CURVE_TUN_ERR_TOO_MANY_FILES\0",
                "emfile",
                "the process or the system is out of file descriptors\0",
            ),
            Error::Io => (31, "CURVE_TUN_ERR_IO\0", "io", "the operating system reported a failure\0"),
            Error::Internal => (
                32,
                "CURVE_TUN_ERR_INTERNAL\0",
                "internal",
                "a defect in curve_tun was caught and the object closed\0",
            ),
            Error::VaultInUse => (
                33,
                "CURVE_TUN_ERR_VAULT_IN_USE\0",
                "vault_in_use",
                "another process has the vault's file open\0",
            ),
            Error::VaultPermissions => (
                34,
                "CURVE_TUN_ERR_VAULT_PERMISSIONS\0",
                "vault_permissions",
                "the file with the vault, its passphrase or PIN is no regular file, or open to others\0",
            ),
            Error::VaultCorrupt => (
                35,
                "CURVE_TUN_ERR_VAULT_CORRUPT\0",
                "vault_corrupt",
                "the vault's file is damaged, or is none\0",
            ),
            Error::VaultVersion => (
                36,
                "CURVE_TUN_ERR_VAULT_VERSION\0",
                "vault_version",
                "the vault is of a later version than this library knows\0",
            ),
            Error::WrongPassphrase => (
                37,
                "CURVE_TUN_ERR_WRONG_PASSPHRASE\0",
                "wrong_passphrase",
                "the passphrase or PIN is wrong, missing, or not called for\0",
            ),
            Error::AlreadyExists => (
                38,
                "CURVE_TUN_ERR_ALREADY_EXISTS\0",
                "eexist",
                "something is already there and is not overwritten\0",
            ),
            Error::FileNotFound => {
                (39, "CURVE_TUN_ERR_FILE_NOT_FOUND\0", "enoent", "there is no such file\0")
            }
            Error::DiskFull => (40, "CURVE_TUN_ERR_DISK_FULL\0", "enospc", "the disk is full\0"),
            Error::ReadOnly => (41, "CURVE_TUN_ERR_READ_ONLY\0", "erofs", "the file system is read-only\0"),
            Error::Unsupported => (
                42,
                "CURVE_TUN_ERR_UNSUPPORTED\0",
                "enotsup",
                "this build of the library lacks the feature\0",
            ),
            Error::RegistryPermissions => (
                43,
                "CURVE_TUN_ERR_REGISTRY_PERMISSIONS\0",
                "registry_permissions",
                "others than its owner, its group and root could have written the registry's file\0",
            ),
            Error::BadRegistryFile => (
                44,
                "CURVE_TUN_ERR_BAD_REGISTRY_FILE\0",
                "bad_registry_file",
                "a line of the registry's file is wrong\0",
            ),
            Error::KeyChanged => {
                (45, "CURVE_TUN_ERR_KEY_CHANGED\0", "key_changed", "the server is known by another key\0")
            }
            Error::KeyDenied => (46, "CURVE_TUN_ERR_KEY_DENIED\0", "key_denied", "the key is denied\0"),
            Error::NotValidated => (
                47,
                "CURVE_TUN_ERR_NOT_VALIDATED\0",
                "not_validated",
                "the answer of DNS has no valid proof by DNSSEC\0",
            ),
            Error::PinLocked => {
                (48, "CURVE_TUN_ERR_PIN_LOCKED\0", "pin_locked", "the PIN is locked, expired or not set\0")
            }
        }
    }

    /// The number of this error in C, from 1 on; never reused.
    pub const fn code(self) -> i32 {
        self.row().0
    }

    /// The error with this number, if there is one.
    pub fn from_code(code: i32) -> Option<Error> {
        Error::ALL.into_iter().find(|e| e.code() == code)
    }

    /// The constant's name in C, such as `CURVE_TUN_ERR_TIMEOUT`.
    pub fn name(self) -> &'static str {
        self.row().1.trim_end_matches('\0')
    }

    /// The reason in Erlang's `{error, Reason}`, such as `timeout`.
    pub const fn atom(self) -> &'static str {
        self.row().2
    }

    /// A sentence in English, without a final stop.
    pub fn message(self) -> &'static str {
        self.row().3.trim_end_matches('\0')
    }

    /// Whether the same call, made again after a while, may succeed though the program has changed nothing.
    ///
    /// So a loop that accepts, or that connects, goes on after such an error, and ends with any other. `Closed` is none:
    /// it is said of an object that is at its end. A client whose server has closed connects anew.
    /// `WrongServerKey` is one, since a server says nothing when its vault is out; but where it
    /// lasts, the key at the client is the wrong one: so a client reports it, and waits longer from
    /// try to try.
    pub const fn is_transient(self) -> bool {
        match self {
            // Time passed, or it was too early.
            Error::WouldBlock | Error::Timeout | Error::TooManyHandshakes => true,
            // Others use up what the machine has, and may give it back.
            Error::TooManyFiles
            | Error::OutOfMemory
            | Error::DiskFull
            | Error::AddressInUse
            | Error::VaultInUse => true,
            // What is far away, or of the system, may come back.
            Error::NameNotFound
            | Error::ConnectionRefused
            | Error::Unreachable
            | Error::AddressNotAvailable
            | Error::VaultFailed
            | Error::RegistryFailed
            | Error::NotValidated
            | Error::Io => true,
            // A server whose vault is out for a while looks like one with another key; and one with
            // another key learns nothing by another try.
            Error::WrongServerKey => true,
            // The call, an object, a peer, a key or a file is not as it would have to be.
            Error::Null
            | Error::InvalidArgument
            | Error::WrongState
            | Error::TooLarge
            | Error::TooSmall
            | Error::Closed
            | Error::BadKeyText
            | Error::BadAddress
            | Error::WeakKey
            | Error::BadPacket
            | Error::CookieExpired
            | Error::UnknownPeer
            | Error::CounterExhausted
            | Error::NotFound
            | Error::Forked
            | Error::CryptoUnavailable
            | Error::PermissionDenied
            | Error::Internal
            | Error::VaultPermissions
            | Error::VaultCorrupt
            | Error::VaultVersion
            | Error::WrongPassphrase
            | Error::AlreadyExists
            | Error::FileNotFound
            | Error::ReadOnly
            | Error::Unsupported
            | Error::RegistryPermissions
            | Error::BadRegistryFile
            | Error::KeyChanged
            | Error::KeyDenied
            | Error::PinLocked => false,
        }
    }

    /// What a failed call on a file means to a caller.
    pub(crate) fn of_file(error: &io::Error) -> Error {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => return Error::TooManyFiles,
            Some(libc::EFBIG) => return Error::DiskFull,
            _ => {}
        }
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::FileNotFound,
            io::ErrorKind::AlreadyExists => Error::AlreadyExists,
            io::ErrorKind::PermissionDenied => Error::PermissionDenied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly,
            io::ErrorKind::OutOfMemory => Error::OutOfMemory,
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => Error::InvalidArgument,
            _ => Error::Io,
        }
    }

    /// [`Error::name`] and [`Error::message`] with their terminating zero, for C.
    #[cfg(feature = "capi")]
    pub(crate) const fn c_strings(self) -> (&'static str, &'static str) {
        (self.row().1, self.row().3)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Error {}
