//! The stream that a connection carries, if it does: the machine, beside the halves that seal and
//! open.
//!
//! Whoever seals has the turn (`sending.rs`), and takes from the machine what is to be sent, so
//! that it leaves in the machine's order. Whoever opens shows the machine each message. The machine
//! is locked for a moment each time, never while something is sealed or opened, and after the lock
//! of the sending part where both are held.

use super::batch::Batch;
use super::connection::{ConnectionResource, lock};
use super::term::{self, binary, done, reason_atom};
use crate::connection::SendHalf;
use crate::error::{Error, Result};
use crate::stream::{AbortCode, Event, Machine, Mode, Options, ServiceName};
use rustler::{Atom, Binary, Encoder, Env, NifResult, ResourceArc, Term};
use std::sync::{Mutex, OnceLock};

type Handle = ResourceArc<ConnectionResource>;

/// Where a connection has its stream; empty for one that carries messages as they are.
pub(super) type StreamPart = OnceLock<Box<Mutex<Stream>>>;

pub(super) struct Stream {
    machine: Machine,
    /// What has come of a large message.
    part: Vec<u8>,
    /// What a call of `seal` has left of a message to the next one of the same process.
    unsent: usize,
    /// Whether the program has closed: only what the sender has is still sent.
    is_closed: bool,
}

impl Stream {
    /// Says whether data can be sent now, and these messages can.
    ///
    /// `WouldBlock` if one of them has to wait for the peer's OPEN; `TooLarge` if the peer does not
    /// take it; `WrongState` before the own OPEN; `Closed` after the own end, and when the stream
    /// has ended.
    fn check(&mut self, mut sizes: impl Iterator<Item = usize>) -> Result<()> {
        if self.machine.has_finished() || self.machine.check_send().is_err() {
            return Err(Error::Closed);
        }
        match self.machine.mode() {
            // Only whether OPEN was sent: data has no size of its own.
            Mode::Stream => self.machine.data(&[]).map(|_| ()),
            Mode::Messages => sizes.try_for_each(|size| self.machine.check_message(size)),
        }
    }

    /// The same of the messages of a batch; the rest of one that has begun is never refused.
    pub(super) fn check_batch(place: &Mutex<Stream>, batch: &Batch, has_turn: bool) -> Result<()> {
        let mut stream = lock(place)?;
        if batch.is_empty() || (has_turn && stream.unsent > 0) {
            return Ok(());
        }
        if stream.is_closed && !has_turn {
            return Err(Error::Closed);
        }
        stream.check(batch.parts().map(|(size, _)| size))
    }

    /// Seals what the machine has to send, then the batch.
    ///
    /// A stream that ends meanwhile takes no more of it, and that is no error here: the next call
    /// is told.
    pub(super) fn seal(
        place: &Mutex<Stream>,
        batch: &Batch,
        half: &mut SendHalf,
        frames: &mut Vec<u8>,
    ) -> Result<()> {
        Stream::seal_due(place, half, frames)?;
        let mut message = Vec::new();
        for (size, bytes) in batch.parts() {
            let mut left = bytes;
            let mut is_first = true;
            // An empty message is one piece.
            while is_first || !left.is_empty() {
                let Some(piece_len) = lock(place)?.next_piece(size, left, is_first, &mut message) else {
                    return Stream::seal_due(place, half, frames);
                };
                is_first = false;
                left = &left[piece_len..];
                if !message.is_empty() {
                    half.seal_onto(&message, frames)?;
                }
            }
        }
        Ok(())
    }

    fn seal_due(place: &Mutex<Stream>, half: &mut SendHalf, frames: &mut Vec<u8>) -> Result<()> {
        loop {
            let Some(message) = lock(place)?.machine.next_message() else { return Ok(()) };
            half.seal_onto(&message, frames)?;
        }
    }

