//! Floods against slow vaults and registries: a flood from one address delays only its own source,
//! and its requests are dropped as soon as they are evicted or their client has left.
//!
//! The tests depend on no clock. The vault and the registry pace them: each call waits until the
//! test lets it continue, and the tests count how many calls for others come between an honest
//! client's question and its answer.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

use curve_tun::registry::{Candidate, Registry, TellVerdict};
use curve_tun::vault::Vault;
use curve_tun::{Error, Result};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use support::gate::{asking, wait_until};
use support::turnstile::{
    FLOODER, Flood, HELLOS, PER_SOURCE, SOON, SlowRegistry, SlowVault, Turnstile, Who, accept_all, alone,
    anybody, connect, descriptors, listener, memory_vault, say_all, say_hello, wait_for_end,
};

fn a_flood_of_hellos(flood: Flood) {
    let _alone = alone();
    // Before any call is over, the flooder's source gets both concurrent calls, or half of them if
    // it abandons them.
    let hung = if flood == Flood::Kept { 2 } else { 1 };
    let (vault, turnstile) = SlowVault::new();
    let (key, held) = (vault.public_key(), Arc::downgrade(&vault));
    let listener = listener(vault, anybody());
    thread::scope(|scope| {
        accept_all(scope, &listener);
        let (port, before, holders) = (listener.port(), descriptors(), held.strong_count());
        let mut kept = Vec::new();
        for n in 1..=HELLOS {
            let (stream, _) = say_hello(port, key);
            turnstile.wait_until_begun(n.min(hung));
            kept.extend(flood.treat(stream));
            if kept.len() > PER_SOURCE {
                // While it floods, its own oldest handshake is evicted.
                wait_for_end(&kept.remove(0));
            }
        }
        // Beside the hanging calls, at most the handshakes in flight wait for their turn.
        wait_until("questions of the flood are kept", || {
            held.strong_count() <= holders + hung + kept.len() && descriptors() <= before + 2 * kept.len()
        });
        assert_eq!(turnstile.begun(), vec![Who::Flooder; hung]);
        // No more are asked for the flooder.
        let flood_asked = turnstile.asked.load(Ordering::SeqCst);
        let asked = |question| turnstile.asked.load(Ordering::SeqCst) >= flood_asked + question;

        let honest = scope.spawn(move || connect(port, key).unwrap());
        let hello = turnstile.others_before(1, || asked(1));
        drop(honest.join().unwrap());
        let vouch = turnstile.others_before(2, || asked(2));
        assert!(hello <= 1 && vouch <= 1, "it waits for one other, {flood:?}: {hello}, {vouch}");
        // All remaining calls may continue.
        turnstile.let_through(HELLOS);
        drop(kept);
        wait_until("a question is kept", || held.strong_count() <= holders);
        wait_until("a descriptor is kept", || descriptors() <= before);
        listener.shutdown();
    });
    let state = turnstile.state.lock().unwrap();
    println!("{flood:?}: {} calls, {} descriptors at most", state.begun.len(), state.most_descriptors);
}

#[test]
fn a_flood_of_hellos_that_stay_waits_behind_itself() {
    a_flood_of_hellos(Flood::Kept);
}

#[test]
fn a_flood_of_hellos_that_leave_leaves_nothing() {
    a_flood_of_hellos(Flood::Closed);
}

#[test]
fn a_flood_of_hellos_that_are_reset_leaves_nothing() {
    a_flood_of_hellos(Flood::Reset);
}

#[test]
fn descriptors_stay_within_the_handshakes_in_flight() {
    let _alone = alone();
    let (vault, turnstile) = SlowVault::new();
    let key = vault.public_key();
    turnstile.let_through(usize::MAX);
    let listener = listener(vault, anybody());
    let before = descriptors();
    thread::scope(|scope| {
        accept_all(scope, &listener);
        for _ in 0..HELLOS {
            drop(say_hello(listener.port(), key));
        }
        connect(listener.port(), key).unwrap();
        listener.shutdown();
    });
    let most = turnstile.state.lock().unwrap().most_descriptors;
    // In addition: one being accepted, one at the flooder's end, one that lists them, and two of
    // the honest client.
    assert!(most <= before + PER_SOURCE + 5, "{most} descriptors, {before} before");
}

