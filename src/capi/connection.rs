//! # Connections without I/O
//!
//! For event loops and bindings: bytes in, bytes out, messages in, messages out. The program moves
//! the bytes: it passes what it reads from the transport to `curve_tun_connection_read`, and writes
//! what `curve_tun_connection_write` gives to the transport, both in order. It calls
//! `curve_tun_connection_tick` when that is due, answers requests if a vault or a registry answers
//! later, and reports the end of the transport.
//!
//! An error that ends the connection is returned once, by the call that met it; from then on calls
//! return `CURVE_TUN_ERR_CLOSED`, except that messages which arrived before can still be received.
//! A function of a custom vault or registry that uses the connection that is calling it gets
//! `CURVE_TUN_ERR_WRONG_STATE`, and so do the functions that send and receive messages once a
//! stream was made of the connection (`curve_tun_stream_machine_new`).

use super::boundary::{Failure, array_mut, bytes, catch, catch_ok, end, key, object, out};
use super::options::{curve_tun_options, read_options};
use super::registry::ip_address;
use super::result::curve_tun_result;
use super::server::curve_tun_server;
use super::vault::curve_tun_vault;
use crate::connection::{Connection, ConnectionState, Role};
use crate::error::{Error, Result};
use crate::net::TimedServer;
use std::cell::{Cell, RefCell, RefMut};
use std::ffi::{c_char, c_void};
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;

/// The state of a connection.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum curve_tun_state {
    /// A client that has not sent its hello, or a server that has not answered one.
    CURVE_TUN_STATE_READY = 0,
    /// A client that waits for the cookie, or for the vouch from its vault.
    CURVE_TUN_STATE_INITIATING = 1,
    /// A server that waits for the initiate, or for its vault or registry.
    CURVE_TUN_STATE_ACCEPTING = 2,
    /// Messages go both ways.
    CURVE_TUN_STATE_CONNECTED = 3,
    /// Over, for whatever reason.
    CURVE_TUN_STATE_CLOSED = 4,
}

use curve_tun_state::*;

impl Failure for curve_tun_state {
    fn failure(_: Error) -> curve_tun_state {
        CURVE_TUN_STATE_CLOSED
    }
}

/// The most bytes in an IP address.
pub const CURVE_TUN_IP_BYTES_MAX: usize = 16;

/// One end of a tunnel, whose bytes the program moves.
pub struct curve_tun_connection(pub(super) Rc<Driven>);

/// A connection, which its stream, if there is one, keeps alive.
pub(super) struct Driven {
    connection: RefCell<Connection>,
    /// How many bytes the last call offered, if it was `curve_tun_connection_read_buffer`.
    pub(super) offered: Cell<usize>,
    /// Set for a server's end: the server, whose minute keys rotate as long as this is held.
    _server: Option<Arc<TimedServer>>,
    /// Whether a stream was made of it, which alone sends and receives then.
    has_stream: Cell<bool>,
}

impl curve_tun_connection {
    pub(super) fn new(connection: Connection, server: Option<Arc<TimedServer>>) -> curve_tun_connection {
        curve_tun_connection(Rc::new(Driven {
            connection: RefCell::new(connection),
            offered: Cell::new(0),
            _server: server,
            has_stream: Cell::new(false),
        }))
    }

    /// Returns the connected connection for a stream, and whose end it is, once; `WrongState`
    /// before and after that.
    pub(super) fn take_for_stream(&self) -> Result<(Rc<Driven>, Role)> {
        let connection = self.messages()?;
        match connection.state() {
            ConnectionState::Connected => {}
            ConnectionState::Closed => return Err(Error::Closed),
            _ => return Err(Error::WrongState),
        }
        self.0.has_stream.set(true);
        Ok((self.0.clone(), connection.role()))
    }

    /// Returns the connection, unless this call comes from a callback of another call on it.
    pub(super) fn get(&self) -> Result<InUse<'_>> {
        self.0.get()
    }

    /// As [`curve_tun_connection::get`], for a call that sends or receives messages: `WrongState`
    /// if a stream does.
    pub(super) fn messages(&self) -> Result<InUse<'_>> {
        if self.0.has_stream.get() { Err(Error::WrongState) } else { self.get() }
    }
}

impl Driven {
    /// Returns the connection, unless this call comes from a callback of another call on it.
    pub(super) fn get(&self) -> Result<InUse<'_>> {
        self.offered.set(0);
        self.connection.try_borrow_mut().map(InUse).map_err(|_| Error::WrongState)
    }
}

