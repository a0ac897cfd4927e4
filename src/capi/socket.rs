//! # Sockets
//!
//! Blocking TCP. On one socket one thread may send while another receives; two that send, or two
//! that receive, take turns. `curve_tun_socket_shutdown` from a further thread wakes them all. No
//! call here raises SIGPIPE, and a signal cuts no wait short.
//!
//! An error that ends a socket is returned once, by the call that met it; from then on calls return
//! `CURVE_TUN_ERR_CLOSED`, after messages that came before have been received. A custom vault or
//! registry without `deferred` is called on the thread that runs the handshake, one with it on
//! threads of this library's, 256 at most for each.
//!
//! Accepting. Handshakes run only while a thread is in `curve_tun_listener_accept`: a program that
//! stays away from it longer than the handshake's time in the options loses clients. What loops
//! make of a result:
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
//! asks it again after 100 milliseconds. A server asks its registry when the client has its tunnel
//! already: a client that is not let in learns that by its first `curve_tun_socket_recv`, which
//! returns `CURVE_TUN_ERR_CLOSED`, as it does when the server goes away. A server whose vault is
//! out for a while looks like one with another key (`CURVE_TUN_ERR_WRONG_SERVER_KEY`); another try
//! tells a server that has another key nothing.

use super::boundary::{
    array_mut, bytes, bytes_mut, catch, catch_ok, end, key, object, out, slice, string, timeout, write_text,
};
use super::options::{curve_tun_options, read_options};
use super::result::curve_tun_result;
use super::server::curve_tun_server;
use super::vault::curve_tun_vault;
use crate::error::{Error, Result};
use crate::net::{Connector, Listener, Socket};
use nix::net::if_::if_indextoname;
use std::ffi::{CString, c_char, c_int};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// A tunnel over one TCP connection.
pub struct curve_tun_socket(pub(super) Socket);

/// A TCP port at which tunnels are accepted.
pub struct curve_tun_listener(Listener);

/// One message of `curve_tun_socket_send_many`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_message {
    /// The message; may be NULL if it is empty.
    pub bytes: *const u8,
    /// Its length.
    pub len: usize,
}

/// The most characters that a host name may have: more than DNS allows.
pub(super) const HOST_MAX: usize = 255;

/// Ends an object as a panic passes by.
struct OnPanic<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

impl curve_tun_socket {
    /// Runs a call on the socket; a panic in it shuts the socket down.
    fn run<R>(&self, call: impl FnOnce(&Socket) -> Result<R>) -> Result<R> {
        let _shutdown = OnPanic(|| self.0.shutdown());
        call(&self.0)
    }
}

impl curve_tun_listener {
    /// Runs a call on the listener; a panic in it shuts the listener down.
    fn run<R>(&self, call: impl FnOnce(&Listener) -> Result<R>) -> Result<R> {
        let _shutdown = OnPanic(|| self.0.shutdown());
        call(&self.0)
    }
}

/// Connects to a host, an address or a name, and makes a tunnel to the holder of the server's
/// secret key. All addresses of a name are tried, slow ones side by side.
///
/// May return `CURVE_TUN_ERR_NAME_NOT_FOUND`, `CURVE_TUN_ERR_CONNECTION_REFUSED`,
/// `CURVE_TUN_ERR_UNREACHABLE`, `CURVE_TUN_ERR_PERMISSION_DENIED`,
/// `CURVE_TUN_ERR_ADDRESS_NOT_AVAILABLE`, `CURVE_TUN_ERR_TOO_MANY_FILES`, `CURVE_TUN_ERR_IO`;
/// `CURVE_TUN_ERR_TIMEOUT`; `CURVE_TUN_ERR_WRONG_SERVER_KEY`, `CURVE_TUN_ERR_BAD_PACKET`,
/// `CURVE_TUN_ERR_CLOSED`, `CURVE_TUN_ERR_WEAK_KEY`, `CURVE_TUN_ERR_INVALID_ARGUMENT` for options
/// out of their range, `CURVE_TUN_ERR_VAULT_FAILED`, `CURVE_TUN_ERR_OUT_OF_MEMORY`,
/// `CURVE_TUN_ERR_TOO_MANY_THREADS`, `CURVE_TUN_ERR_NO_BUFFERS`,
/// `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. A server that does not know this client closes the tunnel
/// after it has been made. Threads: any. Blocks until connected, at most for `timeout_ms` and the
/// handshake's time in the options.
/// cbindgen:ptrs-as-arrays=[[server_public_key;CURVE_TUN_KEY_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_connect(
    host: *const c_char,
    port: u16,
    vault: *const curve_tun_vault,
    server_public_key: *const u8,
    options: *const curve_tun_options,
    timeout_ms: i64,
    socket: *mut *mut curve_tun_socket,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (host, vault, server, options, mut socket) = unsafe {
            (
                string(host, HOST_MAX, Error::NameNotFound)?,
                object(vault)?,
                key(server_public_key)?,
                read_options(options)?,
                out(socket)?,
            )
        };
        let made = Connector::new(vault.0.clone())
            .server_key(server)
            .options(options.clone())
            .timeout(timeout(timeout_ms))
            .connect(host, port)?;
        socket.give(curve_tun_socket(made));
        Ok(())
    })
}

