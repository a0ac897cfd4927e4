//! Servers that a client knows, as a resource.

use super::term::{self, path, public_key, reply, server_name};
use super::trust::{known_term, refusal_term};
use crate::registry::{KnownServers, Refusal, RegistryFileError};
use rustler::{Binary, Encoder, Env, NifResult, Resource, ResourceArc, Term};

pub(super) struct KnownResource(KnownServers);

#[rustler::resource_impl]
impl Resource for KnownResource {}

type Handle = ResourceArc<KnownResource>;

/// Returns the servers known in a registry file, which is made if it is not there:
/// `{ok, Known} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn known_open<'a>(env: Env<'a>, file: Binary<'a>) -> Term<'a> {
    let opened = KnownServers::open(path(&file)).map_err(RegistryFileError::error);
    reply(env, opened.map(|known| Handle::new(KnownResource(known))))
}

/// Returns what is known of a server and a key, for `trust_answer`:
/// `{ok, Known} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn known_look_up<'a>(
    env: Env<'a>,
    known: Handle,
    host: Binary<'a>,
    port: Term<'a>,
    key: Binary<'a>,
) -> NifResult<Term<'a>> {
    let key = public_key(&key)?;
    let name = server_name(&host, port)?;
    let found = name.and_then(|name| known.0.look_up(&name, &key));
    Ok(reply(env, found.map(|known| known_term(env, &known))))
}

/// Writes down that a server is known by the key: `ok | {error, Refusal}`.
#[rustler::nif(schedule = "DirtyIo")]
fn known_remember<'a>(
    env: Env<'a>,
    known: Handle,
    host: Binary<'a>,
    port: Term<'a>,
    key: Binary<'a>,
) -> NifResult<Term<'a>> {
    let key = public_key(&key)?;
    let name = server_name(&host, port)?.map_err(Refusal::Failed);
    Ok(outcome(env, name.and_then(|name| known.0.remember(&name, &key))))
}

fn outcome<'a>(env: Env<'a>, result: Result<(), Refusal>) -> Term<'a> {
    match result {
        Ok(()) => term::ok().encode(env),
        Err(refusal) => (term::error(), refusal_term(env, refusal)).encode(env),
    }
}
