//! # Streams
//!
//! A stream over a connected socket: bytes with an end of their own, or messages that may be larger
//! than `CURVE_TUN_MESSAGE_MAX`. Both ends have to use one, in the same mode; `docs/PROTOCOL.md`,
//! section 13, has the bytes. The end that connected is the client. It may write at once. The
//! server waits for what the client says of itself (`curve_tun_stream_await_peer`), and then takes
//! the stream (`curve_tun_stream_accept`) or refuses it (`curve_tun_stream_abort`).
//!
//! Ends. `curve_tun_stream_finish_write` ends one direction, and is the only thing that does: the
//! peer's `curve_tun_stream_read` gives a length of 0 only after it has given all bytes that were
//! written before. A transport that ends earlier was cut, by whomever: `CURVE_TUN_ERR_TRUNCATED`. A
//! stream that the peer has given up is `CURVE_TUN_ERR_ABORTED`. Freeing a stream before both
//! directions have ended aborts it, so that the peer does not take what came for everything.
//!
//! The socket. A stream keeps the socket that it was made of alive, and the caller frees both, in
//! any order; the transport is closed when both are freed. As long as the caller has the socket it
//! can ask it for the peer's key and address and for its descriptor, and shut it down, which wakes
//! every call on the stream. The functions that send and receive messages of a socket return
//! `CURVE_TUN_ERR_WRONG_STATE` once a stream was made of it.
//!
//! What ended a stream is returned by each later call in the directions that it ended. An error
//! that ended the tunnel below is returned once, by the call that met it; from then on it is
//! `CURVE_TUN_ERR_TRUNCATED` for calls that read, and `CURVE_TUN_ERR_CLOSED` for those that write.

use super::boundary::{self, bytes, bytes_mut, catch_ok, end, given, object, out, timeout, write_text};
use super::growing;
use super::result::curve_tun_result;
use super::socket::{OnPanic, curve_tun_socket};
use super::stream_options::{
    curve_tun_stream_options, curve_tun_stream_peer, peer_of, read_abort, read_stream_options,
};
use crate::connection::Role;
use crate::error::{Error, Result};
use crate::net::SharedStream;
use crate::stream::Machine;
use crate::sys::Deadline;
use parking_lot::Mutex;
use std::ffi::c_char;
use std::sync::atomic::{AtomicBool, Ordering};

/// One end of a stream over a socket.
pub struct curve_tun_stream {
    stream: SharedStream,
    /// Whether this end has opened: a client has, a server once it was told to accept.
    accepted: AtomicBool,
    /// The message that was received last.
    message: Mutex<Vec<u8>>,
}

impl curve_tun_stream {
    /// Runs a call on the stream; a panic in it shuts the socket down.
    fn run<R>(&self, call: impl FnOnce(&SharedStream) -> Result<R>) -> Result<R> {
        let _shutdown = OnPanic(|| self.stream.socket().shutdown());
        call(&self.stream)
    }

    /// As [`curve_tun_stream::run`], for a call that has to wait until the stream is taken.
    fn run_open<R>(&self, call: impl FnOnce(&SharedStream) -> Result<R>) -> Result<R> {
        if self.accepted.load(Ordering::Acquire) { self.run(call) } else { Err(Error::WrongState) }
    }
}

/// Makes a stream of a connected socket, which must not have been used for messages. Nothing is
/// sent by it: a client opens the stream with its first call that writes, reads or waits.
///
/// May return `CURVE_TUN_ERR_WRONG_STATE` before the handshake of the socket, and if a stream was
/// made of it already; `CURVE_TUN_ERR_CLOSED` if the handshake failed;
/// `CURVE_TUN_ERR_INVALID_ARGUMENT` for options out of range; `CURVE_TUN_ERR_FORKED`. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_new(
    socket: *const curve_tun_socket,
    options: *const curve_tun_stream_options,
    stream: *mut *mut curve_tun_stream,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (socket, options, mut stream) =
            unsafe { (object(socket)?, read_stream_options(options)?, out(stream)?) };
        let socket = socket.take_for_stream()?;
        let is_client = socket.role() == Role::Client;
        let machine = if is_client { Machine::client(&options) } else { Machine::server(&options) };
        stream.give(curve_tun_stream {
            stream: SharedStream::new(socket, machine),
            accepted: AtomicBool::new(is_client),
            message: Mutex::default(),
        });
        Ok(())
    })
}