/// Listens at a host, an address or a name of this machine, and a port; port 0 picks a free one.
/// `"::"` takes IPv4 connections too. The listener keeps the server alive.
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

/// The port that a listener listens at.
///
/// 0 for NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_listener_port(listener: *const curve_tun_listener) -> u16 {
    // SAFETY: the header's demands on pointers.
    catch(|| Ok(unsafe { object(listener)? }.0.port()))
}

/// Writes the address and port that a listener listens at as a string, such as `192.0.2.7:4000`,
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

/// Gives the next client that connects, before its handshake: `curve_tun_socket_handshake` is the
/// caller's to run, on a thread of its own if others are not to wait for it. A client that has left
/// already is closed and not given. When as many handshakes are in flight as the server's options
/// allow, a new client evicts the oldest of the source that has most: its socket is closed. The
/// next call then waits until that socket is freed by `curve_tun_socket_free`, at most 100 ms, so
/// that a flood leaves no more sockets than there may be handshakes.
///
/// Not to be used on one listener beside `curve_tun_listener_accept`: each would wait for the
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
        socket.give(curve_tun_socket(accepted));
        Ok(())
    })
}

/// Runs the handshake of a socket that `curve_tun_listener_transport_accept` gave.
///
/// May return `CURVE_TUN_ERR_WRONG_STATE` if it is connected already; `CURVE_TUN_ERR_TIMEOUT`,
/// `CURVE_TUN_ERR_BAD_PACKET`, `CURVE_TUN_ERR_COOKIE_EXPIRED`, `CURVE_TUN_ERR_UNKNOWN_PEER`,
/// `CURVE_TUN_ERR_VAULT_FAILED`, `CURVE_TUN_ERR_REGISTRY_FAILED`,
/// `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES` if another evicted it, `CURVE_TUN_ERR_CLOSED` if
/// the client has left, or the socket or its listener was shut down: the socket is closed. Threads:
/// any. Blocks until connected, at most for `timeout_ms`, and until the handshake's time in the
/// options has passed since the accept; also while the vault or the registry is asked, it returns
/// as soon as the handshake is over.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_handshake(
    socket: *const curve_tun_socket,
    timeout_ms: i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let socket = unsafe { object(socket)? };
        socket.run(|socket| socket.handshake(timeout(timeout_ms)))
    })
}

/// Gives the next client whose handshake is done. All handshakes in flight go on meanwhile, so a
/// silent client keeps nobody waiting. A client that fails its handshake is closed and not given;
/// when as many are in flight as the server's options allow, a new client evicts the oldest of the
/// source that has most.
///
/// May return what `curve_tun_listener_transport_accept` may; no client is lost by
/// `CURVE_TUN_ERR_TIMEOUT`. Threads: any. Blocks until there is a client, at most for `timeout_ms`.
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
        socket.give(curve_tun_socket(accepted));
        Ok(())
    })
}

/// Sends one message of `len` bytes.
///
/// May return `CURVE_TUN_ERR_TOO_LARGE` above `CURVE_TUN_MESSAGE_MAX`, and
/// `CURVE_TUN_ERR_WRONG_STATE` before the handshake: nothing is sent and the socket stays usable.
/// `CURVE_TUN_ERR_TIMEOUT`: if part of it was sealed by then, the socket is closed, since half a
/// packet cannot be taken back; with a timeout of 0 and a full transport nothing was, and it stays
/// usable. `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, `CURVE_TUN_ERR_CLOSED`, `CURVE_TUN_ERR_FORKED`.
/// Threads: any. Blocks until the operating system has taken all of it, at most for `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_send(
    socket: *const curve_tun_socket,
    message: *const u8,
    len: usize,
    timeout_ms: i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (socket, message) = unsafe { (object(socket)?, bytes(message, len)?) };
        socket.run(|socket| socket.send(message, timeout(timeout_ms)))
    })
}

/// Sends `count` messages, in order, in as few system calls as they need.
///
/// May return what `curve_tun_socket_send` may: `CURVE_TUN_ERR_TOO_LARGE` if one of them is, and
/// `CURVE_TUN_ERR_NULL` if one of them is NULL with a length, and then none is sent. Threads: any.
/// Blocks as `curve_tun_socket_send`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_send_many(
    socket: *const curve_tun_socket,
    messages: *const curve_tun_message,
    count: usize,
    timeout_ms: i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (socket, messages) = unsafe { (object(socket)?, slice(messages, count)?) };
        for message in messages {
            // SAFETY: as above.
            unsafe { bytes(message.bytes, message.len)? };
        }
        // SAFETY: as above. None fails here: each has just been looked at.
        let messages = messages.iter().map(|m| unsafe { bytes(m.bytes, m.len) }.unwrap_or_default());
        socket.run(|socket| socket.send_many(messages, timeout(timeout_ms)))
    })
}

