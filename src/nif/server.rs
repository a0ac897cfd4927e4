//! A server's vault, registry, minute keys, limit and name, as one resource.

use super::providers::Providers;
use super::registry::RegistryResource;
use super::term::reply;
use super::vault::VaultResource;
use crate::connection::{Options, Server};
use crate::error::Error;
use rustler::{Binary, Env, Resource, ResourceArc, Term};
use std::sync::Arc;

pub(super) struct ServerResource {
    pub server: Arc<Server>,
    pub providers: Providers,
}

#[rustler::resource_impl]
impl Resource for ServerResource {}

/// `{ok, Server} | {error, Reason}`: `badarg` for a listener's name that is too long or not fit to
/// be shown. The time is monotonic milliseconds, here and in `server_tick`.
#[rustler::nif(schedule = "DirtyCpu")]
fn server_new<'a>(
    env: Env<'a>,
    vault: ResourceArc<VaultResource>,
    registry: ResourceArc<RegistryResource>,
    handshakes_max: u32,
    listener: Binary<'a>,
    now_ms: u64,
) -> Term<'a> {
    let listener = std::str::from_utf8(&listener).map_err(|_| Error::InvalidArgument);
    let server = listener.and_then(|listener| {
        let options = Options::default().handshakes_max(handshakes_max).listener(listener.into());
        Server::new(vault.for_connections(), registry.for_connections(), options, now_ms)
    });
    let providers = Providers { vault: vault.provider(), registry: registry.provider() };
    reply(env, server.map(|server| ResourceArc::new(ServerResource { server, providers })))
}

/// Whether a listener may have this name.
#[rustler::nif]
fn is_listener_name(name: Binary) -> bool {
    std::str::from_utf8(&name).is_ok_and(|name| Options::default().listener(name.into()).check().is_ok())
}

/// Rotates the minute keys that are due: `{ok, NextMs} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn server_tick<'a>(env: Env<'a>, server: ResourceArc<ServerResource>, now_ms: u64) -> Term<'a> {
    reply(env, server.server.tick(now_ms))
}
