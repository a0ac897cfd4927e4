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

use super::boundary::{
    array_mut, bytes, bytes_mut, catch, catch_ok, end, key, object, out, string, timeout, write_text,
};
use super::connection::CURVE_TUN_IP_BYTES_MAX;
use super::options::{curve_tun_options, read_options};
use super::result::curve_tun_result;
use super::traffic::{curve_tun_message, slice_of_messages};
use super::vault::curve_tun_vault;
use crate::error::{Error, Result};
use crate::net::{Connector, Socket};
use nix::net::if_::if_indextoname;
use std::ffi::{CString, c_char, c_int};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// A tunnel over one TCP connection.
pub struct curve_tun_socket(pub(super) Socket);

/// The most characters that a host name may have: more than DNS allows.
pub(super) const HOST_MAX: usize = 255;

/// Ends an object as a panic passes by.
pub(super) struct OnPanic<F: FnMut()>(pub(super) F);

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
            .options(options)
            .timeout(timeout(timeout_ms))
            .connect(host, port)?;
        socket.give(curve_tun_socket(made));
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
/// Blocks as `curve_tun_socket_send`. What is queued goes first.
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
        let (socket, messages) = unsafe { (object(socket)?, slice_of_messages(messages, count)?) };
        socket.run(|socket| socket.send_many(messages, timeout(timeout_ms)))
    })
}

/// Seals one message of `len` bytes and lets it wait for others, for a program that sends many
/// small messages one by one. What waits goes to the operating system, in order, when it is 64 KiB,
/// by `curve_tun_socket_flush`, and with the next `curve_tun_socket_send` or `_send_many`; no other
/// call writes it, `curve_tun_socket_recv` among them.
///
/// `CURVE_TUN_OK` means that the message is queued, not that it is sent: who awaits an answer
/// flushes first. `message` is the caller's again when this returns. A socket that is freed gives
/// the system as much of its queue as that takes at once, and one that is shut down drops it.
///
/// May return `CURVE_TUN_ERR_TOO_LARGE` above `CURVE_TUN_MESSAGE_MAX`, `CURVE_TUN_ERR_WRONG_STATE`
/// before the handshake, and `CURVE_TUN_ERR_TIMEOUT`: the message is not queued, what is stays so,
/// and the socket stays usable. `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, `CURVE_TUN_ERR_CLOSED`: the
/// socket is closed, and what was queued may be lost. `CURVE_TUN_ERR_FORKED`. Threads: any; two
/// that queue, send or flush take turns. Blocks only while 64 KiB wait that the operating system
/// does not take, or for its turn, at most for `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_queue(
    socket: *const curve_tun_socket,
    message: *const u8,
    len: usize,
    timeout_ms: i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (socket, message) = unsafe { (object(socket)?, bytes(message, len)?) };
        socket.run(|socket| socket.queue(message, timeout(timeout_ms)))
    })
}

/// Gives the operating system all that is queued.
///
/// May return `CURVE_TUN_ERR_TIMEOUT`: what it has not taken stays queued, and the socket stays
/// usable. `CURVE_TUN_ERR_WRONG_STATE` before the handshake. `CURVE_TUN_ERR_CLOSED`: the socket is
/// closed, and what was queued is lost. `CURVE_TUN_ERR_FORKED`. Threads: any. Blocks until the
/// operating system has taken all of it, at most for `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_flush(
    socket: *const curve_tun_socket,
    timeout_ms: i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let socket = unsafe { object(socket)? };
        socket.run(|socket| socket.flush(timeout(timeout_ms)))
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

/// Gives the peer's address in bytes: 4 in `ip` for IPv4, 16 for IPv6, in the order of the network,
/// as `*len` says; its port; and the number of the interface of a link-local address, else 0. An
/// IPv4 peer of an IPv6 socket is an IPv4 peer.
///
/// Threads: any.
/// cbindgen:ptrs-as-arrays=[[ip;CURVE_TUN_IP_BYTES_MAX]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_peer_ip(
    socket: *const curve_tun_socket,
    ip: *mut u8,
    len: *mut usize,
    port: *mut u16,
    scope: *mut u32,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (socket, ip, mut len, mut port, mut scope) = unsafe {
            (object(socket)?, array_mut::<CURVE_TUN_IP_BYTES_MAX>(ip)?, out(len)?, out(port)?, out(scope)?)
        };
        let peer = socket.0.peer_addr();
        match peer {
            SocketAddr::V4(v4) => {
                ip[..4].copy_from_slice(&v4.ip().octets());
                len.set(4);
                scope.set(0);
            }
            SocketAddr::V6(v6) => {
                *ip = v6.ip().octets();
                len.set(16);
                scope.set(v6.scope_id());
            }
        }
        port.set(peer.port());
        Ok(())
    })
}

/// The text of an address, with the name of its interface if it has one; its number where that has
/// gone.
pub(super) fn address_text(address: SocketAddr) -> String {
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
/// came can still be received; those that are queued are lost. The socket has yet to be freed.
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
