//! # Streams without I/O
//!
//! A stream over a connection whose bytes the program moves, for event loops and bindings. It says
//! and means the same as a stream over a socket ("Streams"), and never waits:
//! `CURVE_TUN_ERR_WOULD_BLOCK` stands where a call on a socket would.
//!
//! The program goes on to move the bytes of the connection and to tick it. After bytes have come it
//! calls the functions that read, until one returns `CURVE_TUN_ERR_WOULD_BLOCK`; after each call
//! here it writes what the connection has for the transport (`curve_tun_connection_pending`), for
//! reading may have to be answered. When the transport has ended it reports that to the connection
//! (`curve_tun_connection_transport_ended`, or `_close` if it broke); what came before is still
//! read, and then it is the end of the stream, or `CURVE_TUN_ERR_TRUNCATED`.
//!
//! Bounds. What a program does not read stays in the connection up to its receive high-water mark,
//! and then in the transport. What it writes goes into the connection up to its send high-water
//! mark; whoever wants less of it ahead of the transport sets that (`send_high_water`), or watches
//! `curve_tun_connection_pending_len`.
//!
//! Closing. Once `curve_tun_stream_machine_is_finished` says so and nothing is pending, a server
//! ends what it writes to the transport (`shutdown(fd, SHUT_WR)`), reads and drops what still comes
//! until the client has closed, at most 2 seconds, and then closes; a client waits for the server's
//! end, at most 1 second. Whoever closes with bytes unread has the system reset the transport, and
//! with it what the peer has not read yet.
//!
//! A machine keeps its connection alive, and the program frees both, in any order. Calls on the two
//! are calls on one object: "one at a time" holds for both together.

use super::boundary::{self, bytes_mut, catch, catch_ok, end, given, object, out, write_text};
use super::connection::{Driven, InUse, curve_tun_connection};
use super::growing;
use super::result::curve_tun_result;
use super::stream_driver::StreamDriver;
use super::stream_options::{
    curve_tun_stream_options, curve_tun_stream_peer, peer_of, read_abort, read_stream_options,
};
use crate::connection::{Connection, Role};
use crate::error::{Error, Result};
use crate::stream::{AbortCode, Machine};
use std::cell::{Cell, RefCell};
use std::ffi::c_char;
use std::rc::Rc;

/// One end of a stream over a connection without I/O.
pub struct curve_tun_stream_machine {
    connection: Rc<Driven>,
    driver: RefCell<StreamDriver>,
    /// Whether this end has opened: a client has, a server once it was told to accept.
    accepted: Cell<bool>,
}

impl curve_tun_stream_machine {
    /// Runs a call on the stream; a panic in it closes the connection.
    fn run<R>(&self, call: impl FnOnce(&mut StreamDriver, &mut Connection) -> Result<R>) -> Result<R> {
        let mut connection: InUse<'_> = self.connection.get()?;
        let mut driver = self.driver.try_borrow_mut().map_err(|_| Error::WrongState)?;
        call(&mut driver, &mut connection)
    }

    /// As [`curve_tun_stream_machine::run`], for a call that has to wait until the stream is taken.
    fn run_open<R>(&self, call: impl FnOnce(&mut StreamDriver, &mut Connection) -> Result<R>) -> Result<R> {
        if self.accepted.get() { self.run(call) } else { Err(Error::WrongState) }
    }
}

impl Drop for curve_tun_stream_machine {
    fn drop(&mut self) {
        // It fails in a forked child alone, where nothing is to be sent.
        let _ = self.run(|driver, connection| {
            driver.abort(connection, AbortCode::GivenUp, "");
            Ok(())
        });
    }
}

/// Makes a stream of a connection that is connected and has not been used for messages. The OPEN of
/// a client goes with its first call that writes, reads or asks for the peer.
///
/// May return `CURVE_TUN_ERR_WRONG_STATE` before it is connected, and if a stream was made of it
/// already; `CURVE_TUN_ERR_CLOSED`; `CURVE_TUN_ERR_INVALID_ARGUMENT` for options out of range;
/// `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_machine_new(
    connection: *mut curve_tun_connection,
    options: *const curve_tun_stream_options,
    machine: *mut *mut curve_tun_stream_machine,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (connection, options, mut machine) =
            unsafe { (object(connection)?, read_stream_options(options)?, out(machine)?) };
        let (connection, role) = connection.take_for_stream()?;
        let is_client = role == Role::Client;
        let stream = if is_client { Machine::client(&options) } else { Machine::server(&options) };
        machine.give(curve_tun_stream_machine {
            connection,
            driver: RefCell::new(StreamDriver::new(stream)),
            accepted: Cell::new(is_client),
        });
        Ok(())
    })
}

