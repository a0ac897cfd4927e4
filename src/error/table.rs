//! The table of errors, from which the Rust enum, the result codes of C, the header and Erlang's
//! atoms are made. The program that writes the header includes this file, too, so nothing of the
//! crate is named here.

/// Passes the rows to the macro `$rows`. Each row has the form
///
/// ```text
/// /// What has gone wrong, for the documentation.
/// NUMBER RustName C_NAME erlang_atom transient|permanent [ERRNO ...]
///     "a sentence, without a final stop";
/// ```
///
/// A number is never changed and never reused: a new error goes to the end, with the next number. A
/// failed system call becomes the error whose row has its errno. The first errno of a row is what
/// the error becomes in `std::io`.
macro_rules! each_error {
    ($rows:ident) => {
        $rows! {
        /// A pointer that must not be NULL was NULL.
        1 Null CURVE_TUN_ERR_NULL badarg permanent []
            "a pointer that must not be NULL is NULL";
        /// An argument is out of its documented range.
        2 InvalidArgument CURVE_TUN_ERR_INVALID_ARGUMENT badarg permanent [EINVAL ENAMETOOLONG]
            "an argument is out of range";
        /// The call does not fit the object's present state.
        3 WrongState CURVE_TUN_ERR_WRONG_STATE wrong_state permanent []
            "the call does not fit the present state";
        /// A message is larger than 65503 bytes.
        4 TooLarge CURVE_TUN_ERR_TOO_LARGE emsgsize permanent []
            "the message is larger than 65503 bytes, or than the peer of a stream takes";
        /// The caller's buffer is too small; what it was for is still there.
        5 TooSmall CURVE_TUN_ERR_TOO_SMALL enospc permanent []
            "the buffer is too small for what it is to hold";
        /// Nothing to do or to give just now.
        6 WouldBlock CURVE_TUN_ERR_WOULD_BLOCK eagain transient [EAGAIN]
            "there is nothing to do or to give just now";
        /// The deadline passed.
        7 Timeout CURVE_TUN_ERR_TIMEOUT timeout transient [ETIMEDOUT]
            "the deadline passed";
        /// The connection, socket or listener is closed.
        8 Closed CURVE_TUN_ERR_CLOSED closed permanent [ENOTCONN ECONNRESET ECONNABORTED EPIPE]
            "the connection is closed";
        /// The text is not a public key: 44 characters of base64.
        9 BadKeyText CURVE_TUN_ERR_BAD_KEY_TEXT bad_key_text permanent []
            "the text is not a key: 44 characters of base64";
        /// The text is not an IP address or network.
        10 BadAddress CURVE_TUN_ERR_BAD_ADDRESS bad_address permanent []
            "the text is not an IP address or network";
        /// A public key of low order, with which no secret can be agreed.
        11 WeakKey CURVE_TUN_ERR_WEAK_KEY weak_key permanent []
            "the public key has a low order and agrees no secret";
        /// The peer sent something other than the one packet expected of it.
        12 BadPacket CURVE_TUN_ERR_BAD_PACKET bad_packet permanent []
            "the peer sent something other than the packet expected of it";
        /// The server could not open the hello, or its cookie does not open: it has another key,
        /// or its vault fails. Transient, as an outage looks the same; a server with another key
        /// learns nothing by another try.
        13 WrongServerKey CURVE_TUN_ERR_WRONG_SERVER_KEY wrong_server_key transient []
            "the server does not hold the secret of the public key given for it, or its vault is out of \
order";
        /// The initiate came after its minute key was gone.
        14 CookieExpired CURVE_TUN_ERR_COOKIE_EXPIRED cookie_expired permanent []
            "the client answered the cookie after its minute key was gone";
        /// The registry does not accept this key from this address.
        15 UnknownPeer CURVE_TUN_ERR_UNKNOWN_PEER unknown_peer permanent []
            "the registry does not accept the peer's key from its address";
        /// A counter reached its end; a nonce would repeat.
        16 CounterExhausted CURVE_TUN_ERR_COUNTER_EXHAUSTED counter_exhausted permanent []
            "the counter is at its end and a nonce would repeat";
        /// The server has as many handshakes in flight as it allows.
        17 TooManyHandshakes CURVE_TUN_ERR_TOO_MANY_HANDSHAKES too_many_handshakes transient []
            "the server has as many handshakes in flight as it allows";
        /// The vault refused or failed.
        18 VaultFailed CURVE_TUN_ERR_VAULT_FAILED vault_failed transient []
            "the vault refused or failed";
        /// The registry failed to decide.
        19 RegistryFailed CURVE_TUN_ERR_REGISTRY_FAILED registry_failed transient []
            "the registry failed to decide";
        /// There is no such entry.
        20 NotFound CURVE_TUN_ERR_NOT_FOUND not_found permanent []
            "there is no such entry";
        /// The object belongs to the parent of this forked process.
        21 Forked CURVE_TUN_ERR_FORKED forked permanent []
            "the object belongs to the parent of this process";
        /// Guarded memory could not be had.
        22 OutOfMemory CURVE_TUN_ERR_OUT_OF_MEMORY enomem transient []
            "guarded memory could not be had";
        /// libsodium could not be initialised.
        23 CryptoUnavailable CURVE_TUN_ERR_CRYPTO_UNAVAILABLE crypto_unavailable permanent []
            "libsodium could not be initialised";
        /// The host name has no address.
        24 NameNotFound CURVE_TUN_ERR_NAME_NOT_FOUND nxdomain transient []
            "the host name has no address";
        /// Nothing listens at the address.
        25 ConnectionRefused CURVE_TUN_ERR_CONNECTION_REFUSED econnrefused transient [ECONNREFUSED]
            "nothing listens at the address";
        /// The network or host cannot be reached.
        26 Unreachable CURVE_TUN_ERR_UNREACHABLE ehostunreach transient
            [EHOSTUNREACH ENETUNREACH ENETDOWN]
            "the network or host cannot be reached";
        /// The local address is in use.
        27 AddressInUse CURVE_TUN_ERR_ADDRESS_IN_USE eaddrinuse transient [EADDRINUSE]
            "the local address is in use";
        /// The local address is not one of this machine.
        28 AddressNotAvailable CURVE_TUN_ERR_ADDRESS_NOT_AVAILABLE eaddrnotavail transient
            [EADDRNOTAVAIL]
            "the local address is not one of this machine";
        /// The operating system denies permission.
        29 PermissionDenied CURVE_TUN_ERR_PERMISSION_DENIED eacces permanent [EACCES EPERM]
            "the operating system denies permission";
        /// The process or the system is out of file descriptors.
        30 TooManyFiles CURVE_TUN_ERR_TOO_MANY_FILES emfile transient [EMFILE ENFILE]
            "the process or the system is out of file descriptors";
        /// The operating system failed in another way.
        31 Io CURVE_TUN_ERR_IO io transient [EIO]
            "the operating system reported a failure";
        /// A defect in this library was caught; the object is closed.
        32 Internal CURVE_TUN_ERR_INTERNAL internal permanent []
            "a defect in curve_tun was caught and the object closed";
        /// Another process, or another vault of this one, has the vault's file open.
        33 VaultInUse CURVE_TUN_ERR_VAULT_IN_USE vault_in_use transient []
            "another process has the vault's file open";
        /// The vault's file is a link, is no regular file, belongs to another user, or is open to
        /// group or others.
        34 VaultPermissions CURVE_TUN_ERR_VAULT_PERMISSIONS vault_permissions permanent []
            "the file with the vault, its passphrase or PIN is no regular file, or open to others";
        /// The vault's file is damaged, or is none.
        35 VaultCorrupt CURVE_TUN_ERR_VAULT_CORRUPT vault_corrupt permanent []
            "the vault's file is damaged, or is none";
        /// The vault's file, or the agent, is of a later version than this library knows.
        36 VaultVersion CURVE_TUN_ERR_VAULT_VERSION vault_version permanent []
            "the vault is of a later version than this library knows";
        /// The passphrase or PIN is wrong, or missing, or was given for a vault without one.
        37 WrongPassphrase CURVE_TUN_ERR_WRONG_PASSPHRASE wrong_passphrase permanent []
            "the passphrase or PIN is wrong, missing, or not called for";
        /// Something is already there, and is not overwritten.
        38 AlreadyExists CURVE_TUN_ERR_ALREADY_EXISTS eexist permanent [EEXIST]
            "something is already there and is not overwritten";
        /// There is no such file.
        39 FileNotFound CURVE_TUN_ERR_FILE_NOT_FOUND enoent permanent [ENOENT ENOTDIR]
            "there is no such file";
        /// The disk, or the user's share of it, is full.
        40 DiskFull CURVE_TUN_ERR_DISK_FULL enospc transient [ENOSPC EDQUOT EFBIG]
            "the disk is full";
        /// The file system is read-only.
        41 ReadOnly CURVE_TUN_ERR_READ_ONLY erofs permanent [EROFS]
            "the file system is read-only";
        /// This build of the library lacks the feature.
        42 Unsupported CURVE_TUN_ERR_UNSUPPORTED enotsup permanent []
            "this build of the library lacks the feature";
        /// Others than its owner, its group and root could have written the registry's file.
        43 RegistryPermissions CURVE_TUN_ERR_REGISTRY_PERMISSIONS registry_permissions permanent []
            "others than its owner, its group and root could have written the registry's file";
        /// A line of the registry's file is wrong.
        44 BadRegistryFile CURVE_TUN_ERR_BAD_REGISTRY_FILE bad_registry_file permanent []
            "a line of the registry's file is wrong";
        /// The server is known by another key.
        45 KeyChanged CURVE_TUN_ERR_KEY_CHANGED key_changed permanent []
            "the server is known by another key";
        /// The key is denied.
        46 KeyDenied CURVE_TUN_ERR_KEY_DENIED key_denied permanent []
            "the key is denied";
        /// DNS gave an answer without a valid proof by DNSSEC.
        47 NotValidated CURVE_TUN_ERR_NOT_VALIDATED not_validated transient []
            "the answer of DNS has no valid proof by DNSSEC";
        /// The PIN of a token is locked, expired or not set.
        48 PinLocked CURVE_TUN_ERR_PIN_LOCKED pin_locked permanent []
            "the PIN is locked, expired or not set";
        /// The system gives no further thread: the limit of the user or of the system is reached.
        49 TooManyThreads CURVE_TUN_ERR_TOO_MANY_THREADS too_many_threads transient []
            "the system gives no further thread";
        /// The system has no memory for buffers of sockets or for other objects of its own.
        50 NoBuffers CURVE_TUN_ERR_NO_BUFFERS enobufs transient [ENOBUFS ENOMEM]
            "the system has no memory for its buffers";
        /// The peer does not speak the stream layer: its first message opens no stream.
        51 NotAStream CURVE_TUN_ERR_NOT_A_STREAM not_a_stream permanent []
            "the peer does not speak the stream layer";
        /// The transport ended before the end of the stream: it was cut, by whomever.
        52 Truncated CURVE_TUN_ERR_TRUNCATED truncated permanent []
            "the transport ended before the end of the stream";
        /// The peer has given the stream up.
        53 Aborted CURVE_TUN_ERR_ABORTED aborted permanent []
            "the peer has given the stream up";
        }
    };
}

pub(crate) use each_error;
