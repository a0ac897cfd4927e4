//! What the tests share: an in-memory pair of peers.
#![allow(dead_code, reason = "each test file uses its part")]

use curve_tun::connection::{Connection, Options, Server};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, PublicKey};
use std::net::IpAddr;
use std::sync::Arc;

/// Where the in-memory client comes from.
pub const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// A server that knows one client, and that client's vault.
pub struct World {
    pub client_vault: Arc<MemoryVault>,
    pub server_vault: Arc<MemoryVault>,
    pub registry: Arc<MemoryRegistry>,
    pub server: Arc<Server>,
    pub options: Options,
}

impl World {
    pub fn new() -> World {
        World::with(Options::default())
    }

    pub fn with(options: Options) -> World {
        let client_vault = Arc::new(MemoryVault::generate().unwrap());
        let server_vault = Arc::new(MemoryVault::generate().unwrap());
        let registry = Arc::new(MemoryRegistry::new());
        registry.add(HOME.into(), client_vault.public_key());
        let server = Server::new(server_vault.clone(), registry.clone(), options.clone(), 0).unwrap();
        World { client_vault, server_vault, registry, server, options }
    }

    pub fn server_key(&self) -> PublicKey {
        self.server_vault.public_key()
    }

    /// Both ends of a new connection, before the first byte.
    pub fn pair(&self) -> (Connection, Connection) {
        let client = Connection::client(self.client_vault.clone(), self.server_key(), &self.options).unwrap();
        (client, Connection::server(&self.server, HOME).unwrap())
    }

    /// Both ends of an established connection.
    pub fn connected(&self) -> (Connection, Connection) {
        let (mut client, mut server) = self.pair();
        settle(&mut client, &mut server).unwrap();
        (client, server)
    }
}

/// Moves what `from` has to say to `to`; gives the bytes moved.
pub fn carry(from: &mut Connection, to: &mut Connection) -> Result<usize, Error> {
    let bytes = from.pending().to_vec();
    let mut taken = 0;
    while taken < bytes.len() {
        match to.read(&bytes[taken..])? {
            0 => break,
            count => {
                from.written(count);
                taken += count;
            }
        }
    }
    Ok(taken)
}

/// Carries bytes both ways until neither end has any to say, or a high-water mark stops them.
pub fn settle(a: &mut Connection, b: &mut Connection) -> Result<(), Error> {
    while carry(a, b)? + carry(b, a)? > 0 {}
    Ok(())
}

/// The next message, copied.
pub fn recv(connection: &mut Connection) -> Result<Vec<u8>, Error> {
    let message = connection.message()?.to_vec();
    connection.consume();
    Ok(message)
}
