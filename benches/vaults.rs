//! Handshakes per second with each kind of vault, the same kind at both ends, each with its own
//! key, and its own process where the kind has one: one handshake after another on one thread, of
//! strangers and of peers that the vaults remember, without sockets. Tokens are SoftHSM's, if it is
//! installed.
//!
//! Prints rows `SYSTEM,METRIC,SIZE,VALUE,UNIT`; `make bench` collects them.

#[path = "../tests/support/mod.rs"]
mod support;

use curve_tun::connection::{Connection, ConnectionState, Options, Server};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{AgentVault, Cost, FileVault, MemoryVault, Pkcs11Vault, Vault};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::agent::AgentProcess;
use support::softhsm;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// How long each row is measured: briefly and once under `cargo test`.
fn extent() -> Duration {
    let measured = std::env::args().any(|argument| argument == "--bench");
    Duration::from_millis(if measured { 400 } else { 0 })
}

/// Both ends of a kind of vault.
type Ends = (Arc<dyn Vault>, Arc<dyn Vault>);

/// Moves all pending bytes from one end to the other.
fn carry(from: &mut Connection, to: &mut Connection) {
    let bytes = from.send_buffer().to_vec();
    assert_eq!(to.feed(&bytes).unwrap(), bytes.len());
    from.sent(bytes.len());
}

struct World {
    ends: Ends,
    registry: Arc<MemoryRegistry>,
    server: Arc<Server>,
    options: Options,
}

impl World {
    fn new(ends: Ends) -> World {
        let registry = Arc::new(MemoryRegistry::new());
        registry.add_anywhere(ends.0.public_key());
        let options = Options::default();
        let server = Server::new(ends.1.clone(), registry.clone(), options.clone(), 0).unwrap();
        World { ends, registry, server, options }
    }

    fn handshake(&self) {
        let server_key = self.ends.1.public_key();
        let mut client = Connection::client(self.ends.0.clone(), server_key, &self.options).unwrap();
        let mut server = Connection::server(&self.server, HOME).unwrap();
        while server.state() != ConnectionState::Connected {
            carry(&mut client, &mut server);
            self.answer(&mut server, &*self.ends.1);
            carry(&mut server, &mut client);
            self.answer(&mut client, &*self.ends.0);
        }
    }

    fn answer(&self, end: &mut Connection, vault: &dyn Vault) {
        if let Some(request) = end.request().cloned() {
            end.answer(request.perform(vault, &*self.registry)).unwrap();
        }
    }

    fn forget(&self) {
        self.ends.0.forget_shared_keys();
        self.ends.1.forget_shared_keys();
    }

    /// Returns handshakes per second, running `before` ahead of each.
    fn rate(&self, before: impl Fn()) -> f64 {
        self.handshake();
        let (extent, start, mut count) = (extent(), Instant::now(), 0);
        while count == 0 || start.elapsed() < extent {
            before();
            self.handshake();
            count += 1;
        }
        f64::from(count) / start.elapsed().as_secs_f64()
    }
}

fn rows(kind: &str, ends: Ends) {
    let world = World::new(ends);
    let (first, again) = (world.rate(|| world.forget()), world.rate(|| {}));
    println!("curve_tun,{kind}_vault_first,0,{first:.2},1/s\ncurve_tun,{kind}_vault_again,0,{again:.2},1/s");
}

fn both<V: Vault + 'static>(make: impl Fn(&str) -> V) -> Ends {
    (Arc::new(make("client")), Arc::new(make("server")))
}

fn main() {
    rows("memory", both(|_| MemoryVault::generate().unwrap()));
    let folder = tempfile::tempdir().unwrap();
    rows("file", both(|name| FileVault::create(&folder.path().join(name), None, Cost::default()).unwrap()));
    let agents = ["client", "server"].map(|name| {
        let (vault, socket) = (folder.path().join(name), folder.path().join(format!("{name}.socket")));
        AgentProcess::start(&vault, &socket)
    });
    let open = |name: &str| AgentVault::open(&folder.path().join(format!("{name}.socket"))).unwrap();
    rows("agent", both(open));
    drop(agents);
    if !softhsm::is_installed() {
        eprintln!("without SoftHSM (softhsm2) there is no figure for PKCS#11");
        return;
    }
    let hsm = softhsm::SoftHsm::get();
    let generate = |name: &str| Pkcs11Vault::generate(&hsm.uri("suite", name), Some(softhsm::PIN)).unwrap();
    rows("token", both(generate));
}
