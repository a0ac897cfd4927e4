//! Opening what came from the transport, many messages in a call.

use super::connection::{ConnectionResource, lock};
use super::portion::{MESSAGE_COST, PORTION, consume};
use super::sending::Frames;
use super::stream::{Came, stream_of};
use super::term::{self, failure, reason_atom};
use crate::error::{Error, Result};
use rustler::{Atom, Binary, Encoder, Env, NewBinary, NifResult, ResourceArc, Term};
use std::sync::atomic::Ordering;

type Handle = ResourceArc<ConnectionResource>;

/// Opens what came from the transport: `{Messages, Rest, ok | Reason} | {error, Reason}`.
///
/// `Rest` are the bytes for the next call. With a reason the connection receives no more, and
/// `Messages` are those before it.
#[rustler::nif]
fn open<'a>(env: Env<'a>, handle: Handle, bytes: Binary<'a>) -> NifResult<Term<'a>> {
    let mut half = match lock(&handle.receiving) {
        Ok(half) => half,
        Err(reason) => return Ok(failure(env, reason)),
    };
    let Some(half) = half.as_mut() else { return Ok(failure(env, Error::Closed)) };
    handle.has_received.store(true, Ordering::Relaxed);
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

/// The same on a connection with a stream: `{Items, Rest, ok | Reason, IsDue} | {error, Reason}`.
///
/// An item is a binary of data, or a message; `opened` where the peer has opened, and `finished`
/// where it has ended what it sends. With a reason nothing more is received: `{aborted, Code}`, or
/// an atom. `IsDue` says whether there is something to be sent: `seal` seals it.
#[rustler::nif]
fn stream_open<'a>(env: Env<'a>, handle: Handle, bytes: Binary<'a>) -> NifResult<Term<'a>> {
    let (mut half, stream) = match (lock(&handle.receiving), stream_of(&handle)) {
        (Ok(half), Ok(stream)) => (half, stream),
        (Err(reason), _) | (_, Err(reason)) => return Ok(failure(env, reason)),
    };
    let Some(half) = half.as_mut() else { return Ok(failure(env, Error::Closed)) };
    handle.has_received.store(true, Ordering::Relaxed);
    let (mut items, mut left, mut cost) = (Vec::new(), bytes.as_slice(), 0);
    let outcome = half.check().and_then(|()| {
        while cost < PORTION {
            let Some(message) = half.open_next(&mut left, |len| NewBinary::new(env, len))? else { break };
            let message = Binary::from(message);
            cost += MESSAGE_COST + message.len();
            match lock(stream)?.receive(&message)? {
                Came::Opened => items.push(term::opened().encode(env)),
                Came::Bytes(bytes) => items.push(part_of(&message, bytes)?),
                Came::Large(message) => {
                    let message = ResourceArc::new(Frames(message));
                    items.push(message.make_binary(env, |message| &message.0).to_term(env));
                }
                Came::Finished => items.push(term::finished().encode(env)),
                Came::Nothing => {}
            }
        }
        Ok(())
    });
    consume(env, cost.max(MESSAGE_COST));
    let rest = bytes.make_subbinary(bytes.len() - left.len(), left.len())?;
    let stream = match lock(stream) {
        Ok(stream) => stream,
        Err(reason) => return Ok(failure(env, reason)),
    };
    let status = match outcome {
        Ok(()) => term::ok().encode(env),
        Err(reason) => stream.reason(env, reason),
    };
    Ok((items, rest, status, stream.is_pending()).encode(env))
}

/// Returns the end of a message that is the program's, without a copy.
fn part_of<'a>(message: &Binary<'a>, bytes: &[u8]) -> Result<Term<'a>> {
    let part = message.make_subbinary(message.len() - bytes.len(), bytes.len());
    part.map(Term::from).map_err(|_| Error::Internal)
}

/// Frees an empty buffer of the receiving half.
#[rustler::nif]
fn release(handle: Handle) -> Atom {
    if let Ok(mut half) = lock(&handle.receiving) {
        half.iter_mut().for_each(|half| half.release());
    }
    term::ok()
}
