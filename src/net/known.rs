//! Connecting to servers whose keys are given, known by name, or remembered.

use super::{Socket, Timeout};
use crate::connection::Options;
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::registry::{
    FirstUse, KnownServers, Refusal, ServerKeys, ServerName, ServerTrust, TrustAnswer, TrustStep,
};
use crate::sys::Deadline;
use crate::vault::Vault;
use std::sync::Arc;

/// A tunnel to a server that is known, or was used for the first time.
pub struct KnownSocket {
    /// The tunnel.
    pub socket: Socket,
    /// Whether the server's key was written down by this call. If it was to be and could not, the
    /// tunnel stands all the same, since the server has proven the key; the next use of that server
    /// is a first use again. The error is that of the registry file: `ReadOnly`,
    /// `PermissionDenied`, `DiskFull`, `Timeout`, `BadRegistryFile`, ...
    pub remembered: Result<bool>,
}

/// Where a client has a server's key from, and what it holds against it. Fields that are `None`
/// play no part.
#[derive(Clone, Copy, Default)]
pub struct TrustSources<'a> {
    /// The key that is given: the registry is not asked then.
    pub key: Option<PublicKey>,
    /// The registry that knows the keys of servers by name.
    pub registry: Option<&'a dyn ServerKeys>,
    /// The servers that the client knows: a key must be that which a server is known by.
    pub known_servers: Option<&'a KnownServers>,
}

impl Socket {
    /// As [`Socket::connect`], with a key from these sources, as [`ServerTrust`] decides.
    ///
    /// Of a server that the known servers do not have, `first_use` decides by the key that is
    /// offered, before anything is sent with that key. A key to be remembered is written down once
    /// the server has proven to hold its secret. A file that cannot be written then costs the
    /// memory and not the tunnel: [`KnownSocket::remembered`] tells. For other writers of the file
    /// it waits at most ten seconds more.
    ///
    /// # Errors
    /// A [`Refusal`]; `Failed` with the errors of [`Socket::connect`], of
    /// [`ServerKeys::server_keys`], of reading the file of known servers, and with
    /// `InvalidArgument` where there is neither a key nor a registry, or a source is asked for a
    /// host that is no address or name, or for port 0. `Changed` and `Denied` also if another
    /// program has remembered another key for the server meanwhile, or denied the key; the
    /// connection is closed then.
    pub fn connect_trusted(
        host: &str,
        port: u16,
        vault: Arc<dyn Vault>,
        sources: TrustSources<'_>,
        mut first_use: impl FnMut(&PublicKey) -> FirstUse,
        options: &Options,
        timeout: Timeout,
    ) -> std::result::Result<KnownSocket, Refusal> {
        let TrustSources { key, registry, known_servers } = sources;
        let name = || ServerName::new(host, port);
        let deadline = Deadline::after(timeout);
        let (mut trust, mut made) =
            (ServerTrust::new(key, registry.is_some(), known_servers.is_some()), None);
        loop {
            let told = match trust.step() {
                TrustStep::Find => {
                    let registry = registry.ok_or(Error::Internal)?;
                    name()
                        .and_then(|name| registry.server_keys(&name, deadline.remaining()))
                        .map(TrustAnswer::Found)
                }
                TrustStep::LookUp(key) => {
                    let known = known_servers.ok_or(Error::Internal)?;
                    name().and_then(|name| known.look_up(&name, &key)).map(TrustAnswer::Known)
                }
                TrustStep::FirstUse(key) => Ok(TrustAnswer::FirstUse(first_use(&key))),
                TrustStep::Connect(key) => {
                    let socket =
                        Socket::connect(host, port, vault.clone(), key, options, deadline.remaining());
                    socket.map(|socket| {
                        made = Some(socket);
                        TrustAnswer::Connected
                    })
                }
                TrustStep::Remember(key) => {
                    let known = known_servers.ok_or(Error::Internal)?;
                    match known.remember(&name()?, &key) {
                        Ok(()) => Ok(TrustAnswer::Remembered),
                        Err(refusal) => Ok(TrustAnswer::Failed(refusal)),
                    }
                }
                TrustStep::Use { remembered } => {
                    let socket = made.ok_or(Error::Internal)?;
                    return Ok(KnownSocket { socket, remembered });
                }
                TrustStep::Refuse(refusal) => return Err(refusal),
            };
            trust.answer(told.unwrap_or_else(|error| TrustAnswer::Failed(error.into())))?;
        }
    }

    /// As [`Socket::connect_trusted`] with the key that `keys` knows for `host` and `port`, and no
    /// known servers.
    ///
    /// # Errors
    /// `NotFound` if no key is known, other errors of [`ServerKeys::server_keys`], those of
    /// [`Socket::connect`], and `InvalidArgument` for a host that is no address or name, or for
    /// port 0.
    pub fn connect_by_name(
        host: &str,
        port: u16,
        vault: Arc<dyn Vault>,
        keys: &dyn ServerKeys,
        options: &Options,
        timeout: Timeout,
    ) -> Result<Socket> {
        let sources = TrustSources { registry: Some(keys), ..TrustSources::default() };
        let refuse = |_: &PublicKey| FirstUse::Refuse;
        let made = Socket::connect_trusted(host, port, vault, sources, refuse, options, timeout);
        made.map(|made| made.socket).map_err(Refusal::error)
    }

    /// As [`Socket::connect_trusted`] with this key, if `known` has nothing against it for this
    /// host and port.
    ///
    /// # Errors
    /// Those of [`Socket::connect_trusted`].
    #[expect(clippy::too_many_arguments, reason = "those of `connect`, and the policy")]
    pub fn connect_known(
        host: &str,
        port: u16,
        vault: Arc<dyn Vault>,
        server_key: PublicKey,
        known: &KnownServers,
        first_use: impl FnOnce() -> FirstUse,
        options: &Options,
        timeout: Timeout,
    ) -> std::result::Result<KnownSocket, Refusal> {
        let sources = TrustSources { key: Some(server_key), registry: None, known_servers: Some(known) };
        // Of one key it is asked once.
        let mut first_use = Some(first_use);
        let decide = move |_: &PublicKey| first_use.take().map_or(FirstUse::Refuse, |decide| decide());
        Socket::connect_trusted(host, port, vault, sources, decide, options, timeout)
    }
}