/// A connection during a call; a panic that unwinds through it closes the connection.
pub(super) struct InUse<'a>(RefMut<'a, Connection>);

impl Deref for InUse<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for InUse<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close();
        }
    }
}

/// Makes a client's end of a connection to the holder of the server's secret key. The client's own
/// key is the one in the vault. Its hello waits to be written.
///
/// May return `CURVE_TUN_ERR_WEAK_KEY` for a server's key of low order,
/// `CURVE_TUN_ERR_INVALID_ARGUMENT` for options out of range, `CURVE_TUN_ERR_OUT_OF_MEMORY`,
/// `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any.
/// cbindgen:ptrs-as-arrays=[[server_public_key;CURVE_TUN_KEY_BYTES]]
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_new_client(
    vault: *const curve_tun_vault,
    server_public_key: *const u8,
    options: *const curve_tun_options,
    connection: *mut *mut curve_tun_connection,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (vault, server, options, mut connection) =
            unsafe { (object(vault)?, key(server_public_key)?, read_options(options)?, out(connection)?) };
        connection
            .give(curve_tun_connection::new(Connection::client(vault.0.clone(), server, &options)?, None));
        Ok(())
    })
}

/// Makes a server's end of a connection to a client that came from an address, which the registry
/// will get. A link-local address may have its scope after it, as `getnameinfo` writes it
/// (`fe80::1%eth0`); the scope is ignored.
///
/// When as many handshakes are in flight as the server's options allow, the oldest of the source
/// that has the most is evicted, if it allows that (`curve_tun_connection_on_evict`). May return
/// `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES` if no handshake can be evicted, `CURVE_TUN_ERR_BAD_ADDRESS`,
/// `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`, `CURVE_TUN_ERR_FORKED`. Threads: any, but not from an
/// `evict`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_new_server(
    server: *const curve_tun_server,
    peer_address: *const c_char,
    connection: *mut *mut curve_tun_connection,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (server, address, mut connection) =
            unsafe { (object(server)?, ip_address(peer_address)?, out(connection)?) };
        connection.give(of_server(server, address)?);
        Ok(())
    })
}

/// As `curve_tun_connection_new_server`, for an address of 4 bytes (IPv4) or 16 (IPv6; an
/// IPv4-mapped one is taken as IPv4), in network byte order, as in `sin_addr` or `sin6_addr`.
///
/// May return `CURVE_TUN_ERR_BAD_ADDRESS` for another length, and otherwise what that function may.
/// Threads: any, but not from an `evict`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_new_server_ip(
    server: *const curve_tun_server,
    peer_ip: *const u8,
    peer_ip_len: usize,
    connection: *mut *mut curve_tun_connection,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (server, ip, mut connection) =
            unsafe { (object(server)?, bytes(peer_ip, peer_ip_len)?, out(connection)?) };
        connection.give(of_server(server, ip_of_bytes(ip).ok_or(Error::BadAddress)?)?);
        Ok(())
    })
}

/// Returns the address that these bytes are, 4 or 16 of them.
pub(super) fn ip_of_bytes(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|ip| IpAddr::from(*ip)),
        CURVE_TUN_IP_BYTES_MAX => bytes.first_chunk::<CURVE_TUN_IP_BYTES_MAX>().map(|ip| IpAddr::from(*ip)),
        _ => None,
    }
}

fn of_server(server: &curve_tun_server, address: IpAddr) -> Result<curve_tun_connection> {
    let made = Connection::server(server.0.server(), address)?;
    Ok(curve_tun_connection::new(made, Some(server.0.clone())))
}

/// Lets a server's handshake be evicted for another when as many are in flight as the server's
/// options allow. The handshake is then over: the next call returns
/// `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES`, once, and `evict` is called, once, with `user_data`, on the
/// thread of the call that makes the other connection. It makes the driver of this connection end
/// it, for instance with `shutdown(fd, SHUT_RDWR)`; it must not block, nor call this library. It is
/// not called once the handshake is over, nor after `curve_tun_connection_close` or `_free` has
/// returned; `user_data` must last until then. `evict` may be NULL: then the driver learns of it
/// from its next call on this connection, at the latest from the `curve_tun_connection_tick` at the
/// deadline.
///
/// May return `CURVE_TUN_ERR_WRONG_STATE` for a client's end, and after the handshake;
/// `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_on_evict(
    connection: *mut curve_tun_connection,
    evict: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
    user_data: *mut c_void,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let connection = unsafe { object(connection)? };
        let mut connection = connection.get()?;
        match evict {
            Some(call) => {
                let host = Evict { call, user_data };
                connection.on_evict(move || host.tell())
            }
            None => connection.on_evict(|| {}),
        }
    })
}

