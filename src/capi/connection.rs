//! # Connections without I/O
//!
//! For event loops and bindings: bytes in, bytes out, messages in, messages out. The program moves the bytes: what the
//! transport brought goes into `curve_tun_connection_read`, what `curve_tun_connection_write` gives goes onto the transport,
//! both in order. It calls `curve_tun_connection_tick` when that asks for it, answers requests if a vault or a registry
//! answers later, and says when the transport has ended.
//!
//! An error that ends the connection is returned once, by the call that met it; from then on calls return
//! `CURVE_TUN_ERR_CLOSED`, except that messages which came before can still be received. A function of a custom vault or
//! registry that uses the connection which is calling it gets `CURVE_TUN_ERR_WRONG_STATE`.

use super::boundary::{
    self, Failure, array_mut, bytes, bytes_mut, catch, catch_ok, end, growing, key, object, out, out_growing,
};
use super::options::{curve_tun_options, read_options};
use super::registry::ip_address;
use super::request::{curve_tun_answer, curve_tun_request};
use super::result::curve_tun_result;
use super::server::curve_tun_server;
use super::vault::curve_tun_vault;
use crate::connection::{Connection, ConnectionState};
use crate::error::{Error, Result};
use std::cell::{Cell, RefCell, RefMut};
use std::ffi::c_char;
use std::ops::{Deref, DerefMut};

/// Where a connection stands.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum curve_tun_state {
    /// A client that has not said hello, a server that has not answered one.
    CURVE_TUN_STATE_READY = 0,
    /// A client that awaits the cookie, or its vault's vouch.
    CURVE_TUN_STATE_INITIATING = 1,
    /// A server that awaits the initiate, or word of its vault or registry.
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

/// One end of a tunnel, whose bytes the program moves.
pub struct curve_tun_connection {
    connection: RefCell<Connection>,
    /// How many bytes the last call offered, if it was `curve_tun_connection_room`.
    room: Cell<usize>,
}

impl curve_tun_connection {
    fn new(connection: Connection) -> curve_tun_connection {
        curve_tun_connection { connection: RefCell::new(connection), room: Cell::new(0) }
    }

    /// The connection, unless a call on it is under way, from a callback of which this call comes.
    fn get(&self) -> Result<InUse<'_>> {
        self.room.set(0);
        self.connection.try_borrow_mut().map(InUse).map_err(|_| Error::WrongState)
    }
}

/// A connection in a call; a panic that passes by closes it.
struct InUse<'a>(RefMut<'a, Connection>);

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

/// Makes a client's end: it will speak to the holder of the server's secret key, as the holder of the vault's. Its hello
/// waits to be written.
///
/// May return `CURVE_TUN_ERR_WEAK_KEY` for a server's key of low order, `CURVE_TUN_ERR_INVALID_ARGUMENT` for options out of
/// their range, `CURVE_TUN_ERR_OUT_OF_MEMORY`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any.
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
        connection.give(curve_tun_connection::new(Connection::client(vault.0.clone(), server, &options)?));
        Ok(())
    })
}

/// Makes a server's end for a client that came from an address, which the registry will be asked about.
///
/// May return `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES` when the server has as many in flight as its options allow,
/// `CURVE_TUN_ERR_BAD_ADDRESS`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any.
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
        connection.give(curve_tun_connection::new(Connection::server(server.0.server(), address)?));
        Ok(())
    })
}

/// Takes bytes that came from the transport, in pieces of any size, and gives how many it took.
///
/// It takes fewer than all at the receive high-water mark; the rest is to be given again once messages have been received.
/// A length of 0 does nothing. May return, once, what ended the connection: `CURVE_TUN_ERR_BAD_PACKET`,
/// `CURVE_TUN_ERR_WRONG_SERVER_KEY`, `CURVE_TUN_ERR_COOKIE_EXPIRED`, `CURVE_TUN_ERR_UNKNOWN_PEER`,
/// `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, `CURVE_TUN_ERR_VAULT_FAILED`, `CURVE_TUN_ERR_REGISTRY_FAILED`,
/// `CURVE_TUN_ERR_TIMEOUT` of a custom vault; then `CURVE_TUN_ERR_CLOSED`. `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_read(
    connection: *mut curve_tun_connection,
    bytes: *const u8,
    len: usize,
    consumed: *mut usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (connection, came, mut consumed) =
            unsafe { (object(connection)?, boundary::bytes(bytes, len)?, out(consumed)?) };
        consumed.set(connection.get()?.read(came)?);
        Ok(())
    })
}

