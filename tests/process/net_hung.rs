//! Vaults and registries that hang: they occupy few threads, hold up nobody else and delay no
//! deadline. Questions waiting for them continue when they answer again, and are dropped when
//! nobody waits any more.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

use curve_tun::connection::Options;
use curve_tun::net::{Connector, Listener, Socket, TimedServer, Timeout};
use curve_tun::registry::{Candidate, MemoryRegistry, Registry};
use curve_tun::vault::{LongTermNonce, MemoryVault, Purpose, Vault};
use curve_tun::{Error, PublicKey, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;
use support::gate::{Gate, GatedVault, PATIENCE, asking, wait_until};

const SOON: Timeout = Some(PATIENCE);
/// The time of a handshake that cannot succeed.
const SHORT: Duration = Duration::from_millis(300);

struct GatedRegistry(Arc<Gate>);

impl Registry for GatedRegistry {
    fn verify(&self, _: &Candidate) -> Result<bool> {
        self.0.pass();
        Ok(true)
    }

    fn deferred(&self) -> bool {
        true
    }

    fn max_concurrency(&self) -> usize {
        2
    }
}

/// Allows one test at a time, since each counts the process's threads.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn anybody() -> Arc<dyn Registry> {
    struct Anybody;
    impl Registry for Anybody {
        fn verify(&self, _: &Candidate) -> Result<bool> {
            Ok(true)
        }
    }
    Arc::new(Anybody)
}

fn memory_vault() -> Arc<MemoryVault> {
    Arc::new(MemoryVault::generate().unwrap())
}

fn listener(vault: Arc<dyn Vault>, registry: Arc<dyn Registry>, options: Options) -> Listener {
    Listener::bind("127.0.0.1", 0, TimedServer::new(vault, registry, options).unwrap()).unwrap()
}

fn connect(port: u16, vault: Arc<dyn Vault>, key: PublicKey, timeout: Timeout) -> Result<Socket> {
    Connector::new(vault).server_key(key).timeout(timeout).connect("127.0.0.1", port)
}

/// Accepts and drops sockets until the listener is shut down.
fn accept_all<'scope>(scope: &'scope Scope<'scope, '_>, listener: &'scope Listener) {
    scope.spawn(|| while !matches!(listener.accept(SOON), Err(Error::Closed | Error::Timeout)) {});
}

#[test]
fn a_clients_vault_that_hangs_keeps_few_threads_and_is_used_again() {
    let _alone = alone();
    let (server_vault, (vault, gate)) = (memory_vault(), GatedVault::new(4));
    let key = server_vault.public_key();
    let listener = listener(server_vault, anybody(), Options::default());
    let freed = Arc::downgrade(&vault);
    thread::scope(|scope| {
        accept_all(scope, &listener);
        let port = listener.port();
        for _ in 0..3 {
            thread::scope(|scope| {
                for _ in 0..20 {
                    let vault = vault.clone();
                    scope.spawn(move || {
                        assert_eq!(connect(port, vault, key, Some(SHORT)).err(), Some(Error::Timeout));
                    });
                }
            });
            assert_eq!((gate.most(), gate.calls()), (4, 4));
            // The system leaves some out of its list while others end.
            wait_until("there are other threads than four", || asking() == 4);
        }
        // A vault that answers is not held up.
        let (other, open) = GatedVault::new(1);
        open.open();
        for _ in 0..5 {
            connect(port, other.clone(), key, SOON).unwrap();
        }
        gate.open();
        connect(port, vault.clone(), key, SOON).unwrap();
        drop(vault);
        wait_until("the vault is kept", || freed.strong_count() == 0);
        wait_until("a thread is left", || asking() == 0);
        listener.shutdown();
    });
    assert_eq!(gate.calls(), 5, "what was given up was not asked later");
}

#[test]
fn a_servers_vault_that_hangs_keeps_few_threads_and_no_handshake_beyond_its_deadline() {
    let _alone = alone();
    let (vault, gate) = GatedVault::new(3);
    let key = vault.public_key();
    let brief = Options::default().handshake_timeout(SHORT);
    let hung = listener(vault.clone(), anybody(), brief);
    let well_vault = memory_vault();
    let well_key = well_vault.public_key();
    let well = listener(well_vault, anybody(), Options::default());
    thread::scope(|scope| {
        accept_all(scope, &hung);
        accept_all(scope, &well);
        let end = || connect(hung.port(), memory_vault(), key, SOON).err();
        let clients: Vec<_> = (0..20).map(|_| scope.spawn(end)).collect();
        gate.wait_until_inside(3);
        connect(well.port(), memory_vault(), well_key, SOON).unwrap();
        for client in clients {
            // What a client sees of a server that ends the connection without a cookie.
            assert_eq!(client.join().unwrap(), Some(Error::WrongServerKey));
        }
        assert_eq!((gate.most(), gate.calls()), (3, 3));
        wait_until("there are other threads than three", || asking() == 3);
        gate.open();
        wait_until("it is not used again", || connect(hung.port(), memory_vault(), key, SOON).is_ok());
        hung.shutdown();
        well.shutdown();
    });
}