#[test]
fn a_flood_by_one_with_a_key_waits_behind_itself_in_the_registry() {
    let _alone = alone();
    for flood in [Flood::Kept, Flood::Closed, Flood::Reset] {
        // A client that has sent its initiate and closes may have sent everything it had.
        let hung = if flood == Flood::Reset { 1 } else { 2 };
        let vault = memory_vault();
        let key = vault.public_key();
        let turnstile = Arc::new(Turnstile::default());
        let passed = turnstile.clone();
        let judge = move |address| {
            passed.pass(if address == IpAddr::V4(FLOODER) { Who::Flooder } else { Who::Honest })
        };
        let registry = Arc::new(SlowRegistry { at_once: 2, judge: Box::new(judge) });
        let held = Arc::downgrade(&registry);
        let listener = listener(vault, registry);
        thread::scope(|scope| {
            accept_all(scope, &listener);
            let (port, before, holders) = (listener.port(), descriptors(), held.strong_count());
            let mut kept = Vec::new();
            for n in 1..=HELLOS {
                let stream = say_all(port, key);
                turnstile.wait_until_begun(n.min(hung));
                kept.extend(flood.treat(stream));
            }
            wait_until("questions of the flood are kept", || {
                held.strong_count() <= holders + hung + PER_SOURCE
                    && descriptors() <= before + kept.len() + PER_SOURCE
            });
            let waiting = held.strong_count();
            let honest = connect(port, key).unwrap();
            let others = turnstile.others_before(1, || held.strong_count() > waiting);
            assert!(others <= 1, "it waits for one other, {flood:?}: {others}");
            turnstile.let_through(HELLOS);
            drop((kept, honest));
            wait_until("a question is kept", || held.strong_count() <= holders);
            wait_until("a descriptor is kept", || descriptors() <= before);
            listener.shutdown();
        });
    }
}

#[test]
fn calls_that_nobody_waits_for_take_no_more_than_half_of_what_a_registry_works_on() {
    const AT_ONCE: usize = 6;
    let _alone = alone();
    let vault = memory_vault();
    let key = vault.public_key();
    let turnstile = Arc::new(Turnstile::default());
    let passed = turnstile.clone();
    // Lookups for the flooder take for ever, as names under its control in DNS may.
    let judge = move |address| {
        if address == IpAddr::V4(FLOODER) {
            passed.pass(Who::Flooder);
        }
    };
    let listener = listener(vault, Arc::new(SlowRegistry { at_once: AT_ONCE, judge: Box::new(judge) }));
    thread::scope(|scope| {
        accept_all(scope, &listener);
        let port = listener.port();
        for _ in 0..10 * AT_ONCE {
            // Each ends as soon as its call has begun, or when no source has a turn.
            let begun = turnstile.begun().len();
            let stream = say_all(port, key);
            if begun < AT_ONCE / 2 {
                turnstile.wait_until_begun(begun + 1);
            }
            Flood::Reset.treat(stream);
        }
        let honest = connect(port, key).unwrap();
        honest.send(b"served", SOON).unwrap();
        assert_eq!(honest.recv(&mut [0; 8], SOON), Err(Error::Closed), "accepted and dropped");
        assert!(turnstile.begun().len() < AT_ONCE);
        turnstile.let_through(10 * AT_ONCE);
        listener.shutdown();
    });
}

/// A registry that answers later, and never for the flooder: like a DNS zone that does not answer.
struct Silent {
    asked: AtomicUsize,
    untold: Mutex<Vec<TellVerdict>>,
}

impl Registry for Silent {
    fn verify(&self, _: &Candidate) -> Result<bool> {
        panic!("it is not to be waited for")
    }

    fn verify_or_tell(&self, candidate: &Candidate, tell: TellVerdict) -> Option<Result<bool>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match candidate.address {
            address if address == IpAddr::V4(FLOODER) => self.untold.lock().unwrap().push(tell),
            // Both ways to answer.
            _ if self.asked.load(Ordering::SeqCst).is_multiple_of(2) => tell(Ok(true)),
            _ => return Some(Ok(true)),
        }
        None
    }

    fn blocks(&self) -> bool {
        false
    }

    fn deferred(&self) -> bool {
        true
    }

    fn max_concurrency(&self) -> usize {
        1
    }
}

#[test]
fn a_registry_that_does_not_block_is_asked_without_a_thread() {
    let _alone = alone();
    let vault = memory_vault();
    let key = vault.public_key();
    let registry = Arc::new(Silent { asked: AtomicUsize::new(0), untold: Mutex::default() });
    let listener = listener(vault, registry.clone());
    thread::scope(|scope| {
        accept_all(scope, &listener);
        let (port, before) = (listener.port(), descriptors());
        for n in 1..=HELLOS {
            let stream = say_all(port, key);
            wait_until("it was not asked", || registry.asked.load(Ordering::SeqCst) == n);
            drop(stream);
        }
        assert!(descriptors() <= before + PER_SOURCE);
        assert_eq!(asking(), 0);
        for _ in 0..4 {
            let honest = connect(port, key).unwrap();
            assert_eq!(honest.recv(&mut [0; 8], SOON), Err(Error::Closed), "accepted and dropped");
        }
        assert_eq!(asking(), 0);
        // A question that is dropped has failed.
        registry.untold.lock().unwrap().clear();
        wait_until("a handshake without an answer is kept", || descriptors() <= before);
        listener.shutdown();
    });
}
