//! A server's vault, registry, minute keys and limit, as one resource.

use super::registry::RegistryResource;
use super::term::reply;
use super::vault::VaultResource;
use crate::connection::{Options, Server};
use crate::vault::Vault;
use rustler::{Env, Resource, ResourceArc, Term};
use std::sync::Arc;

pub(super) struct ServerResource {
    pub server: Arc<Server>,
    /// Its vault, if that takes its time and threads of ours are to ask it.
    pub distant: Option<Arc<dyn Vault>>,
}

#[rustler::resource_impl]
impl Resource for ServerResource {}

/// `{ok, Server} | {error, Reason}`; the time is monotonic milliseconds, here and in `server_tick`.
#[rustler::nif(schedule = "DirtyCpu")]
fn server_new<'a>(
    env: Env<'a>,
    vault: ResourceArc<VaultResource>,
    registry: ResourceArc<RegistryResource>,
    handshakes_max: u32,
    now_ms: u64,
) -> Term<'a> {
    let options = Options { handshakes_max, ..Options::default() };
    let server = Server::new(vault.vault.clone(), registry.registry.clone(), options, now_ms);
    let distant = vault.distant.clone();
    reply(env, server.map(|server| ResourceArc::new(ServerResource { server, distant })))
}

/// Rotates the minute keys that are due: `{ok, NextMs} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn server_tick<'a>(env: Env<'a>, server: ResourceArc<ServerResource>, now_ms: u64) -> Term<'a> {
    reply(env, server.server.tick(now_ms))
}
