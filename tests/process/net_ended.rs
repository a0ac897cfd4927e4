//! Handshakes that end while a vault or a registry is being asked: they end at once, with their
//! question, whatever ends them.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

use curve_tun::net::{Listener, Socket};
use curve_tun::vault::Vault;
use curve_tun::{Error, Result};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support::gate::wait_until;
use support::turnstile::{
    Flood, PER_SOURCE, SOON, SlowRegistry, SlowVault, Turnstile, Who, alone, anybody, connect, descriptors,
    dial, listener, memory_vault, say_hello, wait_for_end,
};

/// Runs a handshake whose vault hangs, and ends it with `end`; returns the result of the handshake.
fn ended_by(end: impl FnOnce(&Listener, &Socket, TcpStream) + Send) -> Result<()> {
    let (vault, turnstile) = SlowVault::new();
    let (key, held) = (vault.public_key(), Arc::downgrade(&vault));
    let listener = listener(vault, anybody());
    let before = held.strong_count();
    let hung = [(); 3].map(|()| say_hello(listener.port(), key).0);
    let [first, second, third] = &[(); 3].map(|()| listener.transport_accept(SOON).unwrap());
    let result = thread::scope(|scope| {
        // Two calls hang; the third question waits for its turn. Each question and each handshake
        // holds the vault.
        let others = [first, second].map(|socket| scope.spawn(move || socket.handshake(SOON)));
        turnstile.wait_until_begun(2);
        let handshake = scope.spawn(|| third.handshake(SOON));
        wait_until("the question was not asked", || held.strong_count() == before + 2 * 3);
        let [one, two, three] = hung;
        end(&listener, third, three);
        let result = handshake.join().unwrap();
        assert_eq!(turnstile.begun().len(), 2, "a question was put that nobody waited for");
        // Another try reports the actual state.
        assert_eq!(third.handshake(SOON), Err(Error::Closed));
        assert!(held.strong_count() <= before + 2 * 2, "the question is kept");
        drop((one, two));
        for other in others {
            // Their clients have left.
            assert!(other.join().unwrap().is_err());
        }
        turnstile.let_through(2);
        result
    });
    wait_until("a question is kept", || held.strong_count() <= before);
    result
}

#[test]
fn a_handshake_of_its_own_thread_ends_at_once_whoever_ends_it() {
    let _alone = alone();
    let left = |_: &Listener, _: &Socket, stream: TcpStream| drop(stream);
    assert_eq!(ended_by(left), Err(Error::Closed));
    let half = |_: &Listener, _: &Socket, stream: TcpStream| stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ended_by(half), Err(Error::Closed));
    let reset = |_: &Listener, _: &Socket, stream: TcpStream| drop(Flood::Reset.treat(stream));
    assert_eq!(ended_by(reset), Err(Error::Closed));
    let shutdown = |_: &Listener, socket: &Socket, _: TcpStream| socket.shutdown();
    assert_eq!(ended_by(shutdown), Err(Error::Closed));
    let evicted = |listener: &Listener, _: &Socket, stream: TcpStream| {
        // The earlier ones are evicted, too.
        let newcomers: Vec<_> = (0..PER_SOURCE).map(|_| dial(listener.port())).collect();
        let accepted: Vec<_> = newcomers.iter().map(|_| listener.transport_accept(SOON).unwrap()).collect();
        drop((newcomers, accepted, stream));
    };
    assert_eq!(ended_by(evicted), Err(Error::TooManyHandshakes));
}

#[test]
fn clients_that_have_left_are_not_given_to_who_accepts_transports() {
    let _alone = alone();
    let vault = memory_vault();
    let key = vault.public_key();
    let listener = listener(vault, anybody());
    thread::scope(|scope| {
        for flood in [Flood::Closed, Flood::Reset] {
            for _ in 0..5 {
                assert!(flood.treat(say_hello(listener.port(), key).0).is_none());
            }
            let client = scope.spawn(|| connect(listener.port(), key));
            listener.transport_accept(SOON).unwrap().handshake(SOON).unwrap();
            client.join().unwrap().unwrap();
        }
    });
    drop(say_hello(listener.port(), key));
    assert_eq!(listener.transport_accept(Some(Duration::from_millis(1))).err(), Some(Error::Timeout));
}

#[test]
fn the_end_of_a_listener_ends_handshakes_whose_vault_hangs() {
    let _alone = alone();
    let (vault, turnstile) = SlowVault::new();
    let (key, held) = (vault.public_key(), Arc::downgrade(&vault));
    let listener = listener(vault, anybody());
    let before = held.strong_count();
    thread::scope(|scope| {
        let _client = say_hello(listener.port(), key);
        let socket = listener.transport_accept(SOON).unwrap();
        let handshake = scope.spawn(move || socket.handshake(SOON));
        turnstile.wait_until_begun(1);
        listener.shutdown();
        assert_eq!(handshake.join().unwrap(), Err(Error::Closed));
        turnstile.let_through(1);
    });
    wait_until("a question is kept", || held.strong_count() <= before);
}

#[test]
fn the_shutdown_of_a_listener_that_nobody_accepts_at_ends_what_it_has_begun() {
    let _alone = alone();
    let (vault, turnstile) = SlowVault::new();
    let (key, held) = (vault.public_key(), Arc::downgrade(&vault));
    let listener = listener(vault, anybody());
    let before = (held.strong_count(), descriptors());
    let clients: Vec<_> = (0..4).map(|_| say_hello(listener.port(), key).0).collect();
    // The driver begins the handshakes, and leaves.
    wait_until("the questions were not asked", || {
        assert!(listener.accept(Some(Duration::from_millis(1))).is_err());
        held.strong_count() == before.0 + 4
    });
    turnstile.wait_until_begun(2);
    listener.shutdown();
    clients.iter().for_each(wait_for_end);
    // Calls that have begun continue.
    assert_eq!(held.strong_count(), before.0 + 2);
    drop(clients);
    assert_eq!(descriptors(), before.1);
    turnstile.let_through(2);
    wait_until("a question is kept", || held.strong_count() <= before.0);
}

#[test]
fn a_client_that_says_all_and_closes_is_heard_though_the_registry_takes_its_time() {
    let _alone = alone();
    let vault = memory_vault();
    let key = vault.public_key();
    let turnstile = Arc::new(Turnstile::default());
    let passed = turnstile.clone();
    let registry = SlowRegistry { at_once: 2, judge: Box::new(move |_| passed.pass(Who::Honest)) };
    let listener = listener(vault, Arc::new(registry));
    thread::scope(|scope| {
        let accepted = scope.spawn(|| listener.accept(SOON).unwrap());
        let client = connect(listener.port(), key).unwrap();
        for n in 0..5u8 {
            client.send(&[n; 100], SOON).unwrap();
        }
        client.close();
        turnstile.wait_until_begun(1);
        turnstile.let_through(1);
        let server = accepted.join().unwrap();
        let mut buffer = [0; 200];
        for n in 0..5u8 {
            assert_eq!(server.recv(&mut buffer, SOON), Ok(100));
            assert_eq!(buffer[..100], [n; 100]);
        }
        assert_eq!(server.recv(&mut buffer, SOON), Err(Error::Closed));
    });
}
