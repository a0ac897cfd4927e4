//! # Servers
//!
//! A server is a vault, minute keys, a registry and limits, shared by all connections that it
//! accepts.

use super::boundary::{catch_ok, end, object, out};
use super::options::{curve_tun_options, read_options};
use super::registry::curve_tun_registry;
use super::result::curve_tun_result;
use super::vault::curve_tun_vault;
use crate::connection::{HandshakeEvent, HandshakeOutcome};
use crate::error::Error;
use crate::net::TimedServer;
use std::ffi::{CString, c_char, c_void};
use std::sync::{Arc, OnceLock};

/// What all connections of a server share. Each server has a thread that rotates its minute keys.
pub struct curve_tun_server(pub(super) Arc<TimedServer>);

/// Makes a server. It keeps the vault and the registry alive.
///
/// May return `CURVE_TUN_ERR_INVALID_ARGUMENT` for options out of range,
/// `CURVE_TUN_ERR_OUT_OF_MEMORY`, `CURVE_TUN_ERR_TOO_MANY_THREADS`,
/// `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_server_new(
    vault: *const curve_tun_vault,
    registry: *const curve_tun_registry,
    options: *const curve_tun_options,
    server: *mut *mut curve_tun_server,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (vault, registry, options, mut server) =
            unsafe { (object(vault)?, object(registry)?, read_options(options)?, out(server)?) };
        let timed = TimedServer::new(vault.0.clone(), registry.shared(), options)?;
        server.give(curve_tun_server(timed));
        Ok(())
    })
}

/// The outcome of a client's handshake.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum curve_tun_handshake_outcome {
    /// The client is connected.
    CURVE_TUN_HANDSHAKE_ACCEPTED = 0,
    /// The handshake failed.
    CURVE_TUN_HANDSHAKE_REFUSED = 1,
    /// It was evicted for another handshake at the limits of the options.
    CURVE_TUN_HANDSHAKE_EVICTED = 2,
}

use curve_tun_handshake_outcome::*;

/// How the handshake of one client with a server ended, as `curve_tun_server_observe` reports it.
/// The library fills it in; what its pointers point to is valid until the call returns.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_handshake_event {
    /// The size of the struct as this library has it, which may be larger than the program's.
    pub size: usize,
    /// The outcome. A later library may have more values.
    pub outcome: curve_tun_handshake_outcome,
    /// `CURVE_TUN_OK` if the client was accepted; the error that ended the handshake if it was
    /// refused: that of the vault or the registry if one of them failed, and `CURVE_TUN_ERR_CLOSED`
    /// if the client left or the program closed or freed the server's end;
    /// `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES` if it was evicted.
    pub result: curve_tun_result,
    /// The address that the client came from.
    pub address: *const c_char,
    /// The client's long-term public key, of `CURVE_TUN_KEY_BYTES`, if it got so far as to prove
    /// it; otherwise NULL.
    pub public_key: *const u8,
}

/// Sets `observe` to be called once for each client's handshake with this server, when it ends:
/// with the client connected, refused or evicted. Set it before the first client comes: handshakes
/// that have ended by then are not reported.
///
/// Nothing on the wire tells of a failure, so to a client, a server whose vault fails looks like
/// one with another key (`CURVE_TUN_ERR_WRONG_SERVER_KEY`); the observer tells the server's own
/// program that it was `CURVE_TUN_ERR_VAULT_FAILED`, for example. A client that left before it was
/// taken from the system's queue had no handshake.
///
/// `observe` runs on the thread whose call drives the handshake: one that accepts, runs the
/// handshake or shuts down, or one on the connection, its free included. Several threads may call
/// it at once, and no lock of the library is held. It must not use the connection that is being
/// served, nor accept or run a handshake, nor let a C++ exception or a `longjmp` out; it may make
/// any other call. While it runs, that thread serves nobody, so it should not wait. It costs a
/// handshake one call and no more: nothing is kept of a handshake once it is reported, and a flood
/// is reported as it is turned away. `free` is called once, when nothing uses the server any more,
/// on the thread that freed its last user; it may be NULL.
///
/// `observe` may be NULL for an observer that does nothing. On success the server owns `user_data`,
/// and `free` is called for it; on failure it is not. May return `CURVE_TUN_ERR_WRONG_STATE` if the
/// server has an observer already, which stays. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_server_observe(
    server: *const curve_tun_server,
    observe: Option<unsafe extern "C" fn(user_data: *mut c_void, event: *const curve_tun_handshake_event)>,
    user_data: *mut c_void,
    free: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let server = unsafe { object(server)? };
        let host = Arc::new(HostObserver { observe, user_data, free: OnceLock::new() });
        let told = host.clone();
        server.0.server().observe(move |event| told.tell(event))?;
        // From here on the server owns `user_data`; the caller's reference keeps it alive during
        // this call.
        free.map_or(Ok(()), |free| host.free.set(free).map_err(|_| Error::Internal))
    })
}

/// An observer that a C program implements.
struct HostObserver {
    observe: Option<unsafe extern "C" fn(*mut c_void, *const curve_tun_handshake_event)>,
    user_data: *mut c_void,
    free: OnceLock<unsafe extern "C" fn(*mut c_void)>,
}

// SAFETY: the header demands that the functions take `user_data` on any thread.
unsafe impl Send for HostObserver {}
// SAFETY: the header demands that `observe` may run on several threads at once.
unsafe impl Sync for HostObserver {}

impl HostObserver {
    fn tell(&self, event: &HandshakeEvent) {
        let Some(observe) = self.observe else { return };
        let (outcome, result) = match event.outcome {
            HandshakeOutcome::Accepted => (CURVE_TUN_HANDSHAKE_ACCEPTED, curve_tun_result::CURVE_TUN_OK),
            HandshakeOutcome::Refused(error) => (CURVE_TUN_HANDSHAKE_REFUSED, error.into()),
            HandshakeOutcome::Evicted => (CURVE_TUN_HANDSHAKE_EVICTED, Error::TooManyHandshakes.into()),
        };
        // The text of an address holds no zero.
        let address = CString::new(event.address.to_string()).unwrap_or_default();
        let event = curve_tun_handshake_event {
            size: size_of::<curve_tun_handshake_event>(),
            outcome,
            result,
            address: address.as_ptr(),
            public_key: event.key.as_ref().map_or(std::ptr::null(), |key| key.0.as_ptr()),
        };
        // SAFETY: the function and its `user_data` are the host's promise; the event and what it
        // points to outlast the call.
        unsafe { observe(self.user_data, &event) }
    }
}

impl Drop for HostObserver {
    fn drop(&mut self) {
        if let Some(free) = self.free.get() {
            // SAFETY: the host's promise, and this is the last use of `user_data`.
            unsafe { free(self.user_data) }
        }
    }
}

/// Frees the caller's reference to a server; listeners and connections that were made with it keep
/// it. Its thread ends with the last of them.
///
/// Threads: the last call on this pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_server_free(server: *mut curve_tun_server) {
    // SAFETY: the header's demands on pointers.
    unsafe { end(server) }
}
