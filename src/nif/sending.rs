//! Sealing, many messages in a call, and whose turn it is to write to the socket.
//!
//! The process that has something to send seals it and writes the frames to
//! the socket itself: for a message now and then nothing is faster. Between
//! the two nobody else may seal, or frames would leave in another order than
//! their counters'. So a process gets the *turn* with its first seal and gives
//! it back with `written`. Whoever finds it taken has his messages written by
//! the connection's sender process, which waits for its turn here.
//!
//! While the sender has the turn, others seal onto its *pile*, which it takes
//! and writes as a whole: so many messages share a system call. A process that
//! sends message after message is left to the sender for that, too.
//!
//! A process can be killed while it has the turn. Its frames are kept until
//! they are written, and the bytes that the socket has taken tell whether they
//! were: if not, the one who comes next writes them. So no counter is missing
//! on the wire, and none is used twice. The sender takes the connection along.

use super::batch::Batch;
use super::connection::{ConnectionResource, lock};
use super::portion::consume;
use super::stream::Stream;
use super::term::{self, done, failure, reason_atom};
use crate::connection::SendHalf;
use crate::error::{Error, Result};
use crate::protocol::{LENGTH_BYTES, MESSAGE_OVERHEAD};
use rustler::{Atom, Encoder, Env, LocalPid, NifResult, Resource, ResourceArc, Term};
use std::mem;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

type Handle = ResourceArc<ConnectionResource>;

/// What a message adds on the wire.
pub(super) const FRAME_OVERHEAD: usize = LENGTH_BYTES + MESSAGE_OVERHEAD;

/// A larger pile takes no more, and who sends then waits for the sender.
const PILE_MAX: usize = 1 << 17;
/// What is sealed onto the pile in one call at most: the lock is held meanwhile.
const PILED_MAX: usize = 1 << 14;

/// The sending part of a connection.
#[derive(Default)]
pub(super) struct Sending {
    gate: Gate,
    turn: Option<Turn>,
    pile: Pile,
    pace: Pace,
    /// The sender, when it waits for the turn.
    next: Option<LocalPid>,
    /// Whether the turn's writer has sealed a part of what it sends over a stream: nothing may come
    /// between.
    in_part: bool,
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
    /// Whether the writer is a sender, who writes what is piled up.
    is_sender: bool,
    /// What the writer was given last.
    frames: Option<ResourceArc<Frames>>,
}

/// What others have sealed in the sender's turn.
#[derive(Default)]
struct Pile {
    frames: Vec<u8>,
    /// Whether the sender waits to be told of more.
    awaited: bool,
    /// Why a message could not be sealed; then nothing comes after it.
    failed: Option<Error>,
}

impl Pile {
    fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.failed.is_none()
    }
}

/// Whether messages are sent one after the other, with none received between.
#[derive(Default)]
struct Pace {
    last: Option<Instant>,
    streak: u8,
}

impl Pace {
    /// Messages that are further apart are no part of a streak.
    const GAP: Duration = Duration::from_micros(50);
    const STEADY: u8 = 8;
    /// It takes two halvings to be steady no more: a process may lose its scheduler for a while.
    const MOST: u8 = 31;

    fn step(&mut self, has_received: bool) {
        let now = Instant::now();
        let is_quick = !has_received && self.last.is_some_and(|last| now.duration_since(last) < Pace::GAP);
        self.last = Some(now);
        self.streak = if is_quick { Pace::MOST.min(self.streak + 1) } else { self.streak / 2 };
    }

    fn is_steady(&self) -> bool {
        self.streak >= Pace::STEADY
    }
}

/// What a process that wants to seal may do.
enum Leave {
    /// It has the turn, and with it what is to be written before.
    Turn(SendHalf, Vec<u8>),
    /// Its messages are on the pile, or those before one that could not be; a sender who waits for
    /// that is to be told.
    Piled(Option<LocalPid>, Result<()>),
    /// It is to ask the connection.
    Busy,
}

