//! A server and its clients, whose vaults are watched for nonces that repeat.

use curve_tun::connection::{Connection, Options, Server};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{LongTermNonce, MemoryVault, Purpose, Vault};
use curve_tun::{PublicKey, Result};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// A vault that fails the run if it returns a nonce twice.
pub struct WatchedVault {
    vault: MemoryVault,
    given: Mutex<HashSet<LongTermNonce>>,
}

impl WatchedVault {
    fn new() -> Arc<WatchedVault> {
        Arc::new(WatchedVault { vault: MemoryVault::generate().unwrap(), given: Mutex::default() })
    }
}

impl Vault for WatchedVault {
    fn public_key(&self) -> PublicKey {
        self.vault.public_key()
    }

    fn box_seal(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<LongTermNonce> {
        let nonce = self.vault.box_seal(purpose, peer, message, sealed)?;
        assert!(self.given.lock().unwrap().insert(nonce), "a long-term nonce twice");
        Ok(nonce)
    }

    fn box_open(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &[u8],
        sealed: &[u8],
        message: &mut [u8],
    ) -> Result<()> {
        self.vault.box_open(purpose, peer, nonce, sealed, message)
    }
}

/// A server, a client that it knows, and one that it does not.
pub struct World {
    pub server: Arc<Server>,
    server_key: PublicKey,
    pub known: Arc<WatchedVault>,
    pub stranger: Arc<WatchedVault>,
    options: Options,
}

impl World {
    pub fn new(options: Options) -> World {
        let (vault, known, stranger) = (WatchedVault::new(), WatchedVault::new(), WatchedVault::new());
        let registry = Arc::new(MemoryRegistry::new());
        registry.add(HOME.into(), known.public_key());
        let server_key = vault.public_key();
        let server = Server::new(vault, registry, options.clone(), 0).unwrap();
        World { server, server_key, known, stranger, options }
    }

    /// Both ends of a new connection, before the first byte.
    pub fn pair(&self, client: &Arc<WatchedVault>) -> (Connection, Connection) {
        let client = Connection::client(client.clone(), self.server_key, &self.options).unwrap();
        (client, Connection::server(&self.server, HOME).unwrap())
    }

    /// Both ends of an established connection.
    pub fn connected(&self) -> (Connection, Connection) {
        let (mut client, mut server) = self.pair(&self.known);
        for _ in 0..2 {
            carry(&mut client, &mut server);
            carry(&mut server, &mut client);
        }
        (client, server)
    }
}

/// Moves all pending bytes of `from`.
fn carry(from: &mut Connection, to: &mut Connection) {
    let bytes = from.send_buffer().to_vec();
    from.sent(bytes.len());
    assert_eq!(to.feed(&bytes), Ok(bytes.len()));
}
