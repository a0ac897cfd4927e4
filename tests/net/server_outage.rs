//! A server that cannot use its key, as its clients see it.

use crate::support::agent::AgentProcess;
use crate::support::softhsm::{PIN, Removable, SoftHsm};
use curve_tun::connection::Options;
use curve_tun::net::{Connector, Listener, Socket, TimedServer};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{AgentVault, Cost, FileVault, MemoryVault, Pkcs11Vault, Vault, exercise};
use curve_tun::{Error, PublicKey};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A server of this vault, and a client that it knows.
struct Service {
    listener: Arc<Listener>,
    server: thread::JoinHandle<()>,
    client: Arc<MemoryVault>,
    key: PublicKey,
}

impl Service {
    fn start(vault: Arc<dyn Vault>) -> Service {
        let (client, key) = (Arc::new(MemoryVault::generate().unwrap()), vault.public_key());
        let registry = MemoryRegistry::new();
        registry.add("127.0.0.0/8".parse().unwrap(), client.public_key());
        let server = TimedServer::new(vault, Arc::new(registry), Options::default()).unwrap();
        let listener = Arc::new(Listener::bind("127.0.0.1", 0, server).unwrap());
        let accepting = listener.clone();
        let server = thread::spawn(move || while accepting.accept(None).err() != Some(Error::Closed) {});
        Service { listener, server, client, key }
    }

    fn connect(&self) -> Result<Socket, Error> {
        let (port, options) = (self.listener.port(), Options::default());
        Connector::new(self.client.clone())
            .server_key(self.key)
            .options(options.clone())
            .connect("127.0.0.1", port)
    }

    /// Checks the error that its clients get while it cannot use its key.
    fn is_out_of_order(&self) {
        let error = self.connect().err().unwrap();
        assert_eq!(error, Error::WrongServerKey);
        assert!(error.is_transient(), "a client would give up");
        assert!(error.to_string().contains("its vault is out of order"), "{error}");
    }

    /// Makes a client try again as long as its errors allow; a busy machine may take more than one
    /// timeout of the vault.
    fn is_served_again(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        while let Err(error) = self.connect() {
            assert!(error.is_transient(), "a client would give up: {error}");
            assert!(Instant::now() < end, "{error}");
        }
    }

    fn end(self) {
        self.listener.shutdown();
        self.server.join().unwrap();
    }
}

#[test]
fn an_agent_that_is_down_or_has_another_key_is_named_as_a_cause() {
    let folder = tempfile::tempdir().unwrap();
    let cheap = Cost { operations: 1, memory: 8192 };
    let [vault, other] = ["vault", "other"].map(|name| {
        let path = folder.path().join(name);
        drop(FileVault::create(&path, None, cheap).unwrap());
        path
    });
    let socket = folder.path().join("socket");
    let agent = AgentProcess::start(&vault, &socket);
    let theirs = AgentVault::open_with_timeout(&socket, Duration::from_millis(500)).unwrap();
    let theirs = Arc::new(theirs);
    let service = Service::start(theirs.clone());
    service.connect().unwrap();
    agent.kill();
    service.is_out_of_order();
    assert_eq!(exercise(&*theirs), Err(Error::Timeout));
    let agent = AgentProcess::start(&other, &socket);
    service.is_out_of_order();
    assert_eq!(exercise(&*theirs), Err(Error::VaultFailed));
    assert!(agent.terminate().success());
    let _agent = AgentProcess::start(&vault, &socket);
    // A client that keeps trying is served when the key is usable again.
    service.is_served_again();
    service.end();
}

#[test]
fn a_token_that_is_away_is_named_as_a_cause() {
    let hsm = SoftHsm::get();
    let token = Removable::new("server", false);
    let uri = hsm.uri_by(&token.module, "suite", "server");
    let vault = Arc::new(Pkcs11Vault::generate(&uri, Some(PIN)).unwrap());
    let service = Service::start(vault.clone());
    service.connect().unwrap();
    token.take_away();
    service.is_out_of_order();
    assert_eq!(exercise(&*vault), Err(Error::NotFound));
    token.bring_back();
    assert_eq!(exercise(&*vault), Ok(()));
    service.connect().unwrap();
    service.end();
}

#[test]
fn any_vault_is_exercised() {
    let vault = MemoryVault::generate().unwrap();
    assert_eq!(exercise(&vault), Ok(()));
    let folder = tempfile::tempdir().unwrap();
    let cheap = Cost { operations: 1, memory: 8192 };
    assert_eq!(
        exercise(&FileVault::create(&folder.path().join("vault"), Some(b"x"), cheap).unwrap()),
        Ok(())
    );
}
