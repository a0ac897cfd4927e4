//! Registries as resources.

use super::dns;
use super::provider::LaterRegistry;
use super::providers::Provider;
use super::term::{self, address, binary, done, path, place, public_key, reply, server_name};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::registry::{
    Candidate, DnsRegistry, Entry, FileRegistry, MemoryRegistry, Place, Registry, RegistryFileError,
    ServerKeys, Subject,
};
use rustler::{Binary, Encoder, Env, NifResult, Resource, ResourceArc, Term};
use std::sync::Arc;

pub(super) struct RegistryResource {
    registry: Arc<dyn Registry>,
    kind: Kind,
}

/// The same registry, as what it is.
#[derive(Clone)]
pub(super) enum Kind {
    Memory(Arc<MemoryRegistry>),
    File(Arc<FileRegistry>),
    Dns(Arc<DnsRegistry>),
    /// In an Erlang module.
    Module,
}

#[rustler::resource_impl]
impl Resource for RegistryResource {}

pub(super) type Handle = ResourceArc<RegistryResource>;

impl RegistryResource {
    pub(super) fn handle(kind: Kind) -> Handle {
        let registry: Arc<dyn Registry> = match &kind {
            Kind::Memory(registry) => registry.clone(),
            Kind::File(registry) => registry.clone(),
            Kind::Dns(registry) => registry.clone(),
            Kind::Module => Arc::new(LaterRegistry),
        };
        Handle::new(RegistryResource { registry, kind })
    }

    /// Returns the registry for a server's connections. One in a file they do not ask themselves,
    /// but stop with their requests, so that no scheduler waits.
    pub(super) fn for_connections(&self) -> Arc<dyn Registry> {
        match self.kind {
            Kind::File(_) => Arc::new(LaterRegistry),
            _ => self.registry.clone(),
        }
    }

    /// Who answers requests to it, if it can take its time and is no Erlang module.
    pub(super) fn provider(&self) -> Option<Provider> {
        match &self.kind {
            Kind::File(registry) => Some(Provider::Registry(registry.clone())),
            Kind::Dns(registry) => Some(Provider::Dns(registry.clone())),
            Kind::Memory(_) | Kind::Module => None,
        }
    }

    /// Adds an entry. `badarg` for a registry that has none of its own, here and below.
    fn add(&self, place: Place, key: PublicKey) -> NifResult<Result<()>> {
        Ok(match &self.kind {
            Kind::Memory(registry) => {
                registry.add(place, key);
                Ok(())
            }
            Kind::File(registry) => {
                let entry = Entry { subject: Subject::Client(place), key, comment: String::new() };
                registry.add(&entry).map(drop).map_err(RegistryFileError::error)
            }
            _ => return Err(rustler::Error::BadArg),
        })
    }

    fn remove(&self, place: Place, key: &PublicKey) -> NifResult<Result<()>> {
        Ok(match &self.kind {
            Kind::Memory(registry) => registry.remove(place, key),
            Kind::File(registry) => {
                registry.remove(&Subject::Client(place), key).map_err(RegistryFileError::error)
            }
            _ => return Err(rustler::Error::BadArg),
        })
    }
}

/// Returns an empty registry in memory.
#[rustler::nif]
fn registry_new(env: Env) -> Term {
    RegistryResource::handle(Kind::Memory(Arc::new(MemoryRegistry::new()))).encode(env)
}

/// Returns the registry in a file: `{ok, Registry} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_open_file<'a>(env: Env<'a>, file: Binary<'a>) -> Term<'a> {
    let opened = FileRegistry::open(path(&file)).map_err(RegistryFileError::error);
    let opened = opened.map(|registry| RegistryResource::handle(Kind::File(Arc::new(registry))));
    reply(env, opened)
}

/// Returns the registry in DNS of the keys under a zone; the options are a map of those that are
/// not to be the defaults: `{ok, Registry} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_open_dns<'a>(env: Env<'a>, zone: Binary<'a>, options: Term<'a>) -> NifResult<Term<'a>> {
    Ok(reply(env, dns::open(&zone, options)?))
}

/// Returns a registry that an Erlang module answers for.
#[rustler::nif]
fn registry_later(env: Env) -> Term {
    RegistryResource::handle(Kind::Module).encode(env)
}

