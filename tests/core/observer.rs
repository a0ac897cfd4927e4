//! A server's observer is told of each handshake once: which client was let in, or turned away, and
//! why.

use crate::support;
use crate::support::providers::{LaterVault, TestRegistry};
use crate::support::wrapped::{Before, Call, Wrapped};
use crate::support::{HOME, World, carry, settle, take};
use curve_tun::connection::{
    Answer, Connection, HandshakeEvent, HandshakeOutcome as Outcome, Options, Server,
};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{MemoryVault, Purpose, Vault};
use curve_tun::{Error, PublicKey, Result};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Weak};

/// The events reported to an observer, in order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<HandshakeEvent>>>);

impl Told {
    fn by(server: &Server) -> Told {
        let told = Told::default();
        let events = told.0.clone();
        server.observe(move |event| events.lock().unwrap().push(event.clone())).unwrap();
        told
    }

    fn take(&self) -> Vec<(IpAddr, Option<PublicKey>, Outcome)> {
        let events = std::mem::take(&mut *self.0.lock().unwrap());
        events.into_iter().map(|event| (event.address, event.key, event.outcome)).collect()
    }

    /// Returns the only event, which must be of a client from home.
    fn only(&self) -> (Option<PublicKey>, Outcome) {
        let [(HOME, key, outcome)] = self.take()[..] else { panic!("not one event of a client from home") };
        (key, outcome)
    }
}

fn refused(error: Error) -> (Option<PublicKey>, Outcome) {
    (None, Outcome::Refused(error))
}

/// A vault that fails, or panics, at some boxes.
struct Failing {
    at: Purpose,
    fails: fn() -> Result<()>,
    deferred: bool,
}

impl Before for Failing {
    fn call(&self, call: &Call) -> Result<()> {
        if call.purpose == self.at { (self.fails)() } else { Ok(()) }
    }

    fn deferred(&self) -> bool {
        self.deferred
    }
}

fn failing(at: Purpose, deferred: bool, fails: fn() -> Result<()>) -> World {
    let client = Arc::new(MemoryVault::generate().unwrap());
    let registry = MemoryRegistry::new();
    registry.add(HOME.into(), client.public_key());
    let vault = Wrapped::around(Failing { at, fails, deferred });
    World::of(client, vault, Arc::new(registry), Options::default())
}

/// Carries bytes both ways, with the server's requests answered; returns the server's error, and
/// the client's error at the end that follows.
fn shake(world: &World) -> (Error, Error) {
    let (mut client, mut server) = world.pair();
    loop {
        let carried = settle(&mut client, &mut server).and_then(|()| {
            let Some(request) = server.request().cloned() else { return Ok(()) };
            server.answer(request.perform(&**world.server.vault(), &**world.server.registry()))
        });
        if let Err(error) = carried {
            take(&mut client);
            return (error, client.transport_ended());
        }
    }
}

#[test]
fn who_is_let_in_is_told_with_his_key() {
    let world = World::new();
    let told = Told::by(&world.server);
    let (client, mut server) = world.connected();
    let key = world.client_vault.public_key();
    assert_eq!(told.only(), (Some(key), Outcome::Accepted));
    assert_eq!(world.server.handshakes_in_flight(), 0);
    // Nothing after the handshake concerns the observer.
    server.close();
    drop((client, server));
    assert_eq!(told.take(), []);
}

#[test]
fn a_vault_that_fails_is_no_impostor_to_the_server() {
    for deferred in [false, true] {
        for (says, is) in [
            ((|| Err(Error::VaultFailed)) as fn() -> Result<()>, Error::VaultFailed),
            (|| Err(Error::DiskFull), Error::DiskFull),
            (|| Err(Error::PinLocked), Error::PinLocked),
            // An error that is not one of a vault.
            (|| Err(Error::WouldBlock), Error::VaultFailed),
        ] {
            for (at, seen) in [
                (Purpose::Hello, Error::WrongServerKey),
                (Purpose::Cookie, Error::WrongServerKey),
                // The client is connected by then.
                (Purpose::Vouch, Error::Closed),
            ] {
                let world = failing(at, deferred, says);
                let told = Told::by(&world.server);
                assert_eq!(shake(&world), (is, seen), "{at:?}, {deferred:?}");
                assert_eq!(told.only(), refused(is), "{at:?}, {deferred:?}");
            }
        }
    }
}

