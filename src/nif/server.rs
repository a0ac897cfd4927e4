//! A server's vault, registry, minute keys, limits and name, as one resource.

use super::connection::lock;
use super::providers::Providers;
use super::registry::RegistryResource;
use super::term::reply;
use super::vault::VaultResource;
use crate::connection::{Connection, Options, Server};
use crate::error::{Error, Result};
use rustler::{Binary, Env, LocalPid, Resource, ResourceArc, Term};
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

pub(super) struct ServerResource {
    pub server: Arc<Server>,
    pub providers: Providers,
    /// The processes of handshakes that were evicted, for whoever took a permit to tell them: the
    /// limiter is locked while it evicts.
    evicted: Arc<Mutex<Vec<LocalPid>>>,
}

impl ServerResource {
    /// Takes a permit for the handshake of a client from `address`, which `process` runs. Returns
    /// its connection, and the processes whose handshakes were evicted for it.
    pub(super) fn accept(&self, address: IpAddr, process: LocalPid) -> Result<(Connection, Vec<LocalPid>)> {
        let mut connection = Connection::server(&self.server, address)?;
        let evicted = self.evicted.clone();
        connection.on_evict(move || lock(&evicted).map_or((), |mut evicted| evicted.push(process)))?;
        let others = mem::take(&mut *lock(&self.evicted)?);
        Ok((connection, others))
    }
}

#[rustler::resource_impl]
impl Resource for ServerResource {}

/// `{ok, Server} | {error, Reason}`: `badarg` for a listener's name that is too long or not fit to
/// be shown. One source has at most `handshakes_per_source` of the permits, or all if that is 0.
/// The time is monotonic milliseconds, here and in `server_tick`.
#[rustler::nif(schedule = "DirtyCpu")]
fn server_new<'a>(
    env: Env<'a>,
    vault: ResourceArc<VaultResource>,
    registry: ResourceArc<RegistryResource>,
    handshakes_max: u32,
    handshakes_per_source: u32,
    listener: Binary<'a>,
    now_ms: u64,
) -> Term<'a> {
    let listener = std::str::from_utf8(&listener).map_err(|_| Error::InvalidArgument);
    let server = listener.and_then(|listener| {
        let options = Options::default()
            .handshakes_max(handshakes_max)
            .handshakes_per_source(handshakes_per_source)
            .listener(listener.into());
        Server::new(vault.for_connections(), registry.for_connections(), options, now_ms)
    });
    let providers = Providers { vault: vault.provider(), registry: registry.provider() };
    let evicted = Arc::default();
    reply(env, server.map(|server| ResourceArc::new(ServerResource { server, providers, evicted })))
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