/// Says why the entries in force are not those of the file: `none | {Line, Column, Text} | Reason`.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_problem<'a>(env: Env<'a>, registry: Handle) -> NifResult<Term<'a>> {
    let problem = match &registry.kind {
        Kind::Memory(_) => None,
        Kind::File(registry) => registry.problem(),
        _ => return Err(rustler::Error::BadArg),
    };
    Ok(problem_term(env, problem))
}

/// Says why a registry file could not be opened now: `none | {Line, Column, Text} | Reason`.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_file_problem<'a>(env: Env<'a>, file: Binary<'a>) -> Term<'a> {
    problem_term(env, FileRegistry::open(path(&file)).err())
}

fn problem_term(env: Env, problem: Option<RegistryFileError>) -> Term {
    match problem {
        None => term::none().encode(env),
        Some(RegistryFileError::Malformed(wrong)) => {
            (wrong.line, wrong.column, binary(env, wrong.problem.to_string().as_bytes())).encode(env)
        }
        Some(other) => term::reason_atom(env, other.error()),
    }
}

/// Lets the holder of the key in from a place: `ok | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_add<'a>(env: Env<'a>, registry: Handle, at: Term<'a>, key: Binary<'a>) -> NifResult<Term<'a>> {
    let key = public_key(&key)?;
    let added = match place(at)? {
        Ok(place) => registry.add(place, key)?,
        Err(reason) => Err(reason),
    };
    Ok(done(env, added))
}

/// Takes an entry back: `ok | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_remove<'a>(env: Env<'a>, registry: Handle, at: Term<'a>, key: Binary<'a>) -> NifResult<Term<'a>> {
    let key = public_key(&key)?;
    let removed = match place(at)? {
        Ok(place) => registry.remove(place, &key)?,
        Err(reason) => Err(reason),
    };
    Ok(done(env, removed))
}

/// Returns the keys that may come in from an address: `{ok, Keys} | {error, Reason} | later`. After
/// `later`, `{Reference, Answer}` comes to the calling process, here and below.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_lookup<'a>(
    env: Env<'a>,
    registry: Handle,
    at: Term<'a>,
    reference: Term<'a>,
) -> NifResult<Term<'a>> {
    let at = address(at)?;
    Ok(match &registry.kind {
        Kind::Memory(registry) => keys_reply(env, Ok(registry.lookup(at))),
        Kind::File(registry) => keys_reply(env, Ok(registry.lookup(at))),
        Kind::Dns(registry) => {
            dns::ask(env, reference, keys_reply, |tell| registry.lookup_then(at, None, tell))
        }
        Kind::Module => return Err(rustler::Error::BadArg),
    })
}

/// Returns the keys that a server may have, at least one: `{ok, Keys} | {error, Reason} | later`.
/// `enotsup` from a registry in memory, which knows no servers.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_server_keys<'a>(
    env: Env<'a>,
    registry: Handle,
    host: Binary<'a>,
    port: Term<'a>,
    reference: Term<'a>,
) -> NifResult<Term<'a>> {
    let name = match server_name(&host, port)? {
        Ok(name) => name,
        Err(reason) => return Ok(term::failure(env, reason)),
    };
    Ok(match &registry.kind {
        Kind::Memory(_) => term::failure(env, Error::Unsupported),
        Kind::File(registry) => keys_reply(env, registry.server_keys(&name, None)),
        Kind::Dns(registry) => {
            dns::ask(env, reference, keys_reply, |tell| registry.server_keys_then(&name, None, tell))
        }
        Kind::Module => return Err(rustler::Error::BadArg),
    })
}

/// Says whether the holder of the key may come in from an address:
/// `{ok, boolean()} | {error, Reason} | later`.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_verify<'a>(
    env: Env<'a>,
    registry: Handle,
    at: Term<'a>,
    key: Binary<'a>,
    reference: Term<'a>,
) -> NifResult<Term<'a>> {
    let candidate = Candidate::new(address(at)?, public_key(&key)?);
    Ok(match &registry.kind {
        Kind::Memory(_) | Kind::File(_) => reply(env, registry.registry.verify(&candidate)),
        Kind::Dns(registry) => dns::ask(env, reference, reply, |tell| registry.verify_then(&candidate, tell)),
        Kind::Module => return Err(rustler::Error::BadArg),
    })
}

fn keys_reply<'a>(env: Env<'a>, keys: Result<Vec<PublicKey>>) -> Term<'a> {
    reply(env, keys.map(|keys| keys.iter().map(|key| binary(env, &key.0)).collect::<Vec<_>>()))
}
