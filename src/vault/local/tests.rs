//! Threads that use one key side by side.

use super::{Agree, LocalKey};
use crate::crypto::{PublicKey, SecretKey, SharedKey, TAG_BYTES};
use crate::error::{Error, Result};
use crate::protocol::packet::{HELLO_COUNTER, HELLO_ZEROS, HelloBox, Vouch};
use crate::vault::{LongTermNonces, Purpose};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// How long a thread waits for the other before the test calls it locked out.
const PATIENCE: Duration = Duration::from_secs(60);

/// A key that agrees only while another thread is agreeing, too.
struct Together {
    secret: SecretKey,
    agreeing: Mutex<usize>,
    changed: Condvar,
}

impl Agree for Together {
    fn agree(&self, peer: &PublicKey) -> Result<SharedKey> {
        let mut agreeing = self.agreeing.lock().unwrap();
        *agreeing += 1;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(agreeing, PATIENCE, |agreeing| *agreeing < 2).unwrap();
        if waited.1.timed_out() { Err(Error::Timeout) } else { self.secret.agree(peer) }
    }
}

/// What a vault does with its long-term key.
type Work = fn(&LocalKey<Together>, &PublicKey, &SharedKey) -> Result<()>;

fn seal_vouch(key: &LocalKey<Together>, peer: &PublicKey, _: &SharedKey) -> Result<()> {
    let mut vouch: Vouch = [0; _];
    key.box_seal(Purpose::Vouch, peer, &[7; 32], &mut vouch).map(drop)
}

fn open_vouch(key: &LocalKey<Together>, peer: &PublicKey, shared: &SharedKey) -> Result<()> {
    let (nonce, mut vouch, mut message): ([u8; 16], Vouch, [u8; 32]) = ([9; 16], [0; _], [0; 32]);
    shared.seal(&Purpose::Vouch.nonce(&nonce)?, &[7; 32], &mut vouch);
    key.box_open(Purpose::Vouch, peer, &nonce, &vouch, &mut message)
}

fn answer_hello(key: &LocalKey<Together>, peer: &PublicKey, shared: &SharedKey) -> Result<()> {
    let mut hello: HelloBox = [0; HELLO_ZEROS.len() + TAG_BYTES];
    shared.seal(&Purpose::Hello.nonce(&HELLO_COUNTER)?, &HELLO_ZEROS, &mut hello);
    key.answer_hello(peer, &hello, &mut || Ok([0; _])).map(drop)
}

#[test]
fn no_lock_is_held_across_a_scalar_multiplication() {
    let all: [Work; 3] = [seal_vouch, open_vouch, answer_hello];
    for (first, second) in all.iter().flat_map(|first| all.iter().map(move |second| (first, second))) {
        let secret = SecretKey::generate().unwrap();
        let public = secret.public_key().unwrap();
        let together = Together { secret, agreeing: Mutex::new(0), changed: Condvar::new() };
        let key = LocalKey::of(together, public, LongTermNonces::new().unwrap());
        // Peers that are new to the key, or it would not have to agree.
        std::thread::scope(|scope| {
            for work in [first, second] {
                let (key, public) = (&key, &public);
                scope.spawn(move || {
                    let peer = SecretKey::generate().unwrap();
                    let shared = peer.agree(public).unwrap();
                    work(key, &peer.public_key().unwrap(), &shared).unwrap();
                });
            }
        });
    }
}
