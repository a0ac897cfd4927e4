//! # Servers that are known
//!
//! A client never gets a server's key over the wire: it has it beforehand, from its user, from a
//! file or from DNS. Trust on first use adds memory: once a key was used for a name, it is the only
//! key accepted for that name. Keys are remembered in a registry file, in entries of the form
//! `[host]:port key`.
//!
//! Which key is trusted is decided in the same way here as in Rust and Erlang. If a key is given,
//! it is the only candidate; otherwise the keys that a registry has for the name are tried in turn.
//! A key that the known servers deny is skipped, and so is one that is not among those that the
//! server is known by; for a server that they do not know, `first_use` decides. A key whose secret
//! the server does not hold is skipped, too. When none is left, the first key that was not trusted
//! is reported.

use super::boundary::{array_mut, catch_ok, end, given, key, object, out, path, string, timeout, zero};
use super::growing::{self, growing};
use super::keys::CURVE_TUN_KEY_BYTES;
use super::options::{curve_tun_options, read_options};
use super::registry::{Kind, curve_tun_registry};
use super::result::curve_tun_result;
use super::socket::{HOST_MAX, curve_tun_socket};
use super::vault::curve_tun_vault;
use crate::error::{Error, Result};
use crate::net::{Connector, KnownSocket};
use crate::registry::{FirstUse, KnownServers, Refusal, ServerKeys, ServerName};
use std::ffi::c_char;
use std::mem::offset_of;

/// Do not use a server for which no key is known.
pub const CURVE_TUN_FIRST_USE_REFUSE: u32 = 0;
/// Use it this once.
pub const CURVE_TUN_FIRST_USE_ONCE: u32 = 1;
/// Use it, and remember the key once the server has proven to hold its secret.
pub const CURVE_TUN_FIRST_USE_REMEMBER: u32 = 2;

/// The servers that a client knows.
pub struct curve_tun_known_servers(KnownServers);

/// Opens the servers known in a registry file; if there is no such file, an empty one is made.
///
/// May return the errors of `curve_tun_registry_open_file` and of `curve_tun_registry_add`.
/// Threads: any. Blocks as long as it takes to read the file.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_known_servers_open(
    file: *const c_char,
    known: *mut *mut curve_tun_known_servers,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (file, mut known) = unsafe { (path(file)?, out(known)?) };
        known.give(curve_tun_known_servers(KnownServers::open(file).map_err(|error| error.error())?));
        Ok(())
    })
}

/// Says whether a public key may be used for a server, before a connection is made.
///
/// Returns `CURVE_TUN_OK` if the server is known by this key; `CURVE_TUN_ERR_UNKNOWN_PEER` if no
/// key is known for it, so the program or its user decides; `CURVE_TUN_ERR_KEY_CHANGED` if it is
/// known by another key, which is then written to `known_public_key`: only the user can tell
/// whether the server was given a new one or someone is in its place; `CURVE_TUN_ERR_KEY_DENIED` if
/// the file denies the key. May return `CURVE_TUN_ERR_INVALID_ARGUMENT` for a host that is no
/// address or name, and for port 0; and, since a change would otherwise go unnoticed, the errors of
/// `curve_tun_registry_open_file` for a file that has become unusable. Threads: any. Blocks if the
/// file has changed, as long as it takes to read it.
/// cbindgen:ptrs-as-arrays=[[public_key;CURVE_TUN_KEY_BYTES], [known_public_key;CURVE_TUN_KEY_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_known_servers_check(
    known: *const curve_tun_known_servers,
    host: *const c_char,
    port: u16,
    public_key: *const u8,
    known_public_key: *mut u8,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (known, name, key, place) =
            unsafe { (object(known)?, server(host, port)?, key(public_key)?, array_mut(known_public_key)?) };
        let checked = known.0.check(&name, &key, || FirstUse::Refuse);
        checked.map(drop).map_err(|refusal| told(refusal, place))
    })
}

