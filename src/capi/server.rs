//! # Servers
//!
//! A server is a vault, minute keys, a registry and limits, shared by all connections that it accepts.

use super::boundary::{catch_ok, end, object, out};
use super::options::{curve_tun_options, read_options};
use super::registry::curve_tun_registry;
use super::result::curve_tun_result;
use super::vault::curve_tun_vault;
use crate::net::TimedServer;
use std::sync::Arc;

/// What all connections of a server share. A thread of its own rotates the minute keys.
pub struct curve_tun_server(pub(super) Arc<TimedServer>);

/// Makes a server. It keeps the vault and the registry alive.
///
/// May return `CURVE_TUN_ERR_INVALID_ARGUMENT` for options out of their range, `CURVE_TUN_ERR_OUT_OF_MEMORY`,
/// also if no thread can be had, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any.
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

/// Ends the caller's hold on a server; listeners and connections that were made with it keep it. The thread ends with
/// the last of them.
///
/// Threads: the last call on this pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_server_free(server: *mut curve_tun_server) {
    // SAFETY: the header's demands on pointers.
    unsafe { end(server) }
}