/// The callback of a C program for the eviction of its connection.
struct Evict {
    call: unsafe extern "C" fn(*mut c_void),
    user_data: *mut c_void,
}

// SAFETY: the header demands that the function takes `user_data` on any thread.
unsafe impl Send for Evict {}

impl Evict {
    fn tell(self) {
        // SAFETY: the header demands that `user_data` lasts as long as the handshake does.
        unsafe { (self.call)(self.user_data) }
    }
}

/// Returns the state of the connection.
///
/// `CURVE_TUN_STATE_CLOSED` for NULL. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_state(
    connection: *const curve_tun_connection,
) -> curve_tun_state {
    catch(|| {
        // SAFETY: the header's demands on pointers.
        let connection = unsafe { object(connection)? };
        Ok(match connection.get()?.state() {
            ConnectionState::Ready => CURVE_TUN_STATE_READY,
            ConnectionState::Initiating => CURVE_TUN_STATE_INITIATING,
            ConnectionState::Accepting => CURVE_TUN_STATE_ACCEPTING,
            ConnectionState::Connected => CURVE_TUN_STATE_CONNECTED,
            ConnectionState::Closed => CURVE_TUN_STATE_CLOSED,
        })
    })
}

/// Gives the peer's proven long-term public key once connected, even if closed since.
///
/// May return `CURVE_TUN_ERR_WRONG_STATE` before. Threads: one at a time.
/// cbindgen:ptrs-as-arrays=[[public_key;CURVE_TUN_KEY_BYTES]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_peer_key(
    connection: *const curve_tun_connection,
    public_key: *mut u8,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (connection, place) = unsafe { (object(connection)?, array_mut(public_key)?) };
        *place = connection.get()?.peer_key().ok_or(Error::WrongState)?.0;
        Ok(())
    })
}

/// Tells the connection the time, in monotonic milliseconds from any origin, not negative. Gives
/// the time by which to call it again; -1 if no further call is due until another function was
/// called.
///
/// The handshake's time runs from the first call. Call it when the connection is made, whenever the
/// given time comes, and when the handshake is over: an established connection frees its idle
/// buffers in this call. May return `CURVE_TUN_ERR_TIMEOUT` (the handshake was not over in time)
/// and `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES` (it was evicted), after which the connection is closed;
/// `CURVE_TUN_ERR_INVALID_ARGUMENT` for a negative time, `CURVE_TUN_ERR_CLOSED`,
/// `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_tick(
    connection: *mut curve_tun_connection,
    now_ms: i64,
    next_deadline_ms: *mut i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (connection, mut next) = unsafe { (object(connection)?, out(next_deadline_ms)?) };
        let now = u64::try_from(now_ms).map_err(|_| Error::InvalidArgument)?;
        let deadline = connection.get()?.tick(now)?;
        next.set(deadline.map_or(-1, |ms| i64::try_from(ms).unwrap_or(i64::MAX)));
        Ok(())
    })
}

/// Reports the orderly end of the transport: the peer closed its side. The connection is closed;
/// messages that have arrived can still be received.
///
/// Returns what the end means: `CURVE_TUN_ERR_CLOSED`; or `CURVE_TUN_ERR_WRONG_SERVER_KEY` for a
/// client whose hello was answered by nothing but the end, as a server does that cannot open it
/// because it has another key or its vault fails; or `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES` for one
/// that was evicted. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_transport_ended(
    connection: *mut curve_tun_connection,
) -> curve_tun_result {
    // SAFETY: the header's demands on pointers.
    catch_ok(|| Err(unsafe { object(connection)? }.get()?.transport_ended()))
}

/// Closes the connection, for a program that is done with it or whose transport broke: secrets are
/// wiped, and bytes for the transport dropped. Messages that have arrived can still be received.
/// Does nothing for a closed connection or NULL.
///
/// Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_close(connection: *mut curve_tun_connection) {
    catch(|| {
        // SAFETY: the header's demands on pointers.
        unsafe { object(connection)? }.get()?.close();
        Ok(())
    })
}

/// Frees the connection and everything that it holds; if a stream was made of it, once that is
/// freed, too.
///
/// Threads: the last call on this pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_free(connection: *mut curve_tun_connection) {
    // SAFETY: the header's demands on pointers.
    unsafe { end(connection) }
}