/// Frames for the socket, which the BEAM refers to without copying them.
pub(super) struct Frames(pub Vec<u8>);

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

    /// Says whether a process has the turn.
    pub(super) fn is_turn_of(&self, me: LocalPid) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.writer == me)
    }

    fn is_taken(&self, me: LocalPid) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.writer != me)
    }

    /// Gives the turn, and the half with it, or seals onto the sender's pile.
    fn start(
        &mut self,
        me: LocalPid,
        batch: &Batch,
        has_received: bool,
        stream: Option<&Mutex<Stream>>,
    ) -> Result<Leave> {
        let half = match &mut self.gate {
            Gate::Handshake => return Err(Error::WrongState),
            Gate::Closed => return Err(Error::Closed),
            Gate::Open(half) => half,
        };
        if let Some(stream) = stream {
            let has_turn = self.turn.as_ref().is_some_and(|turn| turn.writer == me);
            match Stream::check_batch(stream, batch, has_turn) {
                // The connection knows the whole call, and when the peer has opened.
                Err(Error::WouldBlock | Error::TooLarge) => return Ok(Leave::Busy),
                checked => checked?,
            }
            // What takes several calls is the sender's to send, whom nobody kills.
            if !batch.is_whole() && !has_turn {
                return Ok(Leave::Busy);
            }
        }
        let is_small = batch.size <= PILED_MAX && batch.is_whole();
        if is_small {
            self.pace.step(has_received);
        }
        let is_sender = match &self.turn {
            Some(turn) if turn.writer != me => {
                return match half {
                    Some(half)
                        if turn.is_sender
                            && is_small
                            && !self.in_part
                            && self.pile.frames.len() < PILE_MAX =>
                    {
                        let writer = turn.writer;
                        let before = self.pile.frames.len();
                        let sealed = seal_batch(stream, batch, half, &mut self.pile.frames);
                        self.total += (self.pile.frames.len() - before) as u64;
                        if let Err(reason) = sealed {
                            self.gate = Gate::Closed;
                            self.pile.failed = Some(reason);
                        }
                        Ok(Leave::Piled(mem::take(&mut self.pile.awaited).then_some(writer), sealed))
                    }
                    _ => Ok(Leave::Busy),
                };
            }
            None if is_small && !batch.is_empty() && self.pace.is_steady() => return Ok(Leave::Busy),
            turn => turn.as_ref().is_some_and(|turn| turn.is_sender),
        };
        // A panic while it was away has lost it.
        let half = half.take().ok_or(Error::Internal)?;
        self.turn = Some(Turn { writer: me, is_sender, frames: None });
        Ok(Leave::Turn(half, mem::take(&mut self.pile.frames)))
    }

    /// Ends the caller's turn.
    fn end_turn<'a>(&mut self, env: Env<'a>) -> Term<'a> {
        if self.is_taken(env.pid()) {
            return term::ok().encode(env);
        }
        if self.turn.as_ref().is_some_and(|turn| turn.is_sender) {
            // What comes now is another stream.
            self.pace = Pace::default();
            self.pile.awaited = false;
        }
        let next = self.next.take();
        self.turn = next.map(|writer| Turn { writer, is_sender: true, frames: None });
        next.map_or_else(|| term::ok().encode(env), |next| (term::next(), next).encode(env))
    }

    /// Takes the half back, unless sending has ended meanwhile, and keeps the frames.
    fn finish(&mut self, half: SendHalf, frames: &ResourceArc<Frames>, sealed: usize, in_part: bool) {
        self.in_part = in_part;
        if let Gate::Open(place) = &mut self.gate {
            *place = Some(half);
        }
        self.total += sealed as u64;
        if let Some(turn) = &mut self.turn {
            turn.frames = Some(frames.clone());
        }
    }
}

fn seal_batch(
    stream: Option<&Mutex<Stream>>,
    batch: &Batch,
    half: &mut SendHalf,
    frames: &mut Vec<u8>,
) -> Result<()> {
    match stream {
        None => batch.seal(half, frames),
        Some(stream) => Stream::seal(stream, batch, half, frames),
    }
}