#[test]
fn who_is_refused_by_the_registry_is_told_with_his_key() {
    for deferred in [false, true] {
        for (verdict, error) in [
            (Ok(false), Error::UnknownPeer),
            (Err(Error::RegistryFailed), Error::RegistryFailed),
            (Err(Error::NotValidated), Error::NotValidated),
        ] {
            let world = World::asking(Arc::new(TestRegistry::new(verdict, deferred)));
            let told = Told::by(&world.server);
            assert_eq!(shake(&world), (error, Error::Closed));
            assert_eq!(told.only(), (Some(world.client_vault.public_key()), Outcome::Refused(error)));
        }
    }
}

/// A stranger, a client that expects another server, and no bytes at all.
#[test]
fn each_way_to_fail_is_told_once() {
    let world = World::new();
    let told = Told::by(&world.server);

    let mut server = world.accept();
    assert_eq!(server.feed(b"GET / HTTP/1.1\r\n\r\n"), Err(Error::BadPacket));
    assert_eq!(server.feed(b"more"), Err(Error::Closed));
    drop(server);
    assert_eq!(told.only(), refused(Error::BadPacket));

    let other = MemoryVault::generate().unwrap().public_key();
    let mut client = Connection::client(world.client_vault.clone(), other, &world.options).unwrap();
    assert_eq!(carry(&mut client, &mut world.accept()), Err(Error::BadPacket));
    assert_eq!(told.only(), refused(Error::BadPacket));

    let mut server = world.accept();
    let deadline = server.tick(5).unwrap().unwrap();
    assert_eq!(server.tick(deadline), Err(Error::Timeout));
    assert_eq!(told.only(), refused(Error::Timeout));

    assert_eq!(world.accept().transport_ended(), Error::Closed);
    assert_eq!(told.only(), refused(Error::Closed));

    world.accept().close();
    assert_eq!(told.only(), refused(Error::Closed));

    drop(world.accept());
    assert_eq!(told.only(), refused(Error::Closed));

    // One whose vault is being asked.
    let world = failing(Purpose::Hello, true, || Ok(()));
    let told = Told::by(&world.server);
    let (mut client, mut server) = world.pair();
    settle(&mut client, &mut server).unwrap();
    assert_eq!(server.answer(Answer::Verdict(true)), Err(Error::InvalidArgument));
    assert_eq!(told.take(), []);
    assert_eq!(server.answer(Answer::Failed(Error::FileNotFound)), Err(Error::FileNotFound));
    assert_eq!(told.only(), refused(Error::FileNotFound));
}

#[test]
fn who_gives_way_is_told_as_evicted_whatever_ends_his_end() {
    let options = Options::default().handshakes_max(1);
    let ends: [fn(Connection); 5] = [
        |mut server| assert_eq!(server.feed(b"x"), Err(Error::TooManyHandshakes)),
        |mut server| assert_eq!(server.tick(0), Err(Error::TooManyHandshakes)),
        |mut server| assert_eq!(server.transport_ended(), Error::TooManyHandshakes),
        |mut server| server.close(),
        drop,
    ];
    for end in ends {
        let world = World::with(options.clone());
        let told = Told::by(&world.server);
        let mut first = world.accept();
        first.on_evict(|| {}).unwrap();
        let second = world.accept();
        assert_eq!(told.take(), [], "nothing is told on the newcomer's thread");
        end(first);
        assert_eq!(told.only(), (None, Outcome::Evicted));

        // None can be evicted: the new handshake itself is turned away.
        let elsewhere = "::ffff:192.0.2.9".parse().unwrap();
        let newcomer = Connection::server(&world.server, elsewhere).map(|_| ());
        assert_eq!(newcomer, Err(Error::TooManyHandshakes));
        let outcome = Outcome::Refused(Error::TooManyHandshakes);
        assert_eq!(told.take(), [("192.0.2.9".parse().unwrap(), None, outcome)]);
        drop(second);
        assert_eq!(told.only(), refused(Error::Closed));
    }
}

