//! # Bytes, messages and requests of a connection

use super::boundary::{self, bytes, bytes_mut, catch, catch_ok, object, out, slice};
use super::connection::curve_tun_connection;
use super::growing;
use super::request::{curve_tun_answer, curve_tun_request};
use super::result::curve_tun_result;
use crate::connection::ConnectionState;
use crate::error::{Error, Result};
use crate::protocol::MESSAGE_MAX;

/// One message of several that are sent by one call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_message {
    /// The message; may be NULL if it is empty.
    pub bytes: *const u8,
    /// Its length.
    pub len: usize,
}

/// Takes bytes from the transport, in pieces of any size, and gives how many it took.
///
/// It takes only some of them at the receive high-water mark; pass the rest again once messages
/// have been received. A length of 0 does nothing. May return, once, the error that ended the
/// connection: `CURVE_TUN_ERR_BAD_PACKET`, `CURVE_TUN_ERR_WRONG_SERVER_KEY`,
/// `CURVE_TUN_ERR_COOKIE_EXPIRED`, `CURVE_TUN_ERR_UNKNOWN_PEER`, `CURVE_TUN_ERR_COUNTER_EXHAUSTED`,
/// `CURVE_TUN_ERR_VAULT_FAILED`, `CURVE_TUN_ERR_REGISTRY_FAILED`, `CURVE_TUN_ERR_TIMEOUT` from a
/// custom vault; then `CURVE_TUN_ERR_CLOSED`. `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
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
        consumed.set(connection.get()?.feed(came)?);
        Ok(())
    })
}

/// Gives `*len` bytes of the receive buffer to read the transport into directly, which saves a
/// copy; call `curve_tun_connection_read_commit` afterwards. The bytes belong to the connection and
/// are valid until the next call on it.
///
/// `*len` is 0 at the receive high-water mark. May return `CURVE_TUN_ERR_CLOSED`,
/// `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_read_buffer(
    connection: *mut curve_tun_connection,
    bytes: *mut *mut u8,
    len: *mut usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (connection, mut bytes, mut len) = unsafe { (object(connection)?, out(bytes)?, out(len)?) };
        let mut inner = connection.get()?;
        let buffer = inner.recv_buffer()?;
        connection.0.offered.set(buffer.len());
        bytes.set(buffer.as_mut_ptr());
        len.set(buffer.len());
        Ok(())
    })
}

/// Reports that the first `count` bytes of that buffer were filled from the transport. A count of 0
/// does nothing.
///
/// May return what `curve_tun_connection_read` may, and `CURVE_TUN_ERR_INVALID_ARGUMENT` unless the
/// last call on this connection was `curve_tun_connection_read_buffer` and it offered at least
/// `count` bytes. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_read_commit(
    connection: *mut curve_tun_connection,
    count: usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let connection = unsafe { object(connection)? };
        let offered = connection.0.offered.get();
        let mut connection = connection.get()?;
        if count > offered {
            return Err(Error::InvalidArgument);
        }
        connection.received(count)
    })
}

/// Says whether the connection takes bytes from the transport now: not at the receive high-water
/// mark, nor when closed.
///
/// false for NULL. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_wants_read(connection: *const curve_tun_connection) -> bool {
    // SAFETY: the header's demands on pointers.
    catch(|| Ok(unsafe { object(connection)? }.get()?.wants_read()))
}

/// Copies bytes for the transport into `buffer`, and gives how many. The program writes all of them
/// to the transport, in order. 0 means that there are none.
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
        written.set(connection.get()?.transmit(buffer)?);
        Ok(())
    })
}

/// Gives a pointer to all bytes for the transport, which saves a copy; report with
/// `curve_tun_connection_written` how many of them the transport took. The bytes belong to the
/// connection and are valid until the next call on it.
///
/// May return `CURVE_TUN_ERR_CLOSED` if the connection is closed and has none,
/// `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
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
        if !connection.wants_write() {
            // Writing nothing returns the error of its state.
            connection.transmit(&mut [])?;
        }
        let pending = connection.send_buffer();
        bytes.set(pending.as_ptr());
        len.set(pending.len());
        Ok(())
    })
}

