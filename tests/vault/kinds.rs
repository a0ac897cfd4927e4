//! Every kind of vault follows the rules of all vaults, and serves at both ends of a tunnel.

use crate::support::agent::AgentProcess;
use crate::support::softhsm;
use crate::support::vault_suite;
use curve_tun::connection::Options;
use curve_tun::net::{Connector, Listener, TimedServer, Timeout};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{AgentVault, Cost, FileVault, MemoryVault, Pkcs11Vault, Vault};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A low cost, for tests.
const CHEAP: Cost = Cost { operations: 1, memory: 8192 };

const SOON: Timeout = Some(Duration::from_secs(60));

/// Runs the suite, and a tunnel over sockets with this vault at both ends.
fn serves(vault: impl Vault + 'static, nonces: usize) {
    vault_suite::all(&vault, nonces);
    let (key, vault, registry) = (vault.public_key(), Arc::new(vault), MemoryRegistry::new());
    registry.add_anywhere(key);
    let server = TimedServer::new(vault.clone(), Arc::new(registry), Options::default()).unwrap();
    let listener = Listener::bind("127.0.0.1", 0, server).unwrap();
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let options = Options::default();
            Connector::new(vault.clone())
                .server_key(key)
                .options(options.clone())
                .timeout(SOON)
                .connect("127.0.0.1", listener.port())
                .unwrap()
        });
        let server = listener.accept(SOON).unwrap();
        let client = client.join().unwrap();
        assert_eq!((client.peer_key(), server.peer_key()), (Ok(key), Ok(key)));
        for (from, to) in [(&client, &server), (&server, &client)] {
            from.send(b"a message", SOON).unwrap();
            assert_eq!(to.recv_with(SOON, |message| Ok(message.to_vec())), Ok(b"a message".to_vec()));
        }
    });
}

#[test]
fn a_vault_in_memory() {
    serves(MemoryVault::generate().unwrap(), 10_000);
}

#[test]
fn a_vault_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    serves(FileVault::create(&folder.path().join("v"), None, CHEAP).unwrap(), 10_000);
    serves(FileVault::open(&folder.path().join("v"), None).unwrap(), 10_000);
}

#[test]
fn a_vault_in_a_file_sealed_by_a_passphrase() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v");
    serves(FileVault::create(&path, Some(b"correct horse"), CHEAP).unwrap(), 10_000);
    serves(FileVault::open(&path, Some(b"correct horse")).unwrap(), 10_000);
}

#[test]
fn a_vault_in_an_agent() {
    let folder = tempfile::tempdir().unwrap();
    let (path, socket) = (folder.path().join("v"), folder.path().join("s"));
    drop(FileVault::create(&path, None, CHEAP).unwrap());
    let _agent = AgentProcess::start(&path, &socket);
    serves(AgentVault::open(&socket).unwrap(), 2_000);
}

#[test]
fn a_vault_in_a_token() {
    let hsm = softhsm::SoftHsm::get();
    let vault = Pkcs11Vault::generate(&hsm.uri("suite", "key"), Some(softhsm::PIN)).unwrap();
    serves(vault, 400);
}