/// Gives in `*peer` what the peer said when it opened the stream. `peer->size` must be set; `peer`
/// may be NULL. A server calls it before `curve_tun_stream_machine_accept`.
///
/// May return `CURVE_TUN_ERR_WOULD_BLOCK` if the peer has not opened it yet. Otherwise as
/// `curve_tun_stream_await_peer`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_machine_peer(
    machine: *mut curve_tun_stream_machine,
    peer: *mut curve_tun_stream_peer,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers; the struct has integers only.
        let (machine, place) =
            unsafe { (object(machine)?, given(peer, |peer| growing::out(peer.cast_mut()))?) };
        let told = machine.run(|driver, connection| {
            driver.await_peer(connection)?;
            driver.machine.peer().map(peer_of).ok_or(Error::Internal)
        })?;
        if let Some(mut place) = place {
            place.set(told);
        }
        Ok(())
    })
}

/// Takes the stream that a client has opened. To refuse it, call `curve_tun_stream_machine_abort`
/// instead.
///
/// May return `CURVE_TUN_ERR_WRONG_STATE` for a client, a second time, and before
/// `curve_tun_stream_machine_peer` has returned `CURVE_TUN_OK`; what has ended the stream
/// meanwhile; `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_machine_accept(
    machine: *mut curve_tun_stream_machine,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let machine = unsafe { object(machine)? };
        machine.run(StreamDriver::accept)?;
        machine.accepted.set(true);
        Ok(())
    })
}

/// Reads at least one and at most `capacity` bytes of a stream in `CURVE_TUN_MODE_STREAM` into
/// `buffer`, and gives how many in `*len`. A length of 0 is the end, each time.
///
/// May return `CURVE_TUN_ERR_WOULD_BLOCK` if there is nothing to read now. Otherwise as
/// `curve_tun_stream_read`, except that what is wrong with a packet is told by the call that passes
/// it to the connection. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_machine_read(
    machine: *mut curve_tun_stream_machine,
    buffer: *mut u8,
    capacity: usize,
    len: *mut usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (machine, buffer, mut len) =
            unsafe { (object(machine)?, bytes_mut(buffer, capacity)?, out(len)?) };
        if buffer.is_empty() {
            return Err(Error::InvalidArgument);
        }
        len.set(machine.run_open(|driver, connection| driver.read(connection, buffer))?);
        Ok(())
    })
}

/// Writes `len` bytes to a stream in `CURVE_TUN_MODE_STREAM`, and gives in `*written` how many of
/// them were taken: all of them if it returns `CURVE_TUN_OK`, and also after a failure, where they
/// may be fewer. A length of 0 seals what a client or a server has to say first.
///
/// May return `CURVE_TUN_ERR_WOULD_BLOCK` at the send high-water mark: pass the bytes that were not
/// taken again once the transport has taken some. Otherwise as `curve_tun_stream_write`. Threads:
/// one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_machine_write(
    machine: *mut curve_tun_stream_machine,
    bytes: *const u8,
    len: usize,
    written: *mut usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (machine, bytes, mut written) =
            unsafe { (object(machine)?, boundary::bytes(bytes, len)?, out(written)?) };
        let mut taken = 0;
        let result = machine.run_open(|driver, connection| driver.write(connection, bytes, &mut taken));
        written.set(taken);
        result
    })
}

/// Sends one message of `len` bytes in `CURVE_TUN_MODE_MESSAGES`.
///
/// May return `CURVE_TUN_ERR_WOULD_BLOCK` at the send high-water mark, and, for a message of more
/// than 65,502 bytes, before the peer has opened the stream: call it again with the same message,
/// once the transport has taken some bytes or has brought some. A part of the message may have been
/// sent, so no other message goes before it. `CURVE_TUN_ERR_INVALID_ARGUMENT` for one of another
/// length then. Otherwise as `curve_tun_stream_send_message`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_machine_send_message(
    machine: *mut curve_tun_stream_machine,
    message: *const u8,
    len: usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (machine, message) = unsafe { (object(machine)?, boundary::bytes(message, len)?) };
        machine.run_open(|driver, connection| driver.send_message(connection, message))
    })
}

