//! Connecting to servers whose keys are known by name.

use super::deadline::Deadline;
use super::{Socket, Timeout};
use crate::connection::Options;
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::registry::{FirstUse, KnownServers, Refusal, ServerKeys, ServerName};
use crate::vault::Vault;
use std::sync::Arc;

/// A tunnel to a server that is known, or was used for the first time.
pub struct KnownSocket {
    /// The tunnel.
    pub socket: Socket,
    /// Whether the server's key was written down by this call. If it was to be and could not, the tunnel stands all the
    /// same, since the server has proven the key; the next use of that server is a first use again. The error is that of
    /// the registry file: `ReadOnly`, `PermissionDenied`, `DiskFull`, `Timeout`, `BadRegistryFile`, ...
    pub remembered: Result<bool>,
}

impl Socket {
    /// As [`Socket::connect`], with the key that `keys` knows for `host` and `port`.
    ///
    /// If it knows several, as when a server's key is being replaced, they are tried in turn, each on a connection of
    /// its own, until the server holds the secret of one.
    ///
    /// # Errors
    /// `NotFound` if no key is known, other errors of [`ServerKeys::server_keys`], those of [`Socket::connect`], and
    /// `InvalidArgument` for a host that is no address or name, or for port 0.
    pub fn connect_by_name(
        host: &str,
        port: u16,
        vault: Arc<dyn Vault>,
        keys: &dyn ServerKeys,
        options: &Options,
        timeout: Timeout,
    ) -> Result<Socket> {
        let name = ServerName::new(host, port)?;
        let deadline = Deadline::after(timeout);
        let mut result = Err(Error::NotFound);
        for key in keys.server_keys(&name, deadline.remaining())? {
            result = Socket::connect(host, port, vault.clone(), key, options, deadline.remaining());
            if !matches!(result, Err(Error::WrongServerKey)) {
                break;
            }
        }
        result
    }

    /// As [`Socket::connect`], if `known` has nothing against this key for this host and port.
    ///
    /// Of a server that is not known, `first_use` decides, before anything is sent. A key to be remembered is written
    /// down once the server has proven to hold its secret. A file that cannot be written then costs the memory and not the
    /// tunnel: [`KnownSocket::remembered`] tells. For other writers of the file it waits at most ten seconds more.
    ///
    /// # Errors
    /// A [`Refusal`]; `Failed` with the errors of [`Socket::connect`], of reading the registry file, and with
    /// `InvalidArgument` for a host that is no address or name, or for port 0. `Changed` also if another program has
    /// remembered another key for the server meanwhile; the connection is closed then.
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
        let name = ServerName::new(host, port)?;
        let deadline = Deadline::after(timeout);
        let remember = known.check(&name, &server_key, first_use)?;
        let socket = Socket::connect(host, port, vault, server_key, options, deadline.remaining())?;
        let remembered = match remember {
            false => Ok(false),
            true => match known.remember(&name, &server_key) {
                Ok(()) => Ok(true),
                Err(Refusal::Failed(error)) => Err(error),
                Err(refusal) => return Err(refusal),
            },
        };
        Ok(KnownSocket { socket, remembered })
    }
}
