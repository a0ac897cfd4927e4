//! Defects of a program's providers, and failures of the system, at a listener: each costs one
//! handshake, or a pause, and no more.

use crate::support::wrapped::{Before, Call, Wrapped};
use curve_tun::connection::{Connection, Options};
use curve_tun::net::{Connector, Listener, Socket, TimedServer, Timeout};
use curve_tun::registry::{Candidate, Registry};
use curve_tun::vault::{MemoryVault, Purpose, Vault};
use curve_tun::{Error, PublicKey, Result};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for everything expected; a test that takes this long has failed.
const SOON: Timeout = Some(Duration::from_secs(60));

/// The call in which a vault or a registry has its defect, the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Hello,
    Vouch,
    Verify,
    VaultDeferred,
    RegistryDeferred,
    MaxConcurrency,
}

struct Defective {
    at: At,
    deferred: bool,
    met: AtomicUsize,
}

impl Defective {
    fn pass(&self, at: At) {
        if at == self.at && self.met.fetch_add(1, Ordering::Relaxed) == 0 {
            panic!("a defect of the program's own, for a test");
        }
    }
}

impl Before for Defective {
    fn call(&self, call: &Call) -> Result<()> {
        if call.opens {
            self.pass(if call.purpose == Purpose::Hello { At::Hello } else { At::Vouch });
        }
        Ok(())
    }

    fn deferred(&self) -> bool {
        self.pass(At::VaultDeferred);
        self.deferred
    }

    fn max_concurrency(&self) -> Option<usize> {
        self.pass(At::MaxConcurrency);
        Some(2)
    }
}

struct Judge(Arc<Wrapped<Defective>>);

impl Registry for Judge {
    fn verify(&self, _: &Candidate) -> Result<bool> {
        self.0.before.pass(At::Verify);
        Ok(true)
    }

    fn deferred(&self) -> bool {
        self.0.before.pass(At::RegistryDeferred);
        self.0.before.deferred
    }
}

fn defective(at: At, deferred: bool) -> (Arc<Wrapped<Defective>>, Listener) {
    let vault = Wrapped::around(Defective { at, deferred, met: AtomicUsize::new(0) });
    let registry = Arc::new(Judge(vault.clone()));
    let server = TimedServer::new(vault.clone(), registry, Options::default()).unwrap();
    (vault, Listener::bind("127.0.0.1", 0, server).unwrap())
}

fn connect(listener: &Listener, key: PublicKey) -> Result<Socket> {
    let vault = Arc::new(MemoryVault::generate().unwrap());
    Connector::new(vault).server_key(key).timeout(SOON).connect("127.0.0.1", listener.port())
}

/// Whether a client is served: its tunnel is established, and carries a message.
fn served(listener: &Listener, key: PublicKey) -> bool {
    let echoed = connect(listener, key).and_then(|socket| socket.recv(&mut [0; 8], SOON));
    assert_ne!(echoed, Err(Error::Timeout), "the client hung");
    echoed == Ok(5)
}

const ALL: [At; 6] =
    [At::Hello, At::Vouch, At::Verify, At::VaultDeferred, At::RegistryDeferred, At::MaxConcurrency];

fn cases() -> impl Iterator<Item = (At, bool)> {
    let both = ALL.into_iter().flat_map(|at| [(at, false), (at, true)]);
    both.filter(|case| *case != (At::MaxConcurrency, false))
}

#[test]
fn a_panic_of_a_vault_or_registry_ends_one_handshake_of_a_listener() {
    for (at, deferred) in cases() {
        let (vault, listener) = defective(at, deferred);
        let key = vault.public_key();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Ok(socket) = listener.accept(SOON) {
                        socket.send(b"hello", SOON).unwrap();
                    }
                });
            }
            let outcomes = [(); 3].map(|()| served(&listener, key));
            listener.shutdown();
            assert_eq!(outcomes, [false, true, true], "{at:?}, {deferred:?}");
        });
    }
}

#[test]
fn a_panic_of_a_vault_or_registry_is_an_error_of_a_handshake() {
    for (at, deferred) in cases() {
        let (vault, listener) = defective(at, deferred);
        let key = vault.public_key();
        thread::scope(|scope| {
            let clients = [(); 2].map(|()| scope.spawn(|| connect(&listener, key)));
            let mut results = [(); 2].map(|()| listener.transport_accept(SOON).unwrap().handshake(SOON));
            // Which of the two came first is not specified.
            results.sort_by_key(Result::is_ok);
            assert_eq!(results, [Err(Error::Internal), Ok(())], "{at:?}, {deferred:?}");
            clients.into_iter().for_each(|client| drop(client.join().unwrap()));
        });
    }
}

#[test]
fn a_panic_of_one_that_gives_way_is_not_the_newcomers() {
    let vault = Arc::new(MemoryVault::generate().unwrap());
    let key = vault.public_key();
    let options = Options::default().handshakes_max(1);
    struct Anybody;
    impl Registry for Anybody {
        fn verify(&self, _: &Candidate) -> Result<bool> {
            Ok(true)
        }
    }
    let timed = TimedServer::new(vault, Arc::new(Anybody), options).unwrap();
    let mut first = Connection::server(timed.server(), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))).unwrap();
    first.on_evict(|| panic!("a defect of the program's own, for a test")).unwrap();
    let listener = Listener::bind("127.0.0.1", 0, timed.clone()).unwrap();
    thread::scope(|scope| {
        let accepted = scope.spawn(|| listener.accept(SOON).map(drop));
        connect(&listener, key).unwrap();
        assert_eq!(accepted.join().unwrap(), Ok(()));
    });
    assert_eq!(first.tick(0), Err(Error::TooManyHandshakes));
    assert_eq!(timed.server().handshakes_in_flight(), 0);
}

#[test]
#[allow(unsafe_code, reason = "what the system does to a socket is the case under test")]
fn a_system_that_gives_no_connection_is_asked_ten_times_a_second() {
    for accept in [Listener::accept, Listener::transport_accept] {
        let (_, listener) = defective(At::Hello, false);
        // SAFETY: a call on an open descriptor. From now on each accept of the system fails.
        assert_eq!(unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) }, 0);
        let begun = Instant::now();
        for _ in 0..4 {
            let error = accept(&listener, SOON).err();
            assert_eq!(error, Some(Error::Io));
            assert!(Error::Io.is_transient());
        }
        // Three pauses; an upper bound is not checked.
        assert!(begun.elapsed() >= Duration::from_millis(300), "after {:?}", begun.elapsed());
        // It does not spin while it pauses: it waits for the deadline of the call.
        assert_eq!(accept(&listener, Some(Duration::from_millis(1))).err(), Some(Error::Timeout));
        listener.shutdown();
        assert_eq!(accept(&listener, SOON).err(), Some(Error::Closed));
        assert!(!Error::Closed.is_transient());
    }
}