/// A vault that panics: its handshake ends, and its permit is freed.
#[test]
fn a_vault_that_panics_is_told_and_keeps_no_place() {
    let world = failing(Purpose::Hello, false, || panic!("the vault"));
    let told = Told::by(&world.server);
    let (mut client, mut server) = world.pair();
    let carried = catch_unwind(AssertUnwindSafe(|| carry(&mut client, &mut server)));
    assert!(carried.is_err());
    assert_eq!(world.server.handshakes_in_flight(), 0);
    assert_eq!(told.only(), refused(Error::Internal));
    drop(server);
    assert_eq!(told.take(), []);
}

#[test]
fn an_observer_may_use_the_server_and_even_make_connections() {
    let world = World::with(Options::default().handshakes_max(1));
    let weak: Weak<Server> = Arc::downgrade(&world.server);
    let in_flight = Arc::new(Mutex::new(Vec::new()));
    let seen = in_flight.clone();
    let observe = move |event: &HandshakeEvent| {
        let server = weak.upgrade().unwrap();
        seen.lock().unwrap().push(server.handshakes_in_flight());
        server.tick(0).unwrap();
        assert_eq!(server.observe(|_| {}), Err(Error::WrongState));
        if event.outcome == Outcome::Accepted {
            drop(Connection::server(&server, HOME).unwrap());
        }
    };
    world.server.observe(observe).unwrap();
    let _pair = world.connected();
    assert_eq!(*in_flight.lock().unwrap(), [0, 0], "the place was free by then");
    drop(world.accept());
    assert_eq!(in_flight.lock().unwrap().len(), 3);
}

#[test]
fn an_observer_that_panics_harms_nobody() {
    let world = World::new();
    world.server.observe(|_| panic!("the observer")).unwrap();
    let (mut client, mut server) = world.connected();
    client.send(b"all is well").unwrap();
    carry(&mut client, &mut server).unwrap();
    assert_eq!(support::recv(&mut server).unwrap(), b"all is well");
    assert_eq!(world.accept().feed(&[0; 200]), Err(Error::BadPacket));
    drop(world.accept());
    assert_eq!(world.server.handshakes_in_flight(), 0);
}

#[test]
fn a_server_has_one_observer_for_good() {
    let world = World::new();
    let first = Told::by(&world.server);
    let held = Arc::new(());
    let second = held.clone();
    assert_eq!(world.server.observe(move |_| _ = &second), Err(Error::WrongState));
    assert_eq!(Arc::strong_count(&held), 1, "who is not wanted is dropped");
    world.connected();
    assert_eq!(first.take().len(), 1);
}

/// A handshake whose registry is slow is over when the registry has answered.
#[test]
fn nothing_is_told_before_the_handshake_is_over() {
    let client = Arc::new(MemoryVault::generate().unwrap());
    let vault = Arc::new(LaterVault(MemoryVault::generate().unwrap()));
    let registry = Arc::new(TestRegistry::new(Ok(true), true));
    let world = World::of(client, vault, registry, Options::default());
    let told = Told::by(&world.server);
    let (mut client, mut server) = world.pair();
    while server.peer_key().is_none() {
        assert_eq!(told.take(), []);
        settle(&mut client, &mut server).unwrap();
        let Some(request) = server.request().cloned() else { continue };
        server.answer(request.perform(&**world.server.vault(), &**world.server.registry())).unwrap();
    }
    assert_eq!(told.only(), (Some(world.client_vault.public_key()), Outcome::Accepted));
}