    /// Puts the next piece of a message into `message`, and returns how many of `bytes` it takes.
    /// `None` if the stream has ended.
    fn next_piece(
        &mut self,
        size: usize,
        bytes: &[u8],
        is_first: bool,
        message: &mut Vec<u8>,
    ) -> Option<usize> {
        message.clear();
        let piece = self.begun(size, is_first).and_then(|()| self.machine.data(bytes));
        let Ok(piece) = piece else {
            self.unsent = 0;
            return None;
        };
        let Some(piece) = piece else { return Some(0) };
        message.extend_from_slice(piece.header());
        message.extend_from_slice(piece.body());
        self.unsent = self.unsent.saturating_sub(piece.body().len());
        Some(piece.body().len())
    }

    /// Begins a message, unless this is the rest of one that has begun.
    fn begun(&mut self, size: usize, is_first: bool) -> Result<()> {
        if self.machine.mode() == Mode::Messages && is_first && self.unsent == 0 {
            self.machine.begin_message(size)?;
            self.unsent = size;
        }
        Ok(())
    }

    /// Takes a part of a large message, and gives the message when it is whole. Memory grows with
    /// what has come, and never beyond the message.
    fn append(&mut self, total: u32, offset: u32, bytes: &[u8]) -> Option<Vec<u8>> {
        let (total, end) = (total as usize, offset as usize + bytes.len());
        if end > self.part.capacity() {
            let room = (2 * end).min(total);
            self.part.reserve_exact(room - self.part.len());
        }
        self.part.extend_from_slice(bytes);
        (end == total).then(|| std::mem::take(&mut self.part))
    }

    /// What a message of the peer means; `Err` when it has ended what comes.
    pub(super) fn receive<'a>(&mut self, message: &'a [u8]) -> Result<Came<'a>> {
        Ok(match self.machine.receive(message)? {
            Event::Opened => Came::Opened,
            Event::Bytes(bytes) | Event::Message(bytes) => Came::Bytes(bytes),
            Event::Part { total, offset, bytes } => match self.append(total, offset, bytes) {
                Some(message) => Came::Large(message),
                None => Came::Nothing,
            },
            Event::End => Came::Finished,
            Event::Aborted => return Err(Error::Aborted),
            Event::Pong | Event::Nothing => Came::Nothing,
        })
    }

    pub(super) fn is_pending(&self) -> bool {
        self.machine.is_pending()
    }

    /// Returns the term for what has ended the stream: `{aborted, Code}` or an atom.
    pub(super) fn reason<'a>(&self, env: Env<'a>, reason: Error) -> Term<'a> {
        match self.machine.abort_received() {
            Some(abort) if reason == Error::Aborted => (term::aborted(), abort.code.number()).encode(env),
            _ => reason_atom(env, reason),
        }
    }

    /// Forgets what has come of a message that will not be whole.
    pub(super) fn shut(&mut self) {
        self.part = Vec::new();
    }
}

/// What a message of the peer means to the program.
pub(super) enum Came<'a> {
    Opened,
    Bytes(&'a [u8]),
    Large(Vec<u8>),
    Finished,
    Nothing,
}

/// Returns the stream of a connection; `WrongState` if it carries none.
pub(super) fn stream_of(handle: &ConnectionResource) -> Result<&Mutex<Stream>> {
    handle.stream.get().map(|stream| &**stream).ok_or(Error::WrongState)
}

/// Has a connection carry a stream, before it is established: `ok | {error, Reason}`.
///
/// `packet` is `raw` for bytes, 4 for messages of at most `message_max` bytes. `service` is empty
/// for none.
#[rustler::nif]
fn stream_begin<'a>(
    env: Env<'a>,
    handle: Handle,
    role: Atom,
    packet: Term<'a>,
    message_max: u64,
    service: Binary<'a>,
) -> NifResult<Term<'a>> {
    let is_raw = packet.decode::<Atom>().is_ok_and(|packet| packet == term::raw());
    let options = if is_raw { Options::stream() } else { Options::messages() };
    let message_max = u32::try_from(message_max).map_err(|_| rustler::Error::BadArg)?;
    let service = match service.as_slice() {
        [] => None,
        name => Some(service_name(name).ok_or(rustler::Error::BadArg)?),
    };
    let options = options.message_max(message_max).service(service);
    let machine = if role == term::client() { Machine::client(&options) } else { Machine::server(&options) };
    let stream = Box::new(Mutex::new(Stream { machine, part: Vec::new(), unsent: 0, is_closed: false }));
    Ok(done(env, handle.stream.set(stream).map_err(|_| Error::WrongState)))
}

