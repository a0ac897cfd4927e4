//! Registries as resources.

use super::provider::LaterRegistry;
use super::term::{self, address, binary, done, path, place, public_key, reply};
use crate::crypto::PublicKey;
use crate::error::Result;
use crate::registry::{
    Candidate, Entry, FileRegistry, MemoryRegistry, Place, Registry, RegistryFileError, Subject,
};
use rustler::{Binary, Encoder, Env, NifResult, Resource, ResourceArc, Term};
use std::net::IpAddr;
use std::sync::Arc;

pub(super) struct RegistryResource {
    pub registry: Arc<dyn Registry>,
    /// The same, if its entries are here.
    entries: Option<Entries>,
}

/// Where entries are.
enum Entries {
    Memory(Arc<MemoryRegistry>),
    File(Arc<FileRegistry>),
}

#[rustler::resource_impl]
impl Resource for RegistryResource {}

type Handle = ResourceArc<RegistryResource>;

impl RegistryResource {
    fn entries(&self) -> NifResult<&Entries> {
        self.entries.as_ref().ok_or(rustler::Error::BadArg)
    }
}

impl Entries {
    fn add(&self, place: Place, key: PublicKey) -> Result<()> {
        match self {
            Entries::Memory(registry) => registry.add(place, key),
            Entries::File(registry) => {
                let entry = Entry { subject: Subject::Client(place), key, comment: String::new() };
                registry.add(&entry).map_err(RegistryFileError::error)?;
            }
        }
        Ok(())
    }

    fn remove(&self, place: Place, key: &PublicKey) -> Result<()> {
        match self {
            Entries::Memory(registry) => registry.remove(place, key),
            Entries::File(registry) => {
                registry.remove(&Subject::Client(place), key).map_err(RegistryFileError::error)
            }
        }
    }

    fn lookup(&self, address: IpAddr) -> Vec<PublicKey> {
        match self {
            Entries::Memory(registry) => registry.lookup(address),
            Entries::File(registry) => registry.lookup(address),
        }
    }
}

/// An empty registry in memory.
#[rustler::nif]
fn registry_new(env: Env) -> Term {
    let registry = Arc::new(MemoryRegistry::new());
    Handle::new(RegistryResource { registry: registry.clone(), entries: Some(Entries::Memory(registry)) })
        .encode(env)
}

/// The registry in a file: `{ok, Registry} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_open_file<'a>(env: Env<'a>, file: Binary<'a>) -> Term<'a> {
    let opened = FileRegistry::open(path(&file)).map_err(RegistryFileError::error);
    reply(
        env,
        opened.map(|registry| {
            let registry = Arc::new(registry);
            Handle::new(RegistryResource {
                registry: registry.clone(),
                entries: Some(Entries::File(registry)),
            })
        }),
    )
}

/// Why the entries in force are not those of the file: `none | {Line, Column, Text} | Reason`.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_problem<'a>(env: Env<'a>, registry: Handle) -> NifResult<Term<'a>> {
    let problem = match registry.entries()? {
        Entries::Memory(_) => None,
        Entries::File(registry) => registry.problem(),
    };
    Ok(match problem {
        None => term::none().encode(env),
        Some(RegistryFileError::Malformed(wrong)) => {
            (wrong.line, wrong.column, binary(env, wrong.problem.to_string().as_bytes())).encode(env)
        }
        Some(RegistryFileError::Failed(reason)) => term::reason_atom(env, reason),
    })
}

/// A registry that an Erlang module answers for.
#[rustler::nif]
fn registry_later(env: Env) -> Term {
    Handle::new(RegistryResource { registry: Arc::new(LaterRegistry), entries: None }).encode(env)
}

/// Lets the holder of the key in from a place: `ok | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_add<'a>(env: Env<'a>, registry: Handle, at: Term<'a>, key: Binary<'a>) -> NifResult<Term<'a>> {
    let (entries, key) = (registry.entries()?, public_key(&key)?);
    Ok(done(env, place(at)?.and_then(|place| entries.add(place, key))))
}

/// Takes an entry back: `ok | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_remove<'a>(env: Env<'a>, registry: Handle, at: Term<'a>, key: Binary<'a>) -> NifResult<Term<'a>> {
    let (entries, key) = (registry.entries()?, public_key(&key)?);
    Ok(done(env, place(at)?.and_then(|place| entries.remove(place, &key))))
}

/// The keys that may come in from an address, in ascending order.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_lookup<'a>(env: Env<'a>, registry: Handle, at: Term<'a>) -> NifResult<Term<'a>> {
    let keys = registry.entries()?.lookup(address(at)?);
    let keys: Vec<_> = keys.iter().map(|key| binary(env, &key.0)).collect();
    Ok(keys.encode(env))
}

/// Whether the holder of the key may come in from an address.
#[rustler::nif(schedule = "DirtyIo")]
fn registry_verify(registry: Handle, at: Term<'_>, key: Binary<'_>) -> NifResult<bool> {
    let candidate = Candidate::new(address(at)?, public_key(&key)?);
    registry.entries()?;
    Ok(registry.registry.verify(&candidate).unwrap_or(false))
}