/// Waits until the peer has opened the stream, and gives in `*peer` what it said, each time.
/// `peer->size` must be set; `peer` may be NULL. A server calls it before
/// `curve_tun_stream_accept`. A client need not call it; with a timeout it finds out whether the
/// server speaks streams at all.
///
/// May return `CURVE_TUN_ERR_TIMEOUT`: nothing is lost, and a further call goes on.
/// `CURVE_TUN_ERR_NOT_A_STREAM` if the peer does not speak the stream layer,
/// `CURVE_TUN_ERR_BAD_PACKET` if it has opened the other mode or broken a rule,
/// `CURVE_TUN_ERR_ABORTED` if it has refused or given up the stream, `CURVE_TUN_ERR_TRUNCATED` if
/// the transport has ended, `CURVE_TUN_ERR_CLOSED`: the stream is over.
/// `CURVE_TUN_ERR_INVALID_ARGUMENT` for a wrong size. `CURVE_TUN_ERR_FORKED`. Threads: any. Blocks
/// at most for `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_await_peer(
    stream: *const curve_tun_stream,
    peer: *mut curve_tun_stream_peer,
    timeout_ms: i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers; the struct has integers only.
        let (stream, place) =
            unsafe { (object(stream)?, given(peer, |peer| growing::out(peer.cast_mut()))?) };
        let deadline = Deadline::after(timeout(timeout_ms));
        let told = stream.run(|stream| {
            stream.await_peer(deadline)?;
            stream.machine()?.peer().map(peer_of).ok_or(Error::Internal)
        })?;
        if let Some(mut place) = place {
            place.set(told);
        }
        Ok(())
    })
}

/// Takes the stream that a client has opened, and says so to the client as far as that needs no
/// wait; the rest goes with the next call. To refuse it, call `curve_tun_stream_abort` instead.
///
/// May return `CURVE_TUN_ERR_WRONG_STATE` for a client, a second time, and before
/// `curve_tun_stream_await_peer` has returned `CURVE_TUN_OK`; what has ended the stream meanwhile;
/// `CURVE_TUN_ERR_FORKED`. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_accept(stream: *const curve_tun_stream) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let stream = unsafe { object(stream)? };
        stream.run(|stream| {
            stream.machine()?.accept()?;
            stream.send_due();
            Ok(())
        })?;
        stream.accepted.store(true, Ordering::Release);
        Ok(())
    })
}

/// Reads at least one and at most `capacity` bytes of a stream in `CURVE_TUN_MODE_STREAM` into
/// `buffer`, and gives how many in `*len`. A length of 0 is the end: the peer has finished, and all
/// that it wrote has been read. Further calls give it again.
///
/// May return `CURVE_TUN_ERR_TIMEOUT`: nothing is lost. `CURVE_TUN_ERR_TRUNCATED` if the transport
/// ended before the end of the stream: what was read is a part. `CURVE_TUN_ERR_ABORTED`
/// (`curve_tun_stream_abort_code`). `CURVE_TUN_ERR_BAD_PACKET`, `CURVE_TUN_ERR_NOT_A_STREAM`,
/// `CURVE_TUN_ERR_COUNTER_EXHAUSTED`. `CURVE_TUN_ERR_CLOSED` after the own abort.
/// `CURVE_TUN_ERR_WRONG_STATE` in the other mode, and for a server before
/// `curve_tun_stream_accept`. `CURVE_TUN_ERR_INVALID_ARGUMENT` for a capacity of 0.
/// `CURVE_TUN_ERR_FORKED`. Threads: any; two that read take turns. Blocks until there is a byte or
/// the end, at most for `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_read(
    stream: *const curve_tun_stream,
    buffer: *mut u8,
    capacity: usize,
    len: *mut usize,
    timeout_ms: i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (stream, buffer, mut len) = unsafe { (object(stream)?, bytes_mut(buffer, capacity)?, out(len)?) };
        if buffer.is_empty() {
            return Err(Error::InvalidArgument);
        }
        let deadline = Deadline::after(timeout(timeout_ms));
        len.set(stream.run_open(|stream| stream.read(buffer, deadline))?);
        Ok(())
    })
}

