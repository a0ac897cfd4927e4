//! # Sockets
//!
//! Blocking TCP. On one socket one thread may send while another receives; two that send, or two
//! that receive, take turns. `curve_tun_socket_shutdown` from another thread wakes them all. No
//! call here raises SIGPIPE, and a signal cuts no wait short.
//!
//! An error that ends a socket is returned once, by the call that met it; from then on calls return
//! `CURVE_TUN_ERR_CLOSED`, except that messages which arrived before can still be received. A
//! custom vault or registry without `deferred` is called on the thread that runs the handshake; one
//! with `deferred`, on the library's own threads, 256 at most for each.
//!
//! A socket of which a stream was made (`curve_tun_stream_new`) sends and receives no messages of
//! its own: the functions that do return `CURVE_TUN_ERR_WRONG_STATE`.

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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A tunnel over one TCP connection.
pub struct curve_tun_socket {
    socket: Arc<Socket>,
    /// Whether a stream was made of it, which alone sends and receives then.
    has_stream: AtomicBool,
}

/// A limit on the characters of a host name: more than DNS allows.
pub(super) const HOST_MAX: usize = 255;

/// Shuts an object down when a panic unwinds through it.
pub(super) struct OnPanic<F: FnMut()>(pub(super) F);

impl<F: FnMut()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

impl curve_tun_socket {
    pub(super) fn new(socket: Socket) -> curve_tun_socket {
        curve_tun_socket { socket: Arc::new(socket), has_stream: AtomicBool::new(false) }
    }

    /// Runs a call on the socket; a panic in it shuts the socket down. `WrongState` if a stream was
    /// made of it.
    fn run<R>(&self, call: impl FnOnce(&Socket) -> Result<R>) -> Result<R> {
        if self.has_stream.load(Ordering::Acquire) {
            return Err(Error::WrongState);
        }
        let _shutdown = OnPanic(|| self.socket.shutdown());
        call(&self.socket)
    }

    /// Returns the connected socket for a stream, once; `WrongState` after that.
    pub(super) fn take_for_stream(&self) -> Result<Arc<Socket>> {
        self.socket.peer_key()?;
        if self.has_stream.swap(true, Ordering::AcqRel) {
            return Err(Error::WrongState);
        }
        Ok(self.socket.clone())
    }
}

/// Connects to a host, which is an address or a name, and makes a tunnel to the holder of the
/// server's secret key. All addresses of a name are tried, slow ones in parallel.
///
/// May return `CURVE_TUN_ERR_NAME_NOT_FOUND`, `CURVE_TUN_ERR_CONNECTION_REFUSED`,
/// `CURVE_TUN_ERR_UNREACHABLE`, `CURVE_TUN_ERR_PERMISSION_DENIED`,
/// `CURVE_TUN_ERR_ADDRESS_NOT_AVAILABLE`, `CURVE_TUN_ERR_TOO_MANY_FILES`, `CURVE_TUN_ERR_IO`;
/// `CURVE_TUN_ERR_TIMEOUT`; `CURVE_TUN_ERR_WRONG_SERVER_KEY`, `CURVE_TUN_ERR_BAD_PACKET`,
/// `CURVE_TUN_ERR_CLOSED`, `CURVE_TUN_ERR_WEAK_KEY`, `CURVE_TUN_ERR_INVALID_ARGUMENT` for options
/// out of range, `CURVE_TUN_ERR_VAULT_FAILED`, `CURVE_TUN_ERR_OUT_OF_MEMORY`,
/// `CURVE_TUN_ERR_TOO_MANY_THREADS`, `CURVE_TUN_ERR_NO_BUFFERS`,
/// `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. A server that does not know this client closes the tunnel
/// after it was made. Threads: any. Blocks until connected, at most for `timeout_ms` and for the
/// handshake timeout in the options.
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
        socket.give(curve_tun_socket::new(made));
        Ok(())
    })
}

/// Runs the handshake of a socket that `curve_tun_listener_transport_accept` gave.
///
/// May return `CURVE_TUN_ERR_WRONG_STATE` if it is connected already; `CURVE_TUN_ERR_TIMEOUT`,
/// `CURVE_TUN_ERR_BAD_PACKET`, `CURVE_TUN_ERR_COOKIE_EXPIRED`, `CURVE_TUN_ERR_UNKNOWN_PEER`,
/// `CURVE_TUN_ERR_VAULT_FAILED`, `CURVE_TUN_ERR_REGISTRY_FAILED`,
/// `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES` if it was evicted, `CURVE_TUN_ERR_CLOSED` if the client has
/// left, or the socket or its listener was shut down: the socket is closed. Threads: any. Blocks
/// until connected, at most for `timeout_ms`, and until the handshake timeout in the options has
/// passed since the accept. It returns as soon as the handshake is over, even while a vault or a
/// registry has yet to answer.
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
/// packet cannot be taken back; with a timeout of 0 and a full transport nothing was sealed, and
/// the socket stays usable. `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, `CURVE_TUN_ERR_CLOSED`,
/// `CURVE_TUN_ERR_FORKED`. Threads: any. Blocks until the operating system has taken all of it, at
/// most for `timeout_ms`.
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
/// May return what `curve_tun_socket_send` may: `CURVE_TUN_ERR_TOO_LARGE` if one of them is too
/// large, and `CURVE_TUN_ERR_NULL` if one of them is NULL with a length; then none is sent.
/// Threads: any. Blocks as `curve_tun_socket_send` does. Queued messages go first.
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