fn service_name(name: &[u8]) -> Option<ServiceName> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// Whether a service may have this name.
#[rustler::nif]
fn is_service_name(name: Binary) -> bool {
    service_name(&name).is_some()
}

/// Takes the stream that a client has opened: `ok | {error, Reason}`.
#[rustler::nif]
fn stream_accept<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    done(env, stream_of(&handle).and_then(|stream| lock(stream)?.machine.accept()))
}

/// Says whether a message of this size can be sent: `ok | later | {error, Reason}`. `later` if it
/// has to wait for the peer's OPEN.
#[rustler::nif]
fn stream_check<'a>(env: Env<'a>, handle: Handle, size: u64) -> Term<'a> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let checked = stream_of(&handle).and_then(|stream| lock(stream)?.check(std::iter::once(size)));
    match checked {
        Err(Error::WouldBlock) => term::later().encode(env),
        checked => done(env, checked),
    }
}

/// Ends what this end sends: `ok | {error, Reason}`. The caller has the turn, and seals what is due
/// then.
#[rustler::nif]
fn stream_finish<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    let finish = || {
        // Not while another process has sealed a part of what it sends.
        let sending = lock(&handle.sending)?;
        if !sending.is_turn_of(env.pid()) {
            return Err(Error::WrongState);
        }
        let mut stream = lock(stream_of(&handle)?)?;
        stream.machine.finish().map_err(|reason| match reason {
            Error::WrongState => reason,
            _ => Error::Closed,
        })
    };
    done(env, finish())
}

/// Takes nothing more from processes that send. What the sender was asked to send before still
/// goes.
#[rustler::nif]
fn stream_close<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    let closed = stream_of(&handle).and_then(lock).map(|mut stream| stream.is_closed = true);
    done(env, closed)
}

/// Gives the stream up, as far as it has not ended. ABORT is due then. Unknown codes count as 0.
#[rustler::nif]
fn stream_abort<'a>(env: Env<'a>, handle: Handle, code: Term<'a>) -> NifResult<Term<'a>> {
    let code = AbortCode::from_number(term::small(code)?);
    let abort = || {
        let mut stream = lock(stream_of(&handle)?)?;
        stream.machine.abort(code, "");
        stream.shut();
        Ok(())
    };
    Ok(done(env, abort()))
}

/// Says what the end of the transport means: `finished` if both directions have ended, `closed` if
/// the peer has, else why the stream is cut.
#[rustler::nif]
fn stream_transport_ended<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    let mut stream = match stream_of(&handle).and_then(lock) {
        Ok(stream) => stream,
        Err(reason) => return reason_atom(env, reason),
    };
    if stream.machine.is_finished() {
        return term::finished().encode(env);
    }
    stream.machine.transport_ended();
    let meaning = stream.machine.received_end().map_or_else(|reason| reason, |_| Error::Closed);
    stream.reason(env, meaning)
}

/// What a connection carries: `none | {raw | 4, Service | none}`. The service is that which the
/// peer has asked for.
#[rustler::nif]
fn stream_information<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    let Ok(stream) = stream_of(&handle).and_then(lock) else {
        return term::none().encode(env);
    };
    let packet = match stream.machine.mode() {
        Mode::Stream => term::raw().encode(env),
        Mode::Messages => 4.encode(env),
    };
    let service = match stream.machine.peer().and_then(|open| open.service.as_ref()) {
        Some(service) => binary(env, service.as_str().as_bytes()),
        None => term::none().encode(env),
    };
    (packet, service).encode(env)
}

/// Says in English what a code of an ABORT means.
#[rustler::nif]
fn abort_message<'a>(env: Env<'a>, code: Term<'a>) -> NifResult<Term<'a>> {
    let sentence = AbortCode::from_number(term::small(code)?).to_string();
    Ok(binary(env, sentence.as_bytes()))
}