/// Receives one message in `CURVE_TUN_MODE_MESSAGES`: gives a pointer to its `*len` bytes, which
/// belong to the machine and are valid until the next call of this function on it. The pointer is
/// NULL at the end of the stream, each time, and never otherwise.
///
/// May return `CURVE_TUN_ERR_WOULD_BLOCK` if none has come whole. Otherwise as
/// `curve_tun_stream_recv_message`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_machine_recv_message(
    machine: *mut curve_tun_stream_machine,
    message: *mut *const u8,
    len: *mut usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (machine, mut place, mut len) = unsafe { (object(machine)?, out(message)?, out(len)?) };
        machine.run_open(|driver, connection| {
            let message = driver.recv_message(connection)?;
            place.set(message.map_or(std::ptr::null(), <[u8]>::as_ptr));
            len.set(message.map_or(0, <[u8]>::len));
            Ok(())
        })
    })
}

/// Ends what this end writes: the peer reads an end after all of it. Reading goes on.
///
/// May return `CURVE_TUN_ERR_WOULD_BLOCK` at the send high-water mark: a further call goes on, as
/// does any other on this machine. `CURVE_TUN_ERR_WRONG_STATE` in the middle of a message.
/// Otherwise as `curve_tun_stream_finish_write`. A second call does nothing. Threads: one at a
/// time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_machine_finish_write(
    machine: *mut curve_tun_stream_machine,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let machine = unsafe { object(machine)? };
        machine.run_open(StreamDriver::finish_write)
    })
}

/// Says whether both directions have ended as they should, and the connection has all that this end
/// had to send. What of it is pending has to be written yet.
///
/// false for NULL. Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_machine_is_finished(
    machine: *const curve_tun_stream_machine,
) -> bool {
    catch(|| {
        // SAFETY: the header's demands on pointers.
        let machine = unsafe { object(machine)? };
        machine.run(|driver, _| Ok(driver.is_finished()))
    })
}

/// Gives the stream up in both directions, and tells the peer why, as `curve_tun_stream_abort`
/// does.
///
/// May return `CURVE_TUN_ERR_INVALID_ARGUMENT` for another code or text, `CURVE_TUN_ERR_FORKED`.
/// Threads: one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_machine_abort(
    machine: *mut curve_tun_stream_machine,
    code: u32,
    text: *const c_char,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (machine, (code, text)) = unsafe { (object(machine)?, read_abort(code, text)?) };
        machine.run(|driver, connection| {
            driver.abort(connection, code, text);
            Ok(())
        })
    })
}

/// Gives the code of the peer's abort: one of `CURVE_TUN_ABORT_…`.
///
/// May return `CURVE_TUN_ERR_NOT_FOUND` if the peer has not aborted the stream, as far as its
/// messages have been read; `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_machine_abort_code(
    machine: *const curve_tun_stream_machine,
    code: *mut u32,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (machine, mut code) = unsafe { (object(machine)?, out(code)?) };
        machine.run(|driver, _| {
            code.set(driver.machine.abort_received().ok_or(Error::NotFound)?.code.number().into());
            Ok(())
        })
    })
}

/// Writes the text of the peer's abort as a string, which is mostly empty, as
/// `curve_tun_stream_abort_text` does.
///
/// May return `CURVE_TUN_ERR_NOT_FOUND` as `curve_tun_stream_machine_abort_code`;
/// `CURVE_TUN_ERR_TOO_SMALL`; `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_machine_abort_text(
    machine: *const curve_tun_stream_machine,
    buffer: *mut c_char,
    capacity: usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (machine, buffer) = unsafe { (object(machine)?, bytes_mut(buffer.cast(), capacity)?) };
        machine.run(|driver, _| {
            write_text(&driver.machine.abort_received().ok_or(Error::NotFound)?.text, buffer)
        })
    })
}

/// Frees a machine; does nothing for NULL. If its directions have not both ended, the stream is
/// aborted with `CURVE_TUN_ABORT_GIVEN_UP`, which is added to the bytes that the connection has for
/// the transport; a program that does not write them cuts the stream.
///
/// Threads: the last call on this pointer, and not while another call on the connection runs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_machine_free(machine: *mut curve_tun_stream_machine) {
    // SAFETY: the header's demands on pointers.
    unsafe { end(machine) }
}
