//! Shared by the tests: an in-memory pair of peers, and peers of other makes.
#![allow(dead_code, reason = "each program uses its part")]

#[cfg(feature = "cli")]
pub mod agent;
pub mod by_hand;
#[cfg(all(feature = "capi", target_os = "linux"))]
pub mod c;
#[cfg(feature = "dns")]
pub mod dns;
#[cfg(feature = "net")]
pub mod gate;
#[cfg(feature = "net")]
pub mod independent;
pub mod knot;
#[cfg(target_arch = "x86_64")]
pub mod memcheck;
pub mod memory;
pub mod needs;
pub mod providers;
pub mod random_source;
pub mod recorded;
pub mod registry;
pub mod sodium;
#[cfg(feature = "pkcs11")]
pub mod softhsm;
#[cfg(feature = "net")]
pub mod turnstile;
pub mod vault_suite;
pub mod wrapped;

use curve_tun::connection::{Connection, Options, Server};
use curve_tun::registry::{MemoryRegistry, Registry};
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, PublicKey};
use std::net::IpAddr;
use std::sync::Arc;

/// Returns the name of a test for `--exact`, of the module with this `module_path!()`.
pub fn full_name(module_path: &str, test: &str) -> String {
    let in_program = module_path.split_once("::").map_or(String::new(), |(_, module)| format!("{module}::"));
    in_program + test
}

/// The address of the in-memory client.
pub const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// Bytes of each frame of the handshake.
pub const HELLO_FRAME: usize = 130;
pub const COOKIE_FRAME: usize = 170;
pub const INITIATE_FRAME: usize = 226;
/// A message frame's bytes beyond its message.
pub const FRAME_OVERHEAD: usize = 34;

/// A server that knows one client, and that client's vault.
pub struct World {
    pub client_vault: Arc<dyn Vault>,
    pub server_vault: Arc<dyn Vault>,
    pub server: Arc<Server>,
    pub options: Options,
}

impl World {
    pub fn new() -> World {
        World::with(Options::default())
    }

    pub fn with(options: Options) -> World {
        let client_vault = Arc::new(MemoryVault::generate().unwrap());
        let registry = MemoryRegistry::new();
        registry.add(HOME.into(), client_vault.public_key());
        World::of(client_vault, Arc::new(MemoryVault::generate().unwrap()), Arc::new(registry), options)
    }

    /// Makes a world of these vaults, whose server asks this registry.
    pub fn of(
        client_vault: Arc<dyn Vault>,
        server_vault: Arc<dyn Vault>,
        registry: Arc<dyn Registry>,
        options: Options,
    ) -> World {
        let server = Server::new(server_vault.clone(), registry, options.clone(), 0).unwrap();
        World { client_vault, server_vault, server, options }
    }

    /// Makes a world of memory vaults, whose server asks this registry.
    pub fn asking(registry: Arc<dyn Registry>) -> World {
        let vault = || Arc::new(MemoryVault::generate().unwrap());
        World::of(vault(), vault(), registry, Options::default())
    }

    pub fn server_key(&self) -> PublicKey {
        self.server_vault.public_key()
    }

    /// Makes a server's end before the first byte.
    pub fn accept(&self) -> Connection {
        Connection::server(&self.server, HOME).unwrap()
    }

    /// Both ends of a new connection, before the first byte.
    pub fn pair(&self) -> (Connection, Connection) {
        let client = Connection::client(self.client_vault.clone(), self.server_key(), &self.options).unwrap();
        (client, self.accept())
    }

    /// Both ends of an established connection.
    pub fn connected(&self) -> (Connection, Connection) {
        let (mut client, mut server) = self.pair();
        settle(&mut client, &mut server).unwrap();
        (client, server)
    }
}

/// Takes the output of `from`, as a transport would.
pub fn take(from: &mut Connection) -> Vec<u8> {
    let bytes = from.send_buffer().to_vec();
    from.sent(bytes.len());
    bytes
}

/// Moves the output of `from` to `to`; returns the number of bytes moved.
pub fn carry(from: &mut Connection, to: &mut Connection) -> Result<usize, Error> {
    let mut moved = 0;
    loop {
        let pending = from.send_buffer();
        let bytes = pending[..pending.len().min(1 << 16)].to_vec();
        let count = if bytes.is_empty() { 0 } else { to.feed(&bytes)? };
        from.sent(count);
        moved += count;
        if bytes.is_empty() || count < bytes.len() {
            return Ok(moved);
        }
    }
}

/// Carries bytes both ways until neither end has any left, or a high-water mark stops them.
pub fn settle(a: &mut Connection, b: &mut Connection) -> Result<(), Error> {
    while carry(a, b)? + carry(b, a)? > 0 {}
    Ok(())
}

/// Returns a copy of the next message.
pub fn recv(connection: &mut Connection) -> Result<Vec<u8>, Error> {
    let message = connection.peek()?.to_vec();
    connection.consume();
    Ok(message)
}

/// Returns every waiting message.
pub fn recv_all(connection: &mut Connection) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| recv(connection).ok()).collect()
}

/// A message of this size that differs from one of another `salt`.
pub fn message(size: usize, salt: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 31 + salt % 251 * 7 + i / 251) as u8).collect()
}

/// Every encoding of a point of small order: 0, 1, the two of order 8, p - 1, p and p + 1, each with and without the
/// bit that X25519 ignores.
pub fn weak_keys() -> Vec<PublicKey> {
    let order_8 = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ];
    let little = |first: u8, middle: u8, last: u8| {
        let mut key = [middle; 32];
        (key[0], key[31]) = (first, last);
        key
    };
    let mut keys = vec![little(0, 0, 0), little(1, 0, 0)];
    keys.extend([0xec, 0xed, 0xee].map(|first| little(first, 0xff, 0x7f)));
    for text in order_8 {
        let mut key = [0; 32];
        for (byte, at) in key.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        }
        keys.push(key);
    }
    let with_high_bit = keys.clone().into_iter().map(|mut key| {
        key[31] |= 0x80;
        key
    });
    keys.iter().copied().chain(with_high_bit).map(PublicKey).collect()
}
