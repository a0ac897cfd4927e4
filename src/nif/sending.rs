//! Sealing, many messages in a call, and whose turn it is to write to the socket.
//!
//! The process that has something to send seals it and writes the frames to
//! the socket itself: nothing is faster. Between the two nobody else may seal,
//! or frames would leave in another order than their counters'. So a process
//! gets the *turn* with its first seal and gives it back with `written`.
//! Whoever finds it taken has his messages written by the connection's sender
//! process, which waits for its turn here.
//!
//! A process can be killed while it has the turn. Its frames are kept until
//! they are written, and the bytes that the socket has taken tell whether they
//! were: if not, the one who comes next writes them. So no counter is missing
//! on the wire, and none is used twice.

use super::connection::{ConnectionResource, lock};
use super::portion::{MESSAGE_COST, PORTION, consume};
use super::term::{self, failure, reason_atom};
use crate::connection::SendHalf;
use crate::error::{Error, Result};
use crate::protocol::{LENGTH_BYTES, MESSAGE_MAX, MESSAGE_OVERHEAD};
use rustler::{Atom, Binary, Encoder, Env, LocalPid, NifResult, Resource, ResourceArc, Term};
use std::collections::VecDeque;

type Handle = ResourceArc<ConnectionResource>;

/// What a message adds on the wire.
const FRAME_OVERHEAD: usize = LENGTH_BYTES + MESSAGE_OVERHEAD;

/// The sending part of a connection.
#[derive(Default)]
pub(super) struct Sending {
    gate: Gate,
    turn: Option<Turn>,
    /// Who waits for the turn: the sender, and beside it another one for a moment when it is about to end.
    next: VecDeque<LocalPid>,
    /// Bytes that the socket will have taken when all frames are written.
    total: u64,
}

/// Whether messages can be sealed.
#[derive(Default)]
enum Gate {
    #[default]
    Handshake,
    /// Nothing while the half is with the one who seals: the lock is not held for that long.
    Open(Option<SendHalf>),
    Closed,
}

struct Turn {
    writer: LocalPid,
    /// What the writer was given last.
    frames: Option<ResourceArc<Frames>>,
}

/// Frames for the socket, which the BEAM refers to without copying them.
struct Frames(Vec<u8>);

#[rustler::resource_impl]
impl Resource for Frames {}

impl Sending {
    pub(super) fn begin(&mut self, half: SendHalf, taken: u64) {
        self.gate = Gate::Open(Some(half));
        self.total = taken;
    }

    /// Wipes the key. A writer may still be writing what was sealed.
    pub(super) fn end(&mut self) {
        self.gate = Gate::Closed;
    }

    fn is_taken(&self, me: LocalPid) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.writer != me)
    }

    /// Gives the turn, and the half with it; `None` if somebody else has the turn.
    fn start(&mut self, me: LocalPid) -> Result<Option<SendHalf>> {
        let taken = self.is_taken(me);
        match &mut self.gate {
            Gate::Handshake => Err(Error::WrongState),
            Gate::Closed => Err(Error::Closed),
            Gate::Open(_) if taken => Ok(None),
            Gate::Open(half) => {
                // A panic while it was away has lost it.
                let half = half.take().ok_or(Error::Internal)?;
                self.turn = Some(Turn { writer: me, frames: None });
                Ok(Some(half))
            }
        }
    }

    /// Takes the half back, unless sending has ended meanwhile, and keeps the frames.
    fn finish(&mut self, me: LocalPid, half: SendHalf, frames: &ResourceArc<Frames>) {
        if let Gate::Open(place) = &mut self.gate {
            *place = Some(half);
        }
        self.total += frames.0.len() as u64;
        self.turn = Some(Turn { writer: me, frames: Some(frames.clone()) });
    }
}

/// Messages of one call of `seal`.
struct Batch<'a> {
    messages: Vec<Binary<'a>>,
    /// Their size on the wire.
    size: usize,
    cost: usize,
    /// The messages for the next call.
    rest: Term<'a>,
}

