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
use std::fmt;
use std::sync::Arc;

/// Connects to servers: holds the client's identity, which keys of servers it trusts, and how long
/// connecting may take.
///
/// A server's key is given ([`Connector::server_key`]), or looked up by name
/// ([`Connector::server_keys`]); a file of known servers may veto it
/// ([`Connector::known_servers`]). [`ServerTrust`] decides. One connector makes any number of
/// connections.
///
/// ```
/// # use curve_tun::net::{Connector, Listener};
/// # use curve_tun::registry::MemoryRegistry;
/// # use curve_tun::vault::{MemoryVault, Vault};
/// # use std::{sync::Arc, thread, time::Duration};
/// # let server = Arc::new(MemoryVault::generate()?);
/// # let vault = Arc::new(MemoryVault::generate()?);
/// # let server_key = server.public_key();
/// # let registry = Arc::new(MemoryRegistry::new());
/// # registry.add_anywhere(vault.public_key());
/// # let listener = Listener::builder(server, registry).bind("127.0.0.1", 0)?;
/// # let port = listener.port();
/// # let serving = thread::spawn(move || listener.accept(None)?.send(b"hello", None));
/// let connector = Connector::new(vault).server_key(server_key).timeout(Duration::from_secs(5));
/// let socket = connector.connect("127.0.0.1", port)?;
/// # let mut buffer = [0; curve_tun::protocol::MESSAGE_MAX];
/// # assert_eq!(socket.recv(&mut buffer, None), Ok(5));
/// # serving.join().unwrap()?;
/// # Ok::<(), curve_tun::Error>(())
/// ```
#[must_use = "it connects when it is told to"]
pub struct Connector<'a> {
    vault: Arc<dyn Vault>,
    key: Option<PublicKey>,
    names: Option<&'a dyn ServerKeys>,
    known: Option<Known<'a>>,
    options: Options,
    timeout: Timeout,
}

/// The servers that a client knows, and what decides about a server used for the first time.
struct Known<'a> {
    servers: &'a KnownServers,
    first_use: Box<dyn Fn(&PublicKey) -> FirstUse + Send + Sync + 'a>,
}

/// A tunnel to a server that is known, or is used for the first time.
#[derive(Debug)]
pub struct KnownSocket {
    /// The tunnel.
    pub socket: Socket,
    /// Whether this call wrote the server's key down. If writing it failed, the tunnel stands all
    /// the same, since the server has proven the key; the next use of that server is a first use
    /// again. The error is that of the registry file: `ReadOnly`, `PermissionDenied`, `DiskFull`,
    /// `Timeout`, `BadRegistryFile`, ...
    pub remembered: Result<bool>,
}

