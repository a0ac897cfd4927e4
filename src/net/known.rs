//! Connecting to servers whose keys are known by name.

use super::deadline::Deadline;
use super::{Socket, Timeout};
use crate::connection::Options;
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::registry::{FirstUse, KnownServers, Refusal, ServerKeys, ServerName};
use crate::vault::Vault;
use std::sync::Arc;

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
    /// down once the server has proven to hold its secret.
    ///
    /// # Errors
    /// A [`Refusal`]; `Failed` with the errors of [`Socket::connect`], of the registry file, and with
    /// `InvalidArgument` for a host that is no address or name, or for port 0.
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
    ) -> std::result::Result<Socket, Refusal> {
        let name = ServerName::new(host, port)?;
        let deadline = Deadline::after(timeout);
        let remember = known.check(&name, &server_key, first_use)?;
        let socket = Socket::connect(host, port, vault, server_key, options, deadline.remaining())?;
        if remember {
            known.remember(&name, &server_key)?;
        }
        Ok(socket)
    }
}