/// Returns how many bytes there are for the transport: those that `curve_tun_connection_pending`
/// gives.
///
/// 0 for NULL. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_pending_len(connection: *const curve_tun_connection) -> usize {
    // SAFETY: the header's demands on pointers.
    catch(|| Ok(unsafe { object(connection)? }.get()?.send_buffer().len()))
}

/// Reports that the transport took the first `count` of the bytes that
/// `curve_tun_connection_pending` gives. A count of 0 does nothing.
///
/// May return `CURVE_TUN_ERR_INVALID_ARGUMENT` if there are fewer, as in a closed connection.
/// Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_written(
    connection: *mut curve_tun_connection,
    count: usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let mut connection = unsafe { object(connection)? }.get()?;
        if count > connection.send_buffer().len() {
            return Err(Error::InvalidArgument);
        }
        connection.sent(count);
        Ok(())
    })
}

/// Says whether there are bytes for the transport.
///
/// false for NULL. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_wants_write(connection: *const curve_tun_connection) -> bool {
    // SAFETY: the header's demands on pointers.
    catch(|| Ok(unsafe { object(connection)? }.get()?.wants_write()))
}

/// Seals a message of `len` bytes for the peer, and adds it to the bytes for the transport.
///
/// May return `CURVE_TUN_ERR_TOO_LARGE` above `CURVE_TUN_MESSAGE_MAX`, `CURVE_TUN_ERR_WOULD_BLOCK`
/// at the send high-water mark, `CURVE_TUN_ERR_WRONG_STATE` before it is connected: nothing is
/// sent, and the connection stays as it is. `CURVE_TUN_ERR_COUNTER_EXHAUSTED`: it is closed, and
/// only pending bytes remain to be written. `CURVE_TUN_ERR_CLOSED`, `CURVE_TUN_ERR_FORKED`.
/// Threads: one at a time.
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
        connection.messages()?.send(message)
    })
}

/// Seals `count` messages for the peer, in order, and adds them to the bytes for the transport. It
/// stops at the send high-water mark, and gives how many it sealed in `*sent`.
///
/// May return `CURVE_TUN_ERR_TOO_LARGE` if one of them is too large, `CURVE_TUN_ERR_NULL` if one of
/// them is NULL with a length, `CURVE_TUN_ERR_WOULD_BLOCK` if there are some and the high-water
/// mark was reached before the first, `CURVE_TUN_ERR_WRONG_STATE` before it is connected: none is
/// sent, and the connection stays as it is. `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, with `*sent` set: it
/// is closed, and only pending bytes remain to be written. `CURVE_TUN_ERR_CLOSED`,
/// `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_send_many(
    connection: *mut curve_tun_connection,
    messages: *const curve_tun_message,
    count: usize,
    sent: *mut usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (connection, messages, mut sent) =
            unsafe { (object(connection)?, slice_of_messages(messages, count)?, out(sent)?) };
        if messages.clone().any(|message| message.len() > MESSAGE_MAX) {
            return Err(Error::TooLarge);
        }
        let mut connection = connection.messages()?;
        let mut sealed = 0;
        for message in messages {
            match connection.send(message) {
                Ok(()) => sealed += 1,
                Err(Error::WouldBlock) if sealed > 0 => break,
                Err(error) => {
                    if error == Error::CounterExhausted {
                        sent.set(sealed);
                    }
                    return Err(error);
                }
            }
        }
        if count == 0 {
            // Sending nothing returns the error of its state.
            match connection.state() {
                ConnectionState::Connected => {}
                ConnectionState::Closed => return Err(Error::Closed),
                _ => return Err(Error::WrongState),
            }
        }
        sent.set(sealed);
        Ok(())
    })
}