impl<'a> Batch<'a> {
    fn decode(messages: Term<'a>) -> NifResult<Batch<'a>> {
        let mut batch = Batch { messages: Vec::with_capacity(16), size: 0, cost: 0, rest: messages };
        while batch.cost < PORTION && !batch.rest.is_empty_list() {
            let (message, rest) = batch.rest.list_get_cell()?;
            let message = message.decode::<Binary>()?;
            if message.len() > MESSAGE_MAX {
                return Err(rustler::Error::BadArg);
            }
            batch.size += FRAME_OVERHEAD + message.len();
            batch.cost += MESSAGE_COST + message.len();
            batch.messages.push(message);
            batch.rest = rest;
        }
        Ok(batch)
    }

    /// Seals all; an error is that of the first message that could not be, and `frames` hold those before it.
    fn seal(&self, half: &mut SendHalf, frames: &mut Vec<u8>) -> Result<()> {
        self.messages.iter().try_for_each(|message| half.seal_onto(message, frames))
    }
}

/// Seals the messages, a list of binaries, in order, if nobody else has the turn, which is the caller's then:
/// `{ok, Frames, Rest} | busy | {error, Reason} | {error, Reason, Frames}`.
///
/// `Rest` are the messages for the next call. `{error, Reason}` gives no turn. With `{error, Reason, Frames}` the
/// connection seals no more, and `Frames`, the messages before the failure, are still to be written. A message over
/// 65,503 bytes is `badarg`, and nothing is sealed.
#[rustler::nif]
fn seal<'a>(env: Env<'a>, handle: Handle, messages: Term<'a>) -> NifResult<Term<'a>> {
    let batch = Batch::decode(messages)?;
    let me = env.pid();
    let mut half = match lock(&handle.sending).and_then(|mut sending| sending.start(me)) {
        Ok(Some(half)) => half,
        Ok(None) => return Ok(term::busy().encode(env)),
        Err(reason) => return Ok(failure(env, reason)),
    };
    let mut frames = Vec::with_capacity(batch.size);
    let sealed = batch.seal(&mut half, &mut frames);
    consume(env, batch.cost);
    let frames = ResourceArc::new(Frames(frames));
    let bytes = frames.make_binary(env, |frames| &frames.0);
    match lock(&handle.sending) {
        Ok(mut sending) => {
            sending.finish(me, half, &frames);
            if sealed.is_err() {
                sending.end();
            }
        }
        Err(reason) => return Ok(failure(env, reason)),
    }
    Ok(match sealed {
        Ok(()) => (term::ok(), bytes, batch.rest).encode(env),
        Err(reason) => (term::error(), reason_atom(env, reason), bytes).encode(env),
    })
}

/// The writer has written all that it was given: `ok | {next, Pid}`; the turn is over, or that process's.
#[rustler::nif]
fn written<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    let next = lock(&handle.sending).ok().and_then(|mut sending| {
        if sending.is_taken(env.pid()) {
            return None;
        }
        let next = sending.next.pop_front();
        sending.turn = next.map(|writer| Turn { writer, frames: None });
        next
    });
    next.map_or_else(|| term::ok().encode(env), |next| (term::next(), next).encode(env))
}

/// Asks for the turn: `ok` if it is the caller's now, or `{busy, Writer}`; then the writer will be told by `written` who
/// is next. Only a connection's sender process waits.
#[rustler::nif]
fn await_turn<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    let mut sending = match lock(&handle.sending) {
        Ok(sending) => sending,
        Err(reason) => return failure(env, reason),
    };
    let me = env.pid();
    match &sending.turn {
        Some(turn) if turn.writer != me => {
            let writer = turn.writer;
            if !sending.next.contains(&me) {
                sending.next.push_back(me);
            }
            (term::busy(), writer).encode(env)
        }
        Some(_) => term::ok().encode(env),
        None => {
            sending.turn = Some(Turn { writer: me, frames: None });
            term::ok().encode(env)
        }
    }
}

/// Takes the turn of a process that has died: `{ok, Frames} | {error, Reason}`; the frames are to be written first.
///
/// `taken` is how many bytes the socket has taken in all. `{error, wrong_state}` if the writer lives.
#[rustler::nif]
fn take_turn<'a>(env: Env<'a>, handle: Handle, taken: u64) -> Term<'a> {
    let inherit = || {
        let mut sending = lock(&handle.sending)?;
        let me = env.pid();
        if sending.turn.as_ref().is_some_and(|turn| turn.writer != me && turn.writer.is_alive(env)) {
            return Err(Error::WrongState);
        }
        let frames = sending.turn.take().and_then(|turn| turn.frames);
        let lacks = sending.total.checked_sub(taken).ok_or(Error::Closed)?;
        let frames = match frames {
            _ if lacks == 0 => None,
            Some(frames) if frames.0.len() as u64 == lacks => Some(frames),
            // Part of them was written: nothing can follow.
            _ => {
                sending.end();
                return Err(Error::Closed);
            }
        };
        sending.next.retain(|waiting| *waiting != me);
        sending.turn = Some(Turn { writer: me, frames: frames.clone() });
        Ok(frames)
    };
    match inherit() {
        Ok(Some(frames)) => (term::ok(), frames.make_binary(env, |frames| &frames.0)).encode(env),
        Ok(None) => (term::ok(), term::binary(env, &[])).encode(env),
        Err(reason) => failure(env, reason),
    }
}

/// Ends sending: what is not sealed yet never will be, and the key is wiped.
#[rustler::nif]
fn end_sending(handle: Handle) -> Atom {
    if let Ok(mut sending) = lock(&handle.sending) {
        sending.end();
    }
    term::ok()
}