/// Receives one message into `buffer`, and gives its length in `*len`.
///
/// May return `CURVE_TUN_ERR_TOO_SMALL`, with the message's length in `*len`, if it is longer than
/// `capacity`: it stays. `CURVE_TUN_ERR_TIMEOUT`: nothing is lost. `CURVE_TUN_ERR_WRONG_STATE`
/// before the handshake. `CURVE_TUN_ERR_BAD_PACKET`, `CURVE_TUN_ERR_COUNTER_EXHAUSTED`: the socket
/// is closed. `CURVE_TUN_ERR_CLOSED`, `CURVE_TUN_ERR_FORKED`. Threads: any. Blocks until there is a
/// message, at most for `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_recv(
    socket: *const curve_tun_socket,
    buffer: *mut u8,
    capacity: usize,
    len: *mut usize,
    timeout_ms: i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (socket, buffer, mut len) = unsafe { (object(socket)?, bytes_mut(buffer, capacity)?, out(len)?) };
        let take = |message: &[u8]| {
            len.set(message.len());
            buffer.get_mut(..message.len()).ok_or(Error::TooSmall)?.copy_from_slice(message);
            Ok(())
        };
        socket.run(|socket| socket.recv_with(timeout(timeout_ms), take))
    })
}

/// Gives the peer's long-term public key, which it has proven.
///
/// May return `CURVE_TUN_ERR_WRONG_STATE` before the handshake, `CURVE_TUN_ERR_CLOSED` if that
/// failed, `CURVE_TUN_ERR_FORKED`. Threads: any.
/// cbindgen:ptrs-as-arrays=[[public_key;CURVE_TUN_KEY_BYTES]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_peer_key(
    socket: *const curve_tun_socket,
    public_key: *mut u8,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (socket, place) = unsafe { (object(socket)?, array_mut(public_key)?) };
        *place = socket.0.peer_key()?.0;
        Ok(())
    })
}

/// Writes the peer's address and port as a string, such as `192.0.2.7:4000` or
/// `[2001:db8::7]:4000`. An IPv4 peer of an IPv6 socket is an IPv4 peer. A link-local address has
/// its interface after it: `[fe80::7%eth0]:4000`.
///
/// May return `CURVE_TUN_ERR_TOO_SMALL`; `CURVE_TUN_ADDRESS_TEXT_SIZE` is always enough. Threads:
/// any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_peer_address(
    socket: *const curve_tun_socket,
    buffer: *mut c_char,
    capacity: usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (socket, buffer) = unsafe { (object(socket)?, bytes_mut(buffer.cast(), capacity)?) };
        write_text(&address_text(socket.0.peer_addr()), buffer)
    })
}

/// The text of an address, with the name of its interface if it has one; its number where that has
/// gone.
fn address_text(address: SocketAddr) -> String {
    if let SocketAddr::V6(v6) = address
        && v6.scope_id() != 0
        && let Ok(Ok(name)) = if_indextoname(v6.scope_id()).map(CString::into_string)
    {
        return format!("[{}%{name}]:{}", v6.ip(), v6.port());
    }
    address.to_string()
}

/// The socket's file descriptor, to be waited for beside others: never to be read, written or
/// closed. A message may wait although it is not readable: poll only after `curve_tun_socket_recv`
/// with a timeout of 0 has returned `CURVE_TUN_ERR_TIMEOUT`.
///
/// -1 for NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_fd(socket: *const curve_tun_socket) -> c_int {
    // SAFETY: the header's demands on pointers.
    catch(|| Ok(unsafe { object(socket)? }.0.as_raw_fd()))
}

/// Ends both directions: calls that wait are woken and return `CURVE_TUN_ERR_CLOSED`. Messages that
/// came can still be received. The socket has yet to be freed.
///
/// Nothing is done for NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_shutdown(socket: *const curve_tun_socket) {
    catch(|| {
        // SAFETY: the header's demands on pointers.
        unsafe { object(socket)? }.0.shutdown();
        Ok(())
    })
}

/// Closes a socket, and ends it; NULL is none. What was sent still arrives if the peer reads on.
///
/// Threads: the last call on this pointer. To end a socket that other threads wait for, shut it
/// down, wait for the threads, then free it. Returns at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_free(socket: *mut curve_tun_socket) {
    // SAFETY: the header's demands on pointers.
    unsafe { end(socket) }
}

/// Ends a listener from any thread: every accept, now and later, returns `CURVE_TUN_ERR_CLOSED`,
/// and handshakes that are not done end, also those of `curve_tun_socket_handshake`. The listener
/// has yet to be freed.
///
/// Nothing is done for NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_listener_shutdown(listener: *const curve_tun_listener) {
    catch(|| {
        // SAFETY: the header's demands on pointers.
        unsafe { object(listener)? }.0.shutdown();
        Ok(())
    })
}

/// Closes a listener, and ends it: its port is free, and clients whose handshake is not done are
/// closed. Sockets that it gave stay.
///
/// Threads: the last call on this pointer. To end a listener that other threads wait for, shut it
/// down, wait for the threads, then free it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_listener_free(listener: *mut curve_tun_listener) {
    // SAFETY: the header's demands on pointers.
    unsafe { end(listener) }
}