/// Remembers a public key for a server: for programs that drive their own connections, once they
/// are connected. `curve_tun_socket_connect_known` does this itself.
///
/// Returns `CURVE_TUN_ERR_KEY_CHANGED` if another key has been remembered meanwhile, which is then
/// written to `known_public_key`, and `CURVE_TUN_ERR_KEY_DENIED` if the key has been denied. May
/// return the errors of `curve_tun_registry_add`, and `CURVE_TUN_ERR_INVALID_ARGUMENT` for a host
/// that is no address or name, and for port 0. Threads: any. Blocks as `curve_tun_registry_add`
/// does.
/// cbindgen:ptrs-as-arrays=[[public_key;CURVE_TUN_KEY_BYTES], [known_public_key;CURVE_TUN_KEY_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_known_servers_remember(
    known: *const curve_tun_known_servers,
    host: *const c_char,
    port: u16,
    public_key: *const u8,
    known_public_key: *mut u8,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (known, name, key, place) =
            unsafe { (object(known)?, server(host, port)?, key(public_key)?, array_mut(known_public_key)?) };
        known.0.remember(&name, &key).map_err(|refusal| told(refusal, place))
    })
}

/// Where a client gets a server's key from, and what it checks the key against. Fields that are 0
/// or NULL, as `CURVE_TUN_TRUST_INIT` sets them, play no part.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_trust {
    /// `sizeof(curve_tun_trust)`.
    pub size: usize,
    /// The 32 bytes of the given key, which stay the caller's; `registry` is not asked then. May be
    /// NULL.
    pub server_public_key: *const u8,
    /// The registry that knows the keys of servers, in a file or in DNS; may be NULL.
    pub registry: *const curve_tun_registry,
    /// The known servers; may be NULL.
    pub known_servers: *const curve_tun_known_servers,
    /// What to do with a server that `known_servers` lacks: one of `CURVE_TUN_FIRST_USE_…`.
    pub first_use: u32,
    /// 0; has no meaning yet.
    pub reserved: u32,
}

growing!(given curve_tun_trust, size_of::<curve_tun_trust>());

/// What `curve_tun_socket_connect_trusted` gives besides its result:
/// `CURVE_TUN_TRUST_OUTCOME_INIT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_trust_outcome {
    /// `sizeof(curve_tun_trust_outcome)`.
    pub size: usize,
    /// For `CURVE_TUN_ERR_KEY_CHANGED`, `CURVE_TUN_ERR_KEY_DENIED` and `CURVE_TUN_ERR_UNKNOWN_PEER`
    /// the key that is not trusted; otherwise zeros.
    pub offered_public_key: [u8; CURVE_TUN_KEY_BYTES],
    /// For `CURVE_TUN_ERR_KEY_CHANGED` the key that the server is known by; otherwise zeros.
    pub known_public_key: [u8; CURVE_TUN_KEY_BYTES],
    /// For `CURVE_TUN_OK`, why a key that should have been remembered was not, as in
    /// `curve_tun_socket_connect_known`; `CURVE_TUN_OK` if it was, or did not have to be.
    pub remembered: curve_tun_result,
    /// 0; has no meaning yet.
    pub reserved: u32,
}

growing!(filled curve_tun_trust_outcome, offset_of!(curve_tun_trust_outcome, remembered));

