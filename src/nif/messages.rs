//! Sealing and opening, many messages in a call.

use super::connection::{ConnectionResource, lock};
use super::term::{self, failure, reason_atom};
use crate::connection::SendHalf;
use crate::error::{Error, Result};
use crate::protocol::{LENGTH_BYTES, MESSAGE_MAX, MESSAGE_OVERHEAD};
use rustler::schedule::consume_timeslice;
use rustler::{Atom, Binary, Encoder, Env, NewBinary, NifResult, ResourceArc, Term};

type Handle = ResourceArc<ConnectionResource>;

/// What a message adds on the wire.
const FRAME_OVERHEAD: usize = LENGTH_BYTES + MESSAGE_OVERHEAD;
/// What a message costs beside its bytes, in bytes that take as long.
const MESSAGE_COST: usize = 256;
/// The cost at which a call stops: some 150 microseconds.
const PORTION: usize = 1 << 17;
/// The cost that is a whole time slice of the scheduler's, a millisecond.
const TIMESLICE: usize = 8 * PORTION;

fn consume(env: Env, cost: usize) {
    consume_timeslice(env, (100 * cost / TIMESLICE).clamp(1, 100) as i32);
}

/// Seals the messages, a list of binaries, in order:
/// `{ok, Frames, Rest} | {error, Reason, Frames, Sealed}`.
///
/// `Rest` are the messages for the next call. On an error the connection sends no more, and `Frames` hold the
/// `Sealed` messages before it. A message over 65,503 bytes is `badarg`, and nothing is sealed.
#[rustler::nif]
fn seal<'a>(env: Env<'a>, handle: Handle, messages: Term<'a>) -> NifResult<Term<'a>> {
    let (mut batch, mut rest) = (Vec::with_capacity(16), messages);
    let (mut size, mut cost) = (0, 0);
    while cost < PORTION && !rest.is_empty_list() {
        let (message, tail) = rest.list_get_cell()?;
        let message = message.decode::<Binary>()?;
        if message.len() > MESSAGE_MAX {
            return Err(rustler::Error::BadArg);
        }
        size += FRAME_OVERHEAD + message.len();
        cost += MESSAGE_COST + message.len();
        batch.push(message);
        rest = tail;
    }
    let mut frames = NewBinary::new(env, size);
    let sealed = lock(&handle.send).and_then(|mut half| {
        let half = half.as_mut().ok_or(Error::Closed)?;
        Ok(seal_all(half, &batch, &mut frames))
    });
    consume(env, cost);
    let (reason, sealed, end) = match sealed {
        Ok((Ok(()), ..)) => return Ok((term::ok(), Term::from(frames), rest).encode(env)),
        Ok((Err(reason), sealed, end)) => (reason, sealed, end),
        Err(reason) => (reason, 0, 0),
    };
    let frames = Binary::from(frames).make_subbinary(0, end)?;
    Ok((term::error(), reason_atom(env, reason), frames, sealed).encode(env))
}

/// Seals as many as can be; gives how many that were, and where their frames end.
fn seal_all(half: &mut SendHalf, batch: &[Binary], frames: &mut [u8]) -> (Result<()>, usize, usize) {
    let mut at = 0;
    for (sealed, message) in batch.iter().enumerate() {
        let end = at + FRAME_OVERHEAD + message.len();
        if let Err(reason) = half.seal_into(message, &mut frames[at..end]) {
            return (Err(reason), sealed, at);
        }
        at = end;
    }
    (Ok(()), batch.len(), at)
}

/// Opens what came from the transport: `{Messages, Rest, ok | Reason} | {error, Reason}`.
///
/// `Rest` are the bytes for the next call. With a reason the connection receives no more, and `Messages` are those
/// before it.
#[rustler::nif]
fn open<'a>(env: Env<'a>, handle: Handle, bytes: Binary<'a>) -> NifResult<Term<'a>> {
    let mut half = match lock(&handle.receive) {
        Ok(half) => half,
        Err(reason) => return Ok(failure(env, reason)),
    };
    let Some(half) = half.as_mut() else { return Ok(failure(env, Error::Closed)) };
    let (mut messages, mut left, mut cost) = (Vec::new(), bytes.as_slice(), 0);
    let outcome = half.check().and_then(|()| {
        while cost < PORTION {
            match half.open_next(&mut left, |len| NewBinary::new(env, len))? {
                Some(message) => {
                    cost += MESSAGE_COST + message.len();
                    messages.push(Term::from(message));
                }
                None => break,
            }
        }
        Ok(())
    });
    consume(env, cost.max(MESSAGE_COST));
    let rest = bytes.make_subbinary(bytes.len() - left.len(), left.len())?;
    let status = outcome.map_or_else(|reason| reason_atom(env, reason), |()| term::ok().encode(env));
    Ok((messages, rest, status).encode(env))
}

/// Gives an empty buffer of the receiving half back.
#[rustler::nif]
fn release(handle: Handle) -> Atom {
    if let Ok(mut half) = lock(&handle.receive) {
        half.iter_mut().for_each(|half| half.release());
    }
    term::ok()
}
