//! # Listeners
//!
//! Handshakes run only while a thread is in `curve_tun_listener_accept`: a program that does not
//! call it for longer than the handshake timeout in the options loses clients. What a loop does
//! with each result:
//!
//! | result | a loop that accepts | a client that connects |
//! | --- | --- | --- |
//! | `CURVE_TUN_OK` | serves the client | uses the tunnel |
//! | `CURVE_TUN_ERR_TIMEOUT` | accepts again | tries again |
//! | `CURVE_TUN_ERR_TOO_MANY_FILES` | reports it, accepts again | pauses, tries again |
//! | `CURVE_TUN_ERR_NO_BUFFERS` | reports it, accepts again | pauses, tries again |
//! | `CURVE_TUN_ERR_IO` | reports it, accepts again | pauses, tries again |
//! | `CURVE_TUN_ERR_CLOSED` | ends: the listener was shut down | pauses, longer each time, tries again |
//! | `CURVE_TUN_ERR_WRONG_SERVER_KEY` | does not meet it | reports it, pauses, longer each time, tries again |
//! | others, if `curve_tun_result_is_transient` | accepts again | pauses, tries again |
//! | others | ends | ends |
//!
//! A loop that accepts needs no pause of its own: when the system gives no connection, the listener
//! tries again after 100 milliseconds. A server asks its registry only when the client already
//! considers itself connected: a client that is not let in learns that from its first
//! `curve_tun_socket_recv`, which returns `CURVE_TUN_ERR_CLOSED`, as it does when the server goes
//! away. A server whose vault is out for a while looks like one with another key
//! (`CURVE_TUN_ERR_WRONG_SERVER_KEY`); trying again reveals nothing to a server that does have
//! another key.

use super::boundary::{bytes_mut, catch, catch_ok, end, object, out, string, timeout, write_text};
use super::result::curve_tun_result;
use super::server::curve_tun_server;
use super::socket::{HOST_MAX, OnPanic, address_text, curve_tun_socket};
use crate::error::{Error, Result};
use crate::net::Listener;
use std::ffi::c_char;

/// A TCP port on which tunnels are accepted.
pub struct curve_tun_listener(Listener);

impl curve_tun_listener {
    /// Runs a call on the listener; a panic in it shuts the listener down.
    fn run<R>(&self, call: impl FnOnce(&Listener) -> Result<R>) -> Result<R> {
        let _shutdown = OnPanic(|| self.0.shutdown());
        call(&self.0)
    }
}

/// Listens on a host, which is an address or a name of this machine, and a port; port 0 picks a
/// free one. `"::"` takes IPv4 connections too. The listener keeps the server alive.
///
/// May return `CURVE_TUN_ERR_NAME_NOT_FOUND`, `CURVE_TUN_ERR_ADDRESS_IN_USE`,
/// `CURVE_TUN_ERR_ADDRESS_NOT_AVAILABLE`, `CURVE_TUN_ERR_PERMISSION_DENIED`,
/// `CURVE_TUN_ERR_TOO_MANY_FILES`, `CURVE_TUN_ERR_TOO_MANY_THREADS` for the lookup of a name,
/// `CURVE_TUN_ERR_NO_BUFFERS`, `CURVE_TUN_ERR_IO`. Threads: any. Blocks while a name is looked up.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_listener_open(
    host: *const c_char,
    port: u16,
    server: *const curve_tun_server,
    listener: *mut *mut curve_tun_listener,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (host, server, mut listener) =
            unsafe { (string(host, HOST_MAX, Error::NameNotFound)?, object(server)?, out(listener)?) };
        listener.give(curve_tun_listener(Listener::bind(host, port, server.0.clone())?));
        Ok(())
    })
}

/// Returns the port that a listener listens on.
///
/// 0 for NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_listener_port(listener: *const curve_tun_listener) -> u16 {
    // SAFETY: the header's demands on pointers.
    catch(|| Ok(unsafe { object(listener)? }.0.port()))
}

