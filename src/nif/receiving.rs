//! Opening what came from the transport, many messages in a call.

use super::connection::{ConnectionResource, lock};
use super::portion::{MESSAGE_COST, PORTION, consume};
use super::term::{self, failure, reason_atom};
use crate::error::Error;
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

/// Frees an empty buffer of the receiving half.
#[rustler::nif]
fn release(handle: Handle) -> Atom {
    if let Ok(mut half) = lock(&handle.receiving) {
        half.iter_mut().for_each(|half| half.release());
    }
    term::ok()
}