#[test]
fn a_registry_that_hangs_keeps_few_threads_and_lets_all_in_when_it_answers() {
    let _alone = alone();
    let (vault, gate) = (memory_vault(), Arc::new(Gate::default()));
    let key = vault.public_key();
    let listener = listener(vault, Arc::new(GatedRegistry(gate.clone())), Options::default());
    thread::scope(|scope| {
        let port = listener.port();
        let clients: Vec<_> =
            (0..10).map(|_| scope.spawn(move || connect(port, memory_vault(), key, SOON).unwrap())).collect();
        let accepting = scope.spawn(|| (0..10).map(|_| listener.accept(SOON).unwrap()).collect::<Vec<_>>());
        gate.wait_until_inside(2);
        let clients: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        assert!(asking() <= 2);
        gate.open();
        let servers = accepting.join().unwrap();
        assert_eq!((gate.most(), gate.calls()), (2, 10));
        drop((clients, servers));
    });
}

#[test]
fn questions_that_wait_go_with_their_listener() {
    let _alone = alone();
    let (vault, gate) = GatedVault::new(2);
    let (key, freed) = (vault.public_key(), Arc::downgrade(&vault));
    let listener = listener(vault, anybody(), Options::default());
    thread::scope(|scope| {
        let port = listener.port();
        for _ in 0..10 {
            scope.spawn(move || connect(port, memory_vault(), key, SOON).err());
        }
        thread::scope(|scope| {
            let accepting = scope.spawn(|| listener.accept(SOON).err());
            // Each question holds the vault, and so does the server. Two calls must have begun, or
            // they would be taken back.
            wait_until("not all have asked", || freed.strong_count() > 10);
            gate.wait_until_inside(2);
            listener.shutdown();
            assert_eq!(accepting.join().unwrap(), Some(Error::Closed));
        });
        drop(listener);
        // The two whose calls hang.
        wait_until("questions that nobody waits for are kept", || freed.strong_count() <= 2);
        gate.open();
        wait_until("the vault is kept", || freed.strong_count() == 0);
    });
    assert_eq!(gate.calls(), 4, "two questions, each of which opens and seals");
    wait_until("a thread is left", || asking() == 0);
}

#[test]
fn a_vault_that_does_not_say_otherwise_is_asked_256_times_at_once() {
    struct Unsaid(Arc<GatedVault>);
    impl Vault for Unsaid {
        fn public_key(&self) -> PublicKey {
            self.0.public_key()
        }

        fn box_seal(
            &self,
            p: Purpose,
            k: &PublicKey,
            message: &[u8],
            out: &mut [u8],
        ) -> Result<LongTermNonce> {
            self.0.box_seal(p, k, message, out)
        }

        fn box_open(
            &self,
            p: Purpose,
            k: &PublicKey,
            nonce: &[u8],
            sealed: &[u8],
            out: &mut [u8],
        ) -> Result<()> {
            self.0.box_open(p, k, nonce, sealed, out)
        }

        fn deferred(&self) -> bool {
            true
        }
    }
    let _alone = alone();
    let (server_vault, (vault, gate)) = (memory_vault(), GatedVault::new(1));
    let (key, vault) = (server_vault.public_key(), Arc::new(Unsaid(vault)));
    let options = Options::default().handshake_timeout(PATIENCE);
    let registry = MemoryRegistry::new();
    registry.add_anywhere(vault.public_key());
    let listener = listener(server_vault, Arc::new(registry), options.clone());
    let connected = AtomicUsize::new(0);
    thread::scope(|scope| {
        accept_all(scope, &listener);
        for _ in 0..300 {
            scope.spawn(|| {
                let port = listener.port();
                Connector::new(vault.clone())
                    .server_key(key)
                    .options(options.clone())
                    .timeout(SOON)
                    .connect("127.0.0.1", port)
                    .unwrap();
                connected.fetch_add(1, Ordering::Relaxed);
            });
        }
        gate.wait_until_inside(256);
        // The others have time to ask.
        thread::sleep(Duration::from_secs(1));
        gate.open();
        wait_until("not all are connected", || connected.load(Ordering::Relaxed) == 300);
        listener.shutdown();
    });
    assert_eq!((gate.most(), gate.calls()), (256, 300));
}