/// Writes the address and port that a listener listens on as a string, such as `192.0.2.7:4000`,
/// `[2001:db8::7]:4000` or `[fe80::7%eth0]:4000`.
///
/// May return `CURVE_TUN_ERR_TOO_SMALL`; `CURVE_TUN_ADDRESS_TEXT_SIZE` is always enough. Threads:
/// any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_listener_address(
    listener: *const curve_tun_listener,
    buffer: *mut c_char,
    capacity: usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (listener, buffer) = unsafe { (object(listener)?, bytes_mut(buffer.cast(), capacity)?) };
        write_text(&address_text(listener.0.local_addr()), buffer)
    })
}

/// Gives the next client that connects, before its handshake. The caller runs
/// `curve_tun_socket_handshake`, on a separate thread if other clients should not wait for it. A
/// client that has left already is closed and not given. When as many handshakes are in flight as
/// the server's options allow, a new client evicts the oldest handshake of the source that has the
/// most, whose socket is closed. The next call then waits until that socket is freed by
/// `curve_tun_socket_free`, at most 100 ms, so that a flood leaves no more sockets than there may
/// be handshakes.
///
/// Do not use it together with `curve_tun_listener_accept` on one listener: each would wait for the
/// other's turn. May return `CURVE_TUN_ERR_TIMEOUT`; `CURVE_TUN_ERR_TOO_MANY_FILES`,
/// `CURVE_TUN_ERR_NO_BUFFERS` or `CURVE_TUN_ERR_IO` when the system gives no connection, at most
/// ten times a second, and the listener goes on; `CURVE_TUN_ERR_CLOSED` after
/// `curve_tun_listener_shutdown`. Threads: any. Blocks until there is a client, at most for
/// `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_listener_transport_accept(
    listener: *const curve_tun_listener,
    timeout_ms: i64,
    socket: *mut *mut curve_tun_socket,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (listener, mut socket) = unsafe { (object(listener)?, out(socket)?) };
        let accepted = listener.run(|listener| listener.transport_accept(timeout(timeout_ms)))?;
        socket.give(curve_tun_socket::new(accepted));
        Ok(())
    })
}

/// Gives the next client whose handshake is done. All handshakes in flight go on meanwhile, so a
/// silent client keeps nobody waiting. A client that fails its handshake is closed and not given.
/// When as many are in flight as the server's options allow, a new client evicts the oldest
/// handshake of the source that has the most.
///
/// May return what `curve_tun_listener_transport_accept` may; `CURVE_TUN_ERR_TIMEOUT` loses no
/// client. Threads: any. Blocks until there is a client, at most for `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_listener_accept(
    listener: *const curve_tun_listener,
    timeout_ms: i64,
    socket: *mut *mut curve_tun_socket,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (listener, mut socket) = unsafe { (object(listener)?, out(socket)?) };
        let accepted = listener.run(|listener| listener.accept(timeout(timeout_ms)))?;
        socket.give(curve_tun_socket::new(accepted));
        Ok(())
    })
}

/// Shuts a listener down from any thread: every accept, now and later, returns
/// `CURVE_TUN_ERR_CLOSED`, and unfinished handshakes end, also those of
/// `curve_tun_socket_handshake`. The listener must still be freed.
///
/// Does nothing for NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_listener_shutdown(listener: *const curve_tun_listener) {
    catch(|| {
        // SAFETY: the header's demands on pointers.
        unsafe { object(listener)? }.0.shutdown();
        Ok(())
    })
}

/// Closes and frees a listener: its port becomes free, and clients whose handshake is not done are
/// closed. Sockets that it gave stay.
///
/// Threads: the last call on this pointer. To end a listener that other threads wait on, shut it
/// down, wait for the threads, then free it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_listener_free(listener: *mut curve_tun_listener) {
    // SAFETY: the header's demands on pointers.
    unsafe { end(listener) }
}