/// As `curve_tun_socket_connect`, with a key that is trusted ("Servers that are known"). Nothing is
/// sent with a key before it is trusted.
///
/// A program whose user decides about first uses passes `CURVE_TUN_FIRST_USE_REFUSE`, shows the
/// offered key of `CURVE_TUN_ERR_UNKNOWN_PEER`, and connects again with that key as the given one
/// and another `first_use`.
///
/// May return `CURVE_TUN_ERR_KEY_CHANGED`, `CURVE_TUN_ERR_KEY_DENIED`,
/// `CURVE_TUN_ERR_UNKNOWN_PEER`; `CURVE_TUN_ERR_INVALID_ARGUMENT` for neither a key nor a registry,
/// for an invalid `first_use`, for wrong sizes, and, where a registry or known servers are asked,
/// for a host that is no address or name and for port 0; `CURVE_TUN_ERR_WRONG_STATE` for a registry
/// that is neither in a file nor in DNS; and the errors of `curve_tun_socket_connect_by_name` and
/// `curve_tun_socket_connect_known`. `outcome` is filled in for each of these results but
/// `CURVE_TUN_ERR_NULL`, `CURVE_TUN_ERR_FORKED`, and those that say that an argument is wrong.
/// Threads: any. Blocks as `curve_tun_socket_connect_known` does.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_connect_trusted(
    host: *const c_char,
    port: u16,
    vault: *const curve_tun_vault,
    trust: *const curve_tun_trust,
    options: *const curve_tun_options,
    timeout_ms: i64,
    outcome: *mut curve_tun_trust_outcome,
    socket: *mut *mut curve_tun_socket,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (host, vault, trust, options, mut outcome, mut socket) = unsafe {
            (
                string(host, HOST_MAX, Error::InvalidArgument)?,
                object(vault)?,
                growing::read(trust)?,
                read_options(options)?,
                growing::out(outcome)?,
                out(socket)?,
            )
        };
        zero(trust.reserved)?;
        let first_use = first_use_of(trust.first_use)?;
        let mut connector = Connector::new(vault.0.clone()).options(options).timeout(timeout(timeout_ms));
        // SAFETY: the header's demands on the pointers in the struct, each of which may be NULL.
        unsafe {
            if let Some(key) = given(trust.server_public_key, |place| key(place))? {
                connector = connector.server_key(key);
            }
            if let Some(keys) = given(trust.registry, |registry| server_keys(object(registry)?))? {
                connector = connector.server_keys(keys);
            }
            if let Some(known) = given(trust.known_servers, |known| object(known))? {
                connector = connector.known_servers(&known.0, |_| first_use);
            }
        }
        let made = connector.connect_known(host, port);
        let (mut offered, mut known) = ([0; CURVE_TUN_KEY_BYTES], [0; CURVE_TUN_KEY_BYTES]);
        let mut remembered = curve_tun_result::CURVE_TUN_OK;
        match &made {
            Ok(KnownSocket { remembered: Err(error), .. }) => remembered = (*error).into(),
            Ok(_) => {}
            Err(Refusal::Changed { known: other, offered: key }) => (known, offered) = (other.0, key.0),
            Err(Refusal::Denied { offered: key } | Refusal::Unknown { offered: key }) => offered = key.0,
            Err(Refusal::Failed(_)) => {}
        }
        outcome.set(curve_tun_trust_outcome {
            size: 0,
            offered_public_key: offered,
            known_public_key: known,
            remembered,
            reserved: 0,
        });
        socket.give(curve_tun_socket::new(made.map_err(Refusal::error)?.socket));
        Ok(())
    })
}

/// As `curve_tun_socket_connect`, if `known` has nothing against this key for this host and port.
/// Nothing is sent before that is clear. For a server that is not known, `first_use` decides, one
/// of `CURVE_TUN_FIRST_USE_…`.
///
/// Returns what `curve_tun_known_servers_check` and `curve_tun_socket_connect` return, and may
/// return `CURVE_TUN_ERR_INVALID_ARGUMENT` for an invalid `first_use`. For
/// `CURVE_TUN_ERR_KEY_CHANGED` the known key is written to `known_public_key`; another program may
/// have remembered it meanwhile.
///
/// A key that should be remembered but cannot be written does not cost the tunnel, since the server
/// has proven the key: the call returns `CURVE_TUN_OK` with the socket, and writes the reason to
/// `remembered`, an error of `curve_tun_registry_add` such as `CURVE_TUN_ERR_READ_ONLY`. The next
/// use of that server is a first use again. In every other case of `CURVE_TUN_OK`, `remembered` is
/// `CURVE_TUN_OK`. Threads: any. Blocks as `curve_tun_socket_connect` does, and to read and write
/// the file: for other writers at most ten seconds more.
/// cbindgen:ptrs-as-arrays=[[server_public_key;CURVE_TUN_KEY_BYTES], [known_public_key;CURVE_TUN_KEY_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_connect_known(
    host: *const c_char,
    port: u16,
    vault: *const curve_tun_vault,
    server_public_key: *const u8,
    known: *const curve_tun_known_servers,
    first_use: u32,
    options: *const curve_tun_options,
    timeout_ms: i64,
    known_public_key: *mut u8,
    remembered: *mut curve_tun_result,
    socket: *mut *mut curve_tun_socket,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (host, vault, server_key, known, options, place, mut remembered, mut socket) = unsafe {
            (
                string(host, HOST_MAX, Error::InvalidArgument)?,
                object(vault)?,
                key(server_public_key)?,
                object(known)?,
                read_options(options)?,
                array_mut(known_public_key)?,
                out(remembered)?,
                out(socket)?,
            )
        };
        let first_use = first_use_of(first_use)?;
        let connector = Connector::new(vault.0.clone()).options(options).timeout(timeout(timeout_ms));
        let connector = connector.server_key(server_key).known_servers(&known.0, |_| first_use);
        let made = connector.connect_known(host, port).map_err(|refusal| told(refusal, place))?;
        remembered.set(made.remembered.err().map_or(curve_tun_result::CURVE_TUN_OK, Into::into));
        socket.give(curve_tun_socket::new(made.socket));
        Ok(())
    })
}

