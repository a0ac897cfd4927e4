//! Registries as resources.

use super::provider::LaterRegistry;
use super::term::{address, binary, done, place, public_key};
use crate::registry::{Candidate, MemoryRegistry, Registry};
use rustler::{Binary, Encoder, Env, NifResult, Resource, ResourceArc, Term};
use std::sync::Arc;

pub(super) struct RegistryResource {
    pub registry: Arc<dyn Registry>,
    /// The same, if it is one that lives here.
    memory: Option<Arc<MemoryRegistry>>,
}

#[rustler::resource_impl]
impl Resource for RegistryResource {}

impl RegistryResource {
    fn memory(&self) -> NifResult<&MemoryRegistry> {
        self.memory.as_deref().ok_or(rustler::Error::BadArg)
    }
}

/// An empty registry in memory.
#[rustler::nif]
fn registry_new(env: Env) -> Term {
    let memory = Arc::new(MemoryRegistry::new());
    ResourceArc::new(RegistryResource { registry: memory.clone(), memory: Some(memory) }).encode(env)
}

/// A registry that an Erlang module answers for.
#[rustler::nif]
fn registry_later(env: Env) -> Term {
    ResourceArc::new(RegistryResource { registry: Arc::new(LaterRegistry), memory: None }).encode(env)
}

/// Lets the holder of the key in from a place: `ok | {error, bad_address}`.
#[rustler::nif]
fn registry_add<'a>(
    env: Env<'a>,
    registry: ResourceArc<RegistryResource>,
    at: Term<'a>,
    key: Binary<'a>,
) -> NifResult<Term<'a>> {
    let (memory, key) = (registry.memory()?, public_key(&key)?);
    Ok(done(env, place(at)?.map(|place| memory.add(place, key))))
}

/// Takes an entry back: `ok | {error, not_found | bad_address}`.
#[rustler::nif]
fn registry_remove<'a>(
    env: Env<'a>,
    registry: ResourceArc<RegistryResource>,
    at: Term<'a>,
    key: Binary<'a>,
) -> NifResult<Term<'a>> {
    let (memory, key) = (registry.memory()?, public_key(&key)?);
    Ok(done(env, place(at)?.and_then(|place| memory.remove(place, &key))))
}

/// The keys that may come in from an address, in ascending order.
#[rustler::nif]
fn registry_lookup<'a>(
    env: Env<'a>,
    registry: ResourceArc<RegistryResource>,
    at: Term<'a>,
) -> NifResult<Term<'a>> {
    let keys = registry.memory()?.lookup(address(at)?);
    let keys: Vec<_> = keys.iter().map(|key| binary(env, &key.0)).collect();
    Ok(keys.encode(env))
}

/// Whether the holder of the key may come in from an address.
#[rustler::nif]
fn registry_verify(
    registry: ResourceArc<RegistryResource>,
    at: Term<'_>,
    key: Binary<'_>,
) -> NifResult<bool> {
    let candidate = Candidate::new(address(at)?, public_key(&key)?);
    Ok(registry.memory()?.verify(&candidate).unwrap_or(false))
}