/// Writes `len` bytes to a stream in `CURVE_TUN_MODE_STREAM`, and gives in `*written` how many of
/// them were taken: all of them if it returns `CURVE_TUN_OK`, and also after a failure, where they
/// may be fewer. Bytes that were taken need no further call, and are the caller's again. A length
/// of 0 sends what a client or a server has to say first.
///
/// May return `CURVE_TUN_ERR_TIMEOUT`: pass the bytes that were not taken again.
/// `CURVE_TUN_ERR_ABORTED` (`curve_tun_stream_abort_code`); `CURVE_TUN_ERR_BAD_PACKET`,
/// `CURVE_TUN_ERR_NOT_A_STREAM`, if that has ended the stream; `CURVE_TUN_ERR_COUNTER_EXHAUSTED`,
/// `CURVE_TUN_ERR_CLOSED`. `CURVE_TUN_ERR_WRONG_STATE` in the other mode, after
/// `curve_tun_stream_finish_write`, and for a server before `curve_tun_stream_accept`.
/// `CURVE_TUN_ERR_FORKED`. Threads: any; two that write take turns, and their bytes may mix. Blocks
/// until all bytes are taken, at most for `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_write(
    stream: *const curve_tun_stream,
    bytes: *const u8,
    len: usize,
    written: *mut usize,
    timeout_ms: i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (stream, given, mut written) =
            unsafe { (object(stream)?, boundary::bytes(bytes, len)?, out(written)?) };
        let deadline = Deadline::after(timeout(timeout_ms));
        let mut taken = 0;
        let result = stream.run_open(|stream| {
            loop {
                taken += stream.write(&given[taken..], deadline)?;
                if taken == given.len() {
                    return Ok(());
                }
            }
        });
        written.set(taken);
        result
    })
}

/// Sends one message of `len` bytes in `CURVE_TUN_MODE_MESSAGES`. One of more than 65,502 bytes
/// waits until the peer has opened the stream, since only then it is known what it takes.
///
/// May return `CURVE_TUN_ERR_TOO_LARGE` if it is larger than the peer takes, or than 4,294,967,295
/// bytes: nothing is sent, and the stream goes on. `CURVE_TUN_ERR_TIMEOUT`: if a part of it was
/// sent, the stream is aborted, and later calls return `CURVE_TUN_ERR_CLOSED`; otherwise it goes
/// on. `CURVE_TUN_ERR_ABORTED`, `CURVE_TUN_ERR_BAD_PACKET`, `CURVE_TUN_ERR_NOT_A_STREAM`,
/// `CURVE_TUN_ERR_TRUNCATED`, `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, `CURVE_TUN_ERR_CLOSED`.
/// `CURVE_TUN_ERR_WRONG_STATE` in the other mode, after `curve_tun_stream_finish_write`, and for a
/// server before `curve_tun_stream_accept`. `CURVE_TUN_ERR_FORKED`. Threads: any; two that send
/// take turns. Blocks until all of it is on its way, at most for `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_send_message(
    stream: *const curve_tun_stream,
    message: *const u8,
    len: usize,
    timeout_ms: i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (stream, message) = unsafe { (object(stream)?, bytes(message, len)?) };
        let deadline = Deadline::after(timeout(timeout_ms));
        stream.run_open(|stream| stream.send_message(message, deadline))
    })
}

/// Receives one message in `CURVE_TUN_MODE_MESSAGES`: gives a pointer to its `*len` bytes, which
/// belong to the stream and are valid until the next call of this function on it. The pointer is
/// NULL at the end of the stream, each time, and never otherwise, not even for an empty message.
///
/// Memory is taken as a message comes, not by what is announced, and is given back by the next
/// call.
///
/// May return `CURVE_TUN_ERR_TIMEOUT`: nothing is lost. `CURVE_TUN_ERR_TOO_LARGE` if the peer has
/// sent one that is larger than this end takes: the stream is over. Otherwise what
/// `curve_tun_stream_read` may. Threads: any, but one at a time among those that receive from this
/// stream. Blocks until the message has come whole, at most for `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_recv_message(
    stream: *const curve_tun_stream,
    message: *mut *const u8,
    len: *mut usize,
    timeout_ms: i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (stream, mut place, mut len) = unsafe { (object(stream)?, out(message)?, out(len)?) };
        let deadline = Deadline::after(timeout(timeout_ms));
        let mut message = deadline.lock(&stream.message)?;
        *message = Vec::new();
        let came = stream.run_open(|stream| stream.recv_message(&mut message, deadline))?;
        place.set(if came { message.as_ptr() } else { std::ptr::null() });
        len.set(message.len());
        Ok(())
    })
}