impl<'a> Connector<'a> {
    /// Returns a connector whose identity is the key in `vault`, with the default options and no
    /// time limit other than [`Options::handshake_timeout`].
    pub fn new(vault: Arc<dyn Vault>) -> Connector<'a> {
        let options = Options::default();
        Connector { vault, key: None, names: None, known: None, options, timeout: None }
    }

    /// Sets the server's key. No keys are looked up by name then.
    pub fn server_key(mut self, key: PublicKey) -> Connector<'a> {
        self.key = Some(key);
        self
    }

    /// Looks the server's keys up by its name, in a registry file or in DNS. Of several, as while a
    /// key is being replaced, each is tried in turn.
    pub fn server_keys(mut self, keys: &'a dyn ServerKeys) -> Connector<'a> {
        self.names = Some(keys);
        self
    }

    /// Refuses a key that differs from those that `servers` lists for the server.
    ///
    /// If `servers` does not list the server at all, `first_use` decides about the key that is
    /// offered, before anything is sent with that key. A key to be remembered is written down once
    /// the server has proven that it holds the secret.
    pub fn known_servers(
        mut self,
        servers: &'a KnownServers,
        first_use: impl Fn(&PublicKey) -> FirstUse + Send + Sync + 'a,
    ) -> Connector<'a> {
        self.known = Some(Known { servers, first_use: Box::new(first_use) });
        self
    }

    /// Sets the options of the connections.
    pub fn options(mut self, options: Options) -> Connector<'a> {
        self.options = options;
        self
    }

    /// Sets how long connecting may take, the look-up of keys and the trial of each included;
    /// `None` sets no limit other than [`Options::handshake_timeout`].
    pub fn timeout(mut self, timeout: impl Into<Timeout>) -> Connector<'a> {
        self.timeout = timeout.into();
        self
    }

    /// Connects to `host`, an address or a name, at `port`, and opens a tunnel to a server that
    /// proves to hold the secret of a trusted key.
    ///
    /// All addresses of a name are tried, slow ones side by side (RFC 8305). Blocks until
    /// connected, at most for the timeout and, with each key, for [`Options::handshake_timeout`].
    ///
    /// # Errors
    /// `NameNotFound`, `ConnectionRefused`, `Unreachable` and other errors of the operating system;
    /// `Timeout`; `WrongServerKey`, `BadPacket`, `Closed`, `WeakKey`, or an error of the vault;
    /// `NotFound` if no key is known for the server's name, and other errors of
    /// [`ServerKeys::server_keys`]; `KeyChanged`, `KeyDenied`, `UnknownPeer` if the known servers
    /// speak against the key ([`Connector::connect_known`] says more), and errors of reading their
    /// file; `InvalidArgument` for options out of range, if neither a key nor keys by name are set,
    /// and, where the server's name is needed, for a host that is neither an address nor a name and
    /// for port 0.
    pub fn connect(&self, host: &str, port: u16) -> Result<Socket> {
        self.connect_known(host, port).map(|made| made.socket).map_err(Refusal::error)
    }

    /// Connects as [`Connector::connect`] does, and also returns the keys of a refusal, or whether
    /// the key was remembered.
    ///
    /// If the file of known servers cannot be written, the key is not remembered, but the tunnel
    /// stands: [`KnownSocket::remembered`]. Waits up to ten seconds more for other writers of the
    /// file.
    ///
    /// # Errors
    /// A [`Refusal`]; `Failed` with the errors of [`Connector::connect`]. `Changed` and `Denied`
    /// also if another program meanwhile remembered a different key for the server, or denied the
    /// key; the connection is closed then.
    pub fn connect_known(&self, host: &str, port: u16) -> std::result::Result<KnownSocket, Refusal> {
        let name = || ServerName::new(host, port);
        let known = || self.known.as_ref().ok_or(Error::Internal);
        let deadline = Deadline::after(self.timeout);
        let mut trust = ServerTrust::new(self.key, self.names.is_some(), self.known.is_some());
        let mut made = None;
        loop {
            let told = match trust.step() {
                TrustStep::Find => {
                    let names = self.names.ok_or(Error::Internal)?;
                    name()
                        .and_then(|name| names.server_keys(&name, deadline.remaining()))
                        .map(TrustAnswer::Found)
                }
                TrustStep::LookUp(key) => {
                    let servers = known()?.servers;
                    name().and_then(|name| servers.look_up(&name, &key)).map(TrustAnswer::Known)
                }
                TrustStep::FirstUse(key) => Ok(TrustAnswer::FirstUse((known()?.first_use)(&key))),
                TrustStep::Connect(key) => {
                    let (vault, left) = (self.vault.clone(), deadline.remaining());
                    Socket::connect_to(host, port, vault, key, &self.options, left).map(|socket| {
                        made = Some(socket);
                        TrustAnswer::Connected
                    })
                }
                TrustStep::Remember(key) => match known()?.servers.remember(&name()?, &key) {
                    Ok(()) => Ok(TrustAnswer::Remembered),
                    Err(refusal) => Ok(TrustAnswer::Failed(refusal)),
                },
                TrustStep::Use { remembered } => {
                    let socket = made.ok_or(Error::Internal)?;
                    return Ok(KnownSocket { socket, remembered });
                }
                TrustStep::Refuse(refusal) => return Err(refusal),
            };
            trust.answer(told.unwrap_or_else(|error| TrustAnswer::Failed(error.into())))?;
        }
    }
}

impl fmt::Debug for Connector<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("server_key", &self.key)
            .field("options", &self.options)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
