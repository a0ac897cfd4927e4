//! Which key of a server is trusted, as a resource: who connects does what it says.

use super::term::{self, binary, public_key, reason_atom};
use crate::crypto::PublicKey;
use crate::error::Error;
use crate::registry::{FirstUse, KnownKeys, Refusal, ServerTrust, TrustAnswer, TrustStep};
use rustler::{Atom, Binary, Encoder, Env, NifResult, Resource, ResourceArc, Term};
use std::sync::{Mutex, PoisonError};

pub(super) struct TrustResource(Mutex<ServerTrust>);

#[rustler::resource_impl]
impl Resource for TrustResource {}

type Handle = ResourceArc<TrustResource>;

rustler::atoms! {
    find,
    look_up,
    first_use,
    connect,
    remember,
    r#use = "use",
    refuse,
    once,
    found,
    known,
    remembered,
    key_changed,
    key_denied,
}

/// Returns a decision and its first step. The key is `none` if none is given.
#[rustler::nif]
fn trust_new<'a>(env: Env<'a>, given: Term<'a>, by_name: bool, known_servers: bool) -> NifResult<Term<'a>> {
    let given = match given.decode::<Atom>() {
        Ok(none) if none == term::none() => None,
        _ => Some(public_key(&given.decode()?)?),
    };
    let trust = ServerTrust::new(given, by_name, known_servers);
    let step = step_term(env, trust.step(), None);
    Ok((Handle::new(TrustResource(Mutex::new(trust))), step).encode(env))
}

/// Returns the step after an answer: `Step | {error, wrong_state}`.
#[rustler::nif]
fn trust_answer<'a>(env: Env<'a>, trust: Handle, answer: Term<'a>) -> NifResult<Term<'a>> {
    let (answer, reason) = answer_of(answer)?;
    let next = trust.0.lock().unwrap_or_else(PoisonError::into_inner).answer(answer);
    Ok(match next {
        Ok(step) => step_term(env, step, reason),
        Err(error) => term::failure(env, error),
    })
}

/// Returns an answer; for a failure, also what it is here and its reason as Erlang has it.
fn answer_of(term: Term) -> NifResult<(TrustAnswer, Option<(Refusal, Term)>)> {
    if let Ok(atom) = term.decode::<Atom>() {
        let done = [(term::connected(), TrustAnswer::Connected), (remembered(), TrustAnswer::Remembered)];
        let answer = done.into_iter().find(|(name, _)| *name == atom).ok_or(rustler::Error::BadArg)?.1;
        return Ok((answer, None));
    }
    let (name, value) = term.decode::<(Atom, Term)>()?;
    if name == term::failed() {
        let refusal = refusal_of(value);
        return Ok((TrustAnswer::Failed(refusal), Some((refusal, value))));
    }
    let answer = if name == found() {
        TrustAnswer::Found(keys_of(value)?)
    } else if name == known() {
        let (keys, denied) = value.decode::<(Term, bool)>()?;
        TrustAnswer::Known(KnownKeys { keys: keys_of(keys)?, denied })
    } else if name == first_use() {
        let decision = value.decode::<Atom>()?;
        let decisions =
            [(refuse(), FirstUse::Refuse), (once(), FirstUse::Once), (remember(), FirstUse::Remember)];
        let decision = decisions.into_iter().find(|(name, _)| *name == decision);
        TrustAnswer::FirstUse(decision.ok_or(rustler::Error::BadArg)?.1)
    } else {
        return Err(rustler::Error::BadArg);
    };
    Ok((answer, None))
}

fn keys_of(term: Term) -> NifResult<Vec<PublicKey>> {
    term.decode::<Vec<Binary>>()?.iter().map(public_key).collect()
}

/// Returns what a failure means to the decision. A reason that is none of ours, such as a program's
/// own, is one like `Io`.
fn refusal_of(reason: Term) -> Refusal {
    if let Ok(atom) = reason.atom_to_string() {
        let error = Error::ALL.iter().copied().find(|error| error.atom() == atom);
        return Refusal::Failed(error.unwrap_or(Error::Io));
    }
    if let Ok((name, offered)) = reason.decode::<(Atom, Binary)>()
        && name == key_denied()
        && let Ok(offered) = public_key(&offered)
    {
        return Refusal::Denied { offered };
    }
    match reason.decode::<(Atom, Binary, Binary)>() {
        Ok((name, known, offered)) if name == key_changed() => {
            match (public_key(&known), public_key(&offered)) {
                (Ok(known), Ok(offered)) => Refusal::Changed { known, offered },
                _ => Refusal::Failed(Error::Io),
            }
        }
        _ => Refusal::Failed(Error::Io),
    }
}

/// Returns a step. What comes of the failure that was just told has the reason that Erlang told.
fn step_term<'a>(env: Env<'a>, step: TrustStep, told: Option<(Refusal, Term<'a>)>) -> Term<'a> {
    let reason = |refusal: Refusal| match told {
        Some((same, reason)) if same == refusal => reason,
        _ => refusal_term(env, refusal),
    };
    match step {
        TrustStep::Find => find().encode(env),
        TrustStep::LookUp(key) => (look_up(), binary(env, &key.0)).encode(env),
        TrustStep::FirstUse(key) => (first_use(), binary(env, &key.0)).encode(env),
        TrustStep::Connect(key) => (connect(), binary(env, &key.0)).encode(env),
        TrustStep::Remember(key) => (remember(), binary(env, &key.0)).encode(env),
        TrustStep::Use { remembered: Ok(written) } => (r#use(), written).encode(env),
        TrustStep::Use { remembered: Err(error) } => {
            (r#use(), (term::error(), reason(error.into()))).encode(env)
        }
        TrustStep::Refuse(refusal) => (refuse(), reason(refusal)).encode(env),
    }
}

/// Returns what known servers have, as `trust_answer` takes it.
pub(super) fn known_term<'a>(env: Env<'a>, found: &KnownKeys) -> Term<'a> {
    let keys: Vec<_> = found.keys.iter().map(|key| binary(env, &key.0)).collect();
    (known(), (keys, found.denied)).encode(env)
}

/// Returns a refusal as the reason of an error.
pub(super) fn refusal_term(env: Env<'_>, refusal: Refusal) -> Term<'_> {
    let reason = reason_atom(env, refusal.error());
    match refusal {
        Refusal::Changed { known, offered } => {
            (reason, binary(env, &known.0), binary(env, &offered.0)).encode(env)
        }
        Refusal::Denied { offered } | Refusal::Unknown { offered } => {
            (reason, binary(env, &offered.0)).encode(env)
        }
        Refusal::Failed(_) => reason,
    }
}