/// Gives room of `*len` bytes into which the transport may be read directly, to save a copy; then
/// `curve_tun_connection_filled`. It belongs to the connection and lasts until the next call on it.
///
/// `*len` is 0 at the receive high-water mark. May return `CURVE_TUN_ERR_CLOSED`, `CURVE_TUN_ERR_FORKED`. Threads: one at a
/// time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_room(
    connection: *mut curve_tun_connection,
    bytes: *mut *mut u8,
    len: *mut usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (connection, mut bytes, mut len) = unsafe { (object(connection)?, out(bytes)?, out(len)?) };
        let mut inner = connection.get()?;
        let room = inner.room()?;
        connection.room.set(room.len());
        bytes.set(room.as_mut_ptr());
        len.set(room.len());
        Ok(())
    })
}

/// Says that the first `count` bytes of the room have been filled. A count of 0 does nothing.
///
/// May return what `curve_tun_connection_read` may, and `CURVE_TUN_ERR_INVALID_ARGUMENT` unless the last call on this
/// connection was `curve_tun_connection_room` and offered as much. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_filled(
    connection: *mut curve_tun_connection,
    count: usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let connection = unsafe { object(connection)? };
        let offered = connection.room.get();
        let mut connection = connection.get()?;
        if count > offered {
            return Err(Error::InvalidArgument);
        }
        connection.filled(count)
    })
}

/// Whether the connection takes bytes from the transport now: not at the receive high-water mark, nor when closed.
///
/// false for NULL. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_wants_read(connection: *const curve_tun_connection) -> bool {
    // SAFETY: the header's demands on pointers.
    catch(|| Ok(unsafe { object(connection)? }.get()?.wants_read()))
}

/// Copies bytes for the transport into `buffer`, and gives how many. All of them are to be put onto the transport, in
/// order. 0 means that there are none.
///
/// May return `CURVE_TUN_ERR_CLOSED`, `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_write(
    connection: *mut curve_tun_connection,
    buffer: *mut u8,
    capacity: usize,
    written: *mut usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (connection, buffer, mut written) =
            unsafe { (object(connection)?, bytes_mut(buffer, capacity)?, out(written)?) };
        written.set(connection.get()?.write(buffer)?);
        Ok(())
    })
}

/// Gives all bytes for the transport where they are, to save a copy; `curve_tun_connection_written` says how many of them
/// the transport took. They belong to the connection and last until the next call on it.
///
/// May return `CURVE_TUN_ERR_CLOSED` if the connection is closed and has none, `CURVE_TUN_ERR_FORKED`. Threads: one at a
/// time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_pending(
    connection: *mut curve_tun_connection,
    bytes: *mut *const u8,
    len: *mut usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (connection, mut bytes, mut len) = unsafe { (object(connection)?, out(bytes)?, out(len)?) };
        let mut connection = connection.get()?;
        // Writing nothing says in what state it is.
        connection.write(&mut [])?;
        let pending = connection.pending();
        bytes.set(pending.as_ptr());
        len.set(pending.len());
        Ok(())
    })
}

/// Says that the transport took the first `count` of the bytes that `curve_tun_connection_pending` gives. A count of 0 does
/// nothing.
///
/// May return `CURVE_TUN_ERR_INVALID_ARGUMENT` if there are not as many. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_written(
    connection: *mut curve_tun_connection,
    count: usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let mut connection = unsafe { object(connection)? }.get()?;
        if count > connection.pending().len() {
            return Err(Error::InvalidArgument);
        }
        connection.written(count);
        Ok(())
    })
}

/// Whether there are bytes for the transport.
///
/// false for NULL. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_wants_write(connection: *const curve_tun_connection) -> bool {
    // SAFETY: the header's demands on pointers.
    catch(|| Ok(unsafe { object(connection)? }.get()?.wants_write()))
}

/// Seals a message of `len` bytes for the peer, into the bytes for the transport.
///
/// May return `CURVE_TUN_ERR_TOO_LARGE` above `CURVE_TUN_MESSAGE_MAX`, `CURVE_TUN_ERR_WOULD_BLOCK` at the send high-water
/// mark, `CURVE_TUN_ERR_WRONG_STATE` before connected: then nothing is sent, and the connection stays as it is.
/// `CURVE_TUN_ERR_COUNTER_EXHAUSTED`: it is closed, and only the bytes that it has for the transport remain.
/// `CURVE_TUN_ERR_CLOSED`, `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_send(
    connection: *mut curve_tun_connection,
    message: *const u8,
    len: usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (connection, message) = unsafe { (object(connection)?, bytes(message, len)?) };
        connection.get()?.send(message)
    })
}