/// Ends what this end writes: the peer reads an end after all of it. Reading goes on.
///
/// May return `CURVE_TUN_ERR_TIMEOUT`: a further call goes on. `CURVE_TUN_ERR_ABORTED`,
/// `CURVE_TUN_ERR_BAD_PACKET`, `CURVE_TUN_ERR_NOT_A_STREAM`, `CURVE_TUN_ERR_TOO_LARGE`, if that has
/// ended the stream; `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, `CURVE_TUN_ERR_CLOSED`.
/// `CURVE_TUN_ERR_WRONG_STATE` for a server before `curve_tun_stream_accept`.
/// `CURVE_TUN_ERR_FORKED`. A second call does nothing. Threads: any. Blocks until the operating
/// system has taken all of it, at most for `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_finish_write(
    stream: *const curve_tun_stream,
    timeout_ms: i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let stream = unsafe { object(stream)? };
        let deadline = Deadline::after(timeout(timeout_ms));
        stream.run_open(|stream| stream.finish_write(deadline))
    })
}

/// Ends the stream in order: ends what this end writes, reads and drops what the peer still sends
/// until its end, and waits until the peer has closed its side of the transport, at most two
/// seconds. `CURVE_TUN_OK` means that both directions have ended as they should. The stream must
/// still be freed.
///
/// May return what `curve_tun_stream_finish_write` may, and `CURVE_TUN_ERR_TRUNCATED`. After
/// `CURVE_TUN_ERR_TIMEOUT` a further call goes on. Threads: any. Blocks at most for `timeout_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_finish(
    stream: *const curve_tun_stream,
    timeout_ms: i64,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let stream = unsafe { object(stream)? };
        let deadline = Deadline::after(timeout(timeout_ms));
        stream.run_open(|stream| {
            stream.finish_write(deadline)?;
            stream.finish_read(deadline)?;
            stream.linger(deadline);
            Ok(())
        })
    })
}

/// Gives the stream up in both directions, and tells the peer why: one of `CURVE_TUN_ABORT_…`,
/// and a text for the operator of the peer, of at most 255 bytes of UTF-8, which is NULL or empty
/// in most programs. A server refuses a stream by it. Calls that read are woken and return
/// `CURVE_TUN_ERR_CLOSED`; so does a call that writes, as soon as the peer takes bytes. Does
/// nothing where the stream has ended.
///
/// May return `CURVE_TUN_ERR_INVALID_ARGUMENT` for another code or text, `CURVE_TUN_ERR_FORKED`.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_abort(
    stream: *const curve_tun_stream,
    code: u32,
    text: *const c_char,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (stream, (code, text)) = unsafe { (object(stream)?, read_abort(code, text)?) };
        stream.run(|stream| {
            stream.abort(code, text);
            Ok(())
        })
    })
}

/// Gives the code of the peer's abort: one of `CURVE_TUN_ABORT_…`.
///
/// May return `CURVE_TUN_ERR_NOT_FOUND` if the peer has not aborted the stream, as far as is known
/// here; `CURVE_TUN_ERR_FORKED`. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_abort_code(
    stream: *const curve_tun_stream,
    code: *mut u32,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (stream, mut code) = unsafe { (object(stream)?, out(code)?) };
        let machine = stream.stream.machine()?;
        code.set(machine.abort_received().ok_or(Error::NotFound)?.code.number().into());
        Ok(())
    })
}

/// Writes the text of the peer's abort as a string, which is mostly empty. It is the peer's: escape
/// control characters where it is shown.
///
/// May return `CURVE_TUN_ERR_NOT_FOUND` as `curve_tun_stream_abort_code`;
/// `CURVE_TUN_ERR_TOO_SMALL`, where `CURVE_TUN_ABORT_TEXT_SIZE` is always enough;
/// `CURVE_TUN_ERR_FORKED`. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_abort_text(
    stream: *const curve_tun_stream,
    buffer: *mut c_char,
    capacity: usize,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (stream, buffer) = unsafe { (object(stream)?, bytes_mut(buffer.cast(), capacity)?) };
        let machine = stream.stream.machine()?;
        write_text(&machine.abort_received().ok_or(Error::NotFound)?.text, buffer)
    })
}

/// Frees a stream; does nothing for NULL. One whose directions have not both ended is aborted with
/// `CURVE_TUN_ABORT_GIVEN_UP`.
///
/// Threads: the last call on this pointer. To end a stream that other threads wait on, shut its
/// socket down, or abort the stream if they only read; wait for the threads, then free it. Returns
/// at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_stream_free(stream: *mut curve_tun_stream) {
    // SAFETY: the header's demands on pointers.
    unsafe { end(stream) }
}
