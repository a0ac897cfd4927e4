//! Sockets with vaults and registries that answer later, fail, hang or panic.

use crate::support::wrapped::{Before, Call, Wrapped};
use curve_tun::connection::Options;
use curve_tun::net::{Connector, Listener, Socket, TimedServer, Timeout};
use curve_tun::registry::{Candidate, Registry};
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, PublicKey, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SOON: Timeout = Some(Duration::from_secs(20));

/// A remote vault: before each box it does what it was set to do.
struct Far {
    does: fn() -> Result<()>,
    calls: AtomicUsize,
}

type Distant = Wrapped<Far>;

impl Distant {
    fn new(does: fn() -> Result<()>) -> Arc<Distant> {
        Wrapped::around(Far { does, calls: AtomicUsize::new(0) })
    }
}

impl Before for Far {
    fn call(&self, _: &Call) -> Result<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        (self.does)()
    }
}

struct Judge(fn(&Candidate) -> Result<bool>);

impl Registry for Judge {
    fn verify(&self, candidate: &Candidate) -> Result<bool> {
        (self.0)(candidate)
    }

    fn deferred(&self) -> bool {
        true
    }
}

fn listener(vault: Arc<dyn Vault>, registry: Judge, options: Options) -> Listener {
    let server = TimedServer::new(vault, Arc::new(registry), options).unwrap();
    Listener::bind("127.0.0.1", 0, server).unwrap()
}

fn connect(listener: &Listener, vault: Arc<dyn Vault>, key: PublicKey, timeout: Timeout) -> Result<Socket> {
    Connector::new(vault).server_key(key).timeout(timeout).connect("127.0.0.1", listener.port())
}

fn slowly() -> Result<()> {
    thread::sleep(Duration::from_millis(50));
    Ok(())
}

#[test]
fn handshakes_with_a_distant_vault_and_registry_run_side_by_side() {
    let vault = Distant::new(slowly);
    let listener = listener(vault.clone(), Judge(|_| slowly().map(|()| true)), Options::default());
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let socket = connect(&listener, Distant::new(slowly), vault.public_key(), SOON).unwrap();
                socket.send(b"hi", SOON).unwrap();
                assert_eq!(socket.recv(&mut [0; 8], SOON), Ok(2));
            });
        }
        // One thread accepts all of them.
        for _ in 0..40 {
            let socket = listener.accept(SOON).unwrap();
            socket.send(b"hi", SOON).unwrap();
            socket.recv(&mut [0; 8], SOON).unwrap();
        }
    });
    // The server's vault alone would take 40 * 3 * 50 ms one call after the other.
    assert!(begun.elapsed() < Duration::from_secs(6), "one after the other: {:?}", begun.elapsed());
    assert_eq!(vault.before.calls.load(Ordering::Relaxed), 3 * 40);
}

#[test]
fn a_vault_that_hangs_costs_its_connection_the_deadline_and_no_more() {
    fn hang() -> Result<()> {
        thread::sleep(Duration::from_secs(3600));
        Ok(())
    }
    let vault = Arc::new(MemoryVault::generate().unwrap());
    let listener = listener(vault.clone(), Judge(|_| Ok(true)), Options::default());
    thread::scope(|scope| {
        scope.spawn(|| listener.accept(SOON).unwrap());
        let hung =
            connect(&listener, Distant::new(hang), vault.public_key(), Some(Duration::from_millis(100)));
        assert_eq!(hung.err(), Some(Error::Timeout));
        connect(&listener, Distant::new(|| Ok(())), vault.public_key(), SOON).unwrap();
    });
}

#[test]
fn a_registry_that_fails_panics_or_refuses_ends_that_client_and_the_next_is_served() {
    let vault = Arc::new(MemoryVault::generate().unwrap());
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let judge = Judge(|_| match ASKED.fetch_add(1, Ordering::Relaxed) {
        0 => Err(Error::RegistryFailed),
        1 => panic!("a registry's own defect"),
        2 => Ok(false),
        _ => Ok(true),
    });
    let listener = listener(vault.clone(), judge, Options::default());
    thread::scope(|scope| {
        let accepted = scope.spawn(|| listener.accept(SOON).unwrap());
        for _ in 0..3 {
            let client = Arc::new(MemoryVault::generate().unwrap());
            let refused = connect(&listener, client, vault.public_key(), SOON).unwrap();
            assert_eq!(refused.recv(&mut [0; 8], SOON), Err(Error::Closed));
        }
        let client = Arc::new(MemoryVault::generate().unwrap());
        let served = connect(&listener, client.clone(), vault.public_key(), SOON).unwrap();
        let accepted = accepted.join().unwrap();
        assert_eq!(accepted.peer_key(), Ok(client.public_key()));
        served.send(b"hi", SOON).unwrap();
        assert_eq!(accepted.recv(&mut [0; 8], SOON), Ok(2));
    });
}

#[test]
fn a_vault_that_fails_says_so_to_its_own_side_alone() {
    let vault = Arc::new(MemoryVault::generate().unwrap());
    let listener = listener(vault.clone(), Judge(|_| Ok(true)), Options::default());
    thread::scope(|scope| {
        scope.spawn(|| {
            let socket = listener.transport_accept(SOON).unwrap();
            assert_eq!(socket.handshake(SOON), Err(Error::Closed));
        });
        let failing = Distant::new(|| Err(Error::VaultFailed));
        let failed = connect(&listener, failing, vault.public_key(), SOON);
        assert_eq!(failed.err(), Some(Error::VaultFailed));
    });
}