/// Seals one message of `len` bytes and queues it, for a program that sends many small messages one
/// by one. The queue goes to the operating system, in order, when it reaches 64 KiB, with
/// `curve_tun_socket_flush`, and with the next `curve_tun_socket_send` or `_send_many`. No other
/// call writes it, not even `curve_tun_socket_recv`.
///
/// `CURVE_TUN_OK` means that the message is queued, not that it is sent: flush before waiting for
/// an answer. `message` is the caller's again when this returns. Freeing a socket passes on as much
/// of its queue as the system takes at once; shutting it down drops the queue.
///
/// May return `CURVE_TUN_ERR_TOO_LARGE` above `CURVE_TUN_MESSAGE_MAX`, `CURVE_TUN_ERR_WRONG_STATE`
/// before the handshake, and `CURVE_TUN_ERR_TIMEOUT`: the message is not queued, the queue stays as
/// it is, and the socket stays usable. `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, `CURVE_TUN_ERR_CLOSED`:
/// the socket is closed, and queued messages may be lost. `CURVE_TUN_ERR_FORKED`. Threads: any; two
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

/// Passes everything that is queued to the operating system.
///
/// May return `CURVE_TUN_ERR_TIMEOUT`: what the system has not taken stays queued, and the socket
/// stays usable. `CURVE_TUN_ERR_WRONG_STATE` before the handshake. `CURVE_TUN_ERR_CLOSED`: the
/// socket is closed, and queued messages are lost. `CURVE_TUN_ERR_FORKED`. Threads: any. Blocks
/// until the operating system has taken all of it, at most for `timeout_ms`.
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

/// Gives the peer's proven long-term public key.
///
/// May return `CURVE_TUN_ERR_WRONG_STATE` before the handshake, `CURVE_TUN_ERR_CLOSED` if the
/// handshake failed, `CURVE_TUN_ERR_FORKED`. Threads: any.
/// cbindgen:ptrs-as-arrays=[[public_key;CURVE_TUN_KEY_BYTES]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_peer_key(
    socket: *const curve_tun_socket,
    public_key: *mut u8,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (socket, place) = unsafe { (object(socket)?, array_mut(public_key)?) };
        *place = socket.socket.peer_key()?.0;
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
        write_text(&address_text(socket.socket.peer_addr()), buffer)
    })
}

/// Gives the peer's address in `ip`, 4 bytes for IPv4 or 16 for IPv6 in network byte order, as
/// `*len` says; its port; and the number of the interface of a link-local address, otherwise 0. An
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
        let peer = socket.socket.peer_addr();
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

/// Returns the text of an address, with the name of its interface if it has one, or the number of
/// an interface that is gone.
pub(super) fn address_text(address: SocketAddr) -> String {
    if let SocketAddr::V6(v6) = address
        && v6.scope_id() != 0
        && let Ok(Ok(name)) = if_indextoname(v6.scope_id()).map(CString::into_string)
    {
        return format!("[{}%{name}]:{}", v6.ip(), v6.port());
    }
    address.to_string()
}

/// Returns the socket's file descriptor, to poll together with others. Never read, write or close
/// it. A message may be waiting although the descriptor is not readable: poll only after
/// `curve_tun_socket_recv` with a timeout of 0 has returned `CURVE_TUN_ERR_TIMEOUT`.
///
/// -1 for NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_fd(socket: *const curve_tun_socket) -> c_int {
    // SAFETY: the header's demands on pointers.
    catch(|| Ok(unsafe { object(socket)? }.socket.as_raw_fd()))
}

/// Shuts down both directions: calls that wait are woken and return `CURVE_TUN_ERR_CLOSED`.
/// Messages that have arrived can still be received; queued ones are lost. The socket must still be
/// freed.
///
/// Does nothing for NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_shutdown(socket: *const curve_tun_socket) {
    catch(|| {
        // SAFETY: the header's demands on pointers.
        unsafe { object(socket)? }.socket.shutdown();
        Ok(())
    })
}

/// Closes and frees a socket; does nothing for NULL. What was sent still arrives if the peer goes
/// on reading. If a stream was made of it, the transport stays open until that is freed, too.
///
/// Threads: the last call on this pointer. To end a socket that other threads wait on, shut it
/// down, wait for the threads, then free it. Returns at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_socket_free(socket: *mut curve_tun_socket) {
    // SAFETY: the header's demands on pointers.
    unsafe { end(socket) }
}