/// Takes the message that has waited longest into `buffer`, and gives its length in `*len`.
///
/// May return `CURVE_TUN_ERR_TOO_SMALL`, with the message's length in `*len`, if it is longer than `capacity`: it stays.
/// `CURVE_TUN_ERR_WOULD_BLOCK` if there is none now, `CURVE_TUN_ERR_CLOSED` if there will be none, `CURVE_TUN_ERR_FORKED`.
/// Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_recv(
    connection: *mut curve_tun_connection,
    buffer: *mut u8,
    capacity: usize,
    len: *mut usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (connection, buffer, mut len) =
            unsafe { (object(connection)?, bytes_mut(buffer, capacity)?, out(len)?) };
        let mut connection = connection.get()?;
        len.set(connection.message()?.len());
        connection.recv(buffer).map(|_| ())
    })
}

/// Where the connection stands.
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

/// Gives the peer's long-term public key, which it has proven: from connected on, also when closed after that.
///
/// May return `CURVE_TUN_ERR_WRONG_STATE` before that. Threads: one at a time.
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

/// Tells the connection the time, monotonic milliseconds from any origin that is not negative, and gives the time at
/// which to call again at the latest; -1 if only other calls can change that.
///
/// The handshake's time runs from the first call. Call it when the connection is made, when that time has come, and when
/// the handshake is over: an established connection gives idle buffers back by it. May return `CURVE_TUN_ERR_TIMEOUT`
/// (the handshake was not over in time, and the connection is closed), `CURVE_TUN_ERR_INVALID_ARGUMENT` for a negative
/// time, `CURVE_TUN_ERR_CLOSED`, `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
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

/// Gives what the connection asks of a vault or a registry that answers later. `request->size` must be set.
///
/// May return `CURVE_TUN_ERR_WOULD_BLOCK` if nothing is asked, `CURVE_TUN_ERR_INVALID_ARGUMENT` for a size that is none of the
/// struct's, `CURVE_TUN_ERR_CLOSED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_request(
    connection: *mut curve_tun_connection,
    request: *mut curve_tun_request,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers; the struct has integers only.
        let (connection, mut place) = unsafe { (object(connection)?, out_growing(request)?) };
        let connection = connection.get()?;
        match connection.request() {
            Some(request) => place.set(curve_tun_request::new(request)),
            None if connection.state() == ConnectionState::Closed => return Err(Error::Closed),
            None => return Err(Error::WouldBlock),
        }
        Ok(())
    })
}

/// Goes on with the answer to the connection's request. `answer->size` and `answer->kind` must be set.
///
/// May return `CURVE_TUN_ERR_WRONG_STATE` if nothing is asked, `CURVE_TUN_ERR_INVALID_ARGUMENT` for an answer to another kind
/// of request, for a size that is none of the struct's or a flag that is none; these leave the connection as it is. Otherwise what `curve_tun_connection_read` may.
/// Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_answer(
    connection: *mut curve_tun_connection,
    answer: *const curve_tun_answer,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers; the struct has integers only.
        let (connection, answer) = unsafe { (object(connection)?, growing(answer)?) };
        let mut connection = connection.get()?;
        let answer = match connection.request() {
            Some(request) => answer.to_answer(request)?,
            None if connection.state() == ConnectionState::Closed => return Err(Error::Closed),
            None => return Err(Error::WrongState),
        };
        connection.answer(answer)
    })
}

/// Says that the transport has come to its end in order: the peer closed its side. The connection is closed; messages that
/// came can still be received.
///
/// Returns what the end means: `CURVE_TUN_ERR_CLOSED`; or `CURVE_TUN_ERR_WRONG_SERVER_KEY` for a client whose hello was
/// answered by the end alone, which is what a server does that cannot open it. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_transport_ended(
    connection: *mut curve_tun_connection,
) -> curve_tun_result {
    // SAFETY: the header's demands on pointers.
    catch_ok(|| Err(unsafe { object(connection)? }.get()?.transport_ended()))
}

/// Closes the connection, for a program that is done with it or whose transport broke: secrets are wiped, and bytes for the
/// transport dropped. Messages that came can still be received. Closing again does nothing, nor does closing NULL.
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

/// Ends the connection, with all that it holds.
///
/// Threads: the last call on this pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_free(connection: *mut curve_tun_connection) {
    // SAFETY: the header's demands on pointers.
    unsafe { end(connection) }
}