/// Returns the messages of a call that sends several.
///
/// # Safety
/// As [`slice`], for the messages and for the bytes of each.
pub(super) unsafe fn slice_of_messages<'a>(
    messages: *const curve_tun_message,
    count: usize,
) -> Result<impl Iterator<Item = &'a [u8]> + Clone> {
    // SAFETY: the caller's promise.
    let messages = unsafe { slice(messages, count)? };
    for message in messages {
        // SAFETY: as above.
        unsafe { bytes(message.bytes, message.len)? };
    }
    // SAFETY: as above. None fails here: each has just been looked at.
    Ok(messages.iter().map(|message| unsafe { bytes(message.bytes, message.len) }.unwrap_or_default()))
}

/// Gives the next message, of `*len` bytes, in the buffer in which it was opened, which saves a
/// copy; `curve_tun_connection_consume` removes it. The message belongs to the connection and is
/// valid until the next call on it; `*message` is never NULL.
///
/// May return `CURVE_TUN_ERR_WOULD_BLOCK` if there is none now, `CURVE_TUN_ERR_CLOSED` if there
/// will be none, `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_peek(
    connection: *mut curve_tun_connection,
    message: *mut *const u8,
    len: *mut usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (connection, mut place, mut len) = unsafe { (object(connection)?, out(message)?, out(len)?) };
        let connection = connection.messages()?;
        let message = connection.peek()?;
        place.set(message.as_ptr());
        len.set(message.len());
        Ok(())
    })
}

/// Removes the message that `curve_tun_connection_peek` gives.
///
/// May return `CURVE_TUN_ERR_WOULD_BLOCK` if there is none now, `CURVE_TUN_ERR_CLOSED` if there
/// will be none, `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_consume(
    connection: *mut curve_tun_connection,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let mut connection = unsafe { object(connection)? }.messages()?;
        connection.peek()?;
        connection.consume();
        Ok(())
    })
}

/// Copies the next message into `buffer`, removes it, and gives its length in `*len`.
///
/// May return `CURVE_TUN_ERR_TOO_SMALL`, with the message's length in `*len`, if it is longer than
/// `capacity`: it stays. `CURVE_TUN_ERR_WOULD_BLOCK` if there is none now, `CURVE_TUN_ERR_CLOSED`
/// if there will be none, `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
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
        let mut connection = connection.messages()?;
        len.set(connection.peek()?.len());
        connection.recv(buffer).map(|_| ())
    })
}

/// Gives the connection's request to a vault or a registry that answers later. `request->size` must
/// be set.
///
/// May return `CURVE_TUN_ERR_WOULD_BLOCK` if there is no request, `CURVE_TUN_ERR_INVALID_ARGUMENT`
/// for a wrong size, `CURVE_TUN_ERR_CLOSED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_request(
    connection: *mut curve_tun_connection,
    request: *mut curve_tun_request,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers; the struct has integers only.
        let (connection, mut place) = unsafe { (object(connection)?, growing::out(request)?) };
        let connection = connection.get()?;
        match connection.request() {
            Some(request) => place.set(curve_tun_request::new(request)),
            None if connection.state() == ConnectionState::Closed => return Err(Error::Closed),
            None => return Err(Error::WouldBlock),
        }
        Ok(())
    })
}

/// Continues the handshake with the answer to the connection's request. `answer->size` and
/// `answer->kind` must be set.
///
/// May return `CURVE_TUN_ERR_WRONG_STATE` if there is no request, `CURVE_TUN_ERR_INVALID_ARGUMENT`
/// for an answer to another kind of request, a wrong size or an invalid flag; these leave the
/// connection as it is. Otherwise what `curve_tun_connection_read` may. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_connection_answer(
    connection: *mut curve_tun_connection,
    answer: *const curve_tun_answer,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers; the struct has integers only.
        let (connection, answer) = unsafe { (object(connection)?, growing::read(answer)?) };
        let mut connection = connection.get()?;
        let answer = match connection.request() {
            Some(request) => answer.to_answer(request)?,
            None if connection.state() == ConnectionState::Closed => return Err(Error::Closed),
            None => return Err(Error::WrongState),
        };
        connection.answer(answer)
    })
}