/// As `curve_tun_socket_connect`, with the key that a registry in a file (an entry
/// `[host]:port key`) or in DNS knows for the host and port. If it knows several, they are tried in
/// turn.
///
/// May return `CURVE_TUN_ERR_NOT_FOUND` if no key is known; `CURVE_TUN_ERR_WRONG_STATE` for a
/// registry that is neither in a file nor in DNS; `CURVE_TUN_ERR_INVALID_ARGUMENT` for a host that
/// is no address or name, and for port 0; `CURVE_TUN_ERR_NOT_VALIDATED`,
/// `CURVE_TUN_ERR_REGISTRY_FAILED`, `CURVE_TUN_ERR_FORKED`; and the errors of
/// `curve_tun_socket_connect`. Threads: any. Blocks until connected, at most for `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_connect_by_name(
    host: *const c_char,
    port: u16,
    vault: *const curve_tun_vault,
    registry: *const curve_tun_registry,
    options: *const curve_tun_options,
    timeout_ms: i64,
    socket: *mut *mut curve_tun_socket,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (host, vault, registry, options, mut socket) = unsafe {
            (
                string(host, HOST_MAX, Error::InvalidArgument)?,
                object(vault)?,
                object(registry)?,
                read_options(options)?,
                out(socket)?,
            )
        };
        let (vault, keys) = (vault.0.clone(), server_keys(registry)?);
        let made = Connector::new(vault)
            .server_keys(keys)
            .options(options.clone())
            .timeout(timeout(timeout_ms))
            .connect(host, port)?;
        socket.give(curve_tun_socket::new(made));
        Ok(())
    })
}

/// Frees the caller's reference to known servers.
///
/// Threads: the last call on this pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_known_servers_free(known: *mut curve_tun_known_servers) {
    // SAFETY: the header's demands on pointers.
    unsafe { end(known) }
}

/// # Safety
/// As [`string`].
unsafe fn server(host: *const c_char, port: u16) -> Result<ServerName> {
    // SAFETY: the caller's promise.
    ServerName::new(unsafe { string(host, HOST_MAX, Error::InvalidArgument)? }, port)
}

/// Returns the registry as one that knows the keys of servers.
fn server_keys(registry: &curve_tun_registry) -> Result<&dyn ServerKeys> {
    match &registry.0 {
        Kind::File(file) => Ok(&**file),
        #[cfg(feature = "dns")]
        Kind::Dns(dns) => Ok(&**dns),
        _ => Err(Error::WrongState),
    }
}

fn first_use_of(code: u32) -> Result<FirstUse> {
    match code {
        CURVE_TUN_FIRST_USE_REFUSE => Ok(FirstUse::Refuse),
        CURVE_TUN_FIRST_USE_ONCE => Ok(FirstUse::Once),
        CURVE_TUN_FIRST_USE_REMEMBER => Ok(FirstUse::Remember),
        _ => Err(Error::InvalidArgument),
    }
}

/// Tells the caller the key that a server is known by, and returns the error without it.
fn told(refusal: Refusal, place: &mut [u8; CURVE_TUN_KEY_BYTES]) -> Error {
    if let Refusal::Changed { known, .. } = refusal {
        *place = known.0;
    }
    refusal.error()
}