/// Seals the messages, a list of binaries, in order: `ok | {ok, Frames, Rest} | busy | {error,
/// Reason} | {error, Reason, Frames}`.
///
/// `ok`: they are on the sender's pile. With `{ok, Frames, Rest}` the caller has the turn, and
/// `Rest` are the messages for the next call. `busy`: nothing is sealed, and the connection is to
/// be asked. `{error, Reason}` gives no turn. With `{error, Reason, Frames}` the connection seals
/// no more, and `Frames`, the messages before the failure, are still to be written. A message over
/// 65,503 bytes is `badarg`, and nothing is sealed.
///
/// On a connection with a stream the binaries are its data or its messages, of any size, and what
/// the stream has to send goes first. `busy` is also what has to wait for the peer's OPEN, or may
/// be too large.
#[rustler::nif]
fn seal<'a>(env: Env<'a>, handle: Handle, messages: Term<'a>) -> NifResult<Term<'a>> {
    let stream = handle.stream.get().map(|stream| &**stream);
    let batch = Batch::decode(messages, stream.is_some())?;
    let me = env.pid();
    let has_received = handle.has_received.swap(false, Ordering::Relaxed);
    let leave = lock(&handle.sending).and_then(|mut sending| sending.start(me, &batch, has_received, stream));
    let (mut half, mut frames) = match leave {
        Ok(Leave::Turn(half, before)) => (half, before),
        Ok(Leave::Piled(awaited, sealed)) => {
            consume(env, batch.cost);
            if let Some(sender) = awaited {
                // One that has died takes the connection along.
                let _ = env.send(&sender, term::piled());
            }
            return Ok(done(env, sealed));
        }
        Ok(Leave::Busy) => return Ok(term::busy().encode(env)),
        Err(reason) => return Ok(failure(env, reason)),
    };
    let before = frames.len();
    frames.reserve_exact(batch.size);
    let sealed = seal_batch(stream, &batch, &mut half, &mut frames);
    consume(env, batch.cost);
    let count = frames.len() - before;
    let frames = ResourceArc::new(Frames(frames));
    let bytes = frames.make_binary(env, |frames| &frames.0);
    match lock(&handle.sending) {
        Ok(mut sending) => {
            sending.finish(half, &frames, count, stream.is_some() && !batch.is_whole());
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

/// The writer has written all that it was given: `ok | {next, Pid}`; the turn is over, or that
/// process's. `piled` if a sender has more to write.
#[rustler::nif]
fn written<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    let Ok(mut sending) = lock(&handle.sending) else { return term::ok().encode(env) };
    if !sending.pile.is_empty() && !sending.is_taken(env.pid()) {
        return term::piled().encode(env);
    }
    sending.end_turn(env)
}

/// Takes the pile, for the sender: `{ok, Frames} | {error, Reason, Frames} | none | ok`.
///
/// `none`: there is none, and `piled` will be sent once there is. When nobody sends steadily the
/// turn is over instead, or was before: `ok`.
#[rustler::nif]
fn pile<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    let Ok(mut sending) = lock(&handle.sending) else { return term::ok().encode(env) };
    if sending.turn.as_ref().is_none_or(|turn| turn.writer != env.pid()) {
        return term::ok().encode(env);
    }
    if sending.pile.is_empty() {
        if !sending.pace.is_steady() {
            return sending.end_turn(env);
        }
        sending.pile.awaited = true;
        return term::none().encode(env);
    }
    let frames = ResourceArc::new(Frames(mem::take(&mut sending.pile.frames)));
    if let Some(turn) = &mut sending.turn {
        turn.frames = Some(frames.clone());
    }
    let bytes = frames.make_binary(env, |frames| &frames.0);
    match sending.pile.failed.take() {
        None => (term::ok(), bytes).encode(env),
        Some(reason) => (term::error(), reason_atom(env, reason), bytes).encode(env),
    }
}

/// Returns how many bytes the sender still has to write, when the socket has taken `taken` in all.
#[rustler::nif]
fn unsent(handle: Handle, taken: u64) -> u64 {
    lock(&handle.sending).map_or(0, |sending| match &sending.turn {
        Some(turn) if turn.is_sender => sending.total.saturating_sub(taken),
        _ => 0,
    })
}

/// Returns how many bytes the socket has taken, or will have taken when all that is sealed is
/// written.
#[rustler::nif]
fn bytes_sent(handle: Handle) -> u64 {
    lock(&handle.sending).map_or(0, |sending| sending.total)
}

/// Asks for the turn: `ok` if it is the caller's now, or `{busy, Writer}`; then the writer will be
/// told by `written` who is next. Only a connection's sender process waits.
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
            sending.next = Some(me);
            (term::busy(), writer).encode(env)
        }
        Some(_) => term::ok().encode(env),
        None => {
            sending.turn = Some(Turn { writer: me, is_sender: true, frames: None });
            term::ok().encode(env)
        }
    }
}

/// Takes the turn of a process that has died: `{ok, Frames} | {error, Reason}`; the frames are to
/// be written first.
///
/// `taken` is how many bytes the socket has taken in all. `{error, wrong_state}` if the writer
/// lives.
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
        sending.next = None;
        sending.turn = Some(Turn { writer: me, is_sender: true, frames: frames.clone() });
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
