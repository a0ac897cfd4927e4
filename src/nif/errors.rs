//! What the table of errors says of Erlang's reasons.

use super::term::{self, binary, reason_atom};
use crate::error::Error;
use rustler::{Encoder, Env, Term};

/// Returns the sentence of a reason in the table, without a final stop: a binary, or `none`. Errors
/// that Erlang does not tell apart have that of the last of them, the one that Erlang meets.
#[rustler::nif]
fn error_message<'a>(env: Env<'a>, reason: Term<'a>) -> Term<'a> {
    let name = reason.atom_to_string().unwrap_or_default();
    match Error::ALL.iter().rev().find(|error| error.atom() == name) {
        Some(error) => binary(env, error.message().as_bytes()),
        None => term::none().encode(env),
    }
}

/// Returns the reason of each error, in the order of the table.
#[rustler::nif]
fn error_reasons(env: Env) -> Vec<Term> {
    Error::ALL.iter().map(|error| reason_atom(env, *error)).collect()
}
