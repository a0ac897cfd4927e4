//! Servers that a client knows, as a resource.

use super::term::{self, binary, path, public_key, reason_atom, reply, server_name};
use crate::registry::{FirstUse, KnownServers, Refusal, RegistryFileError};
use rustler::{Binary, Encoder, Env, NifResult, Resource, ResourceArc, Term};

pub(super) struct KnownResource(KnownServers);

#[rustler::resource_impl]
impl Resource for KnownResource {}

type Handle = ResourceArc<KnownResource>;

/// The servers known in a registry file, which is made if it is not there: `{ok, Known} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn known_open<'a>(env: Env<'a>, file: Binary<'a>) -> Term<'a> {
    let opened = KnownServers::open(path(&file)).map_err(RegistryFileError::error);
    reply(env, opened.map(|known| Handle::new(KnownResource(known))))
}

/// Whether the key may be used for a server: `ok | {error, Refusal}`. `{unknown_peer, Key}` is a first use, of which the
/// program decides.
#[rustler::nif(schedule = "DirtyIo")]
fn known_check<'a>(
    env: Env<'a>,
    known: Handle,
    host: Binary<'a>,
    port: Term<'a>,
    key: Binary<'a>,
) -> NifResult<Term<'a>> {
    let key = public_key(&key)?;
    let name = server_name(&host, port)?.map_err(Refusal::Failed);
    let checked = name.and_then(|name| known.0.check(&name, &key, || FirstUse::Refuse));
    Ok(outcome(env, checked.map(drop)))
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
    let refusal = match result {
        Ok(()) => return term::ok().encode(env),
        Err(refusal) => refusal,
    };
    let reason = reason_atom(env, refusal.error());
    let refused = match refusal {
        Refusal::Changed { known, offered } => {
            (reason, binary(env, &known.0), binary(env, &offered.0)).encode(env)
        }
        Refusal::Denied { offered } | Refusal::Unknown { offered } => {
            (reason, binary(env, &offered.0)).encode(env)
        }
        Refusal::Failed(_) => reason,
    };
    (term::error(), refused).encode(env)
}
