//! What every vault must do, whatever holds its key. Each function is one rule; [`all`] runs all of
//! them.

use super::sodium::{BoxKey, keypair};
use curve_tun::vault::{Purpose, Vault};
use curve_tun::{Error, PublicKey};
use std::collections::HashSet;

const PURPOSES: [Purpose; 2] = [Purpose::Cookie, Purpose::Vouch];

/// Checks all rules for `vault`; `nonces` is how many it has to return.
pub fn all(vault: &dyn Vault, nonces: usize) {
    what_it_seals_its_peer_opens(vault);
    what_its_peer_seals_it_opens(vault);
    a_hello_is_opened_and_never_sealed(vault);
    another_purpose_or_a_changed_byte_does_not_open(vault);
    lengths_that_do_not_fit_are_refused(vault);
    peers_of_low_order_are_refused(vault);
    nonces_are_distinct_over_threads(vault, nonces);
    a_vault_that_has_forgotten_its_peers_goes_on(vault);
}

pub fn what_it_seals_its_peer_opens(vault: &dyn Vault) {
    let (public, secret) = keypair();
    let shared = BoxKey::agree(&secret, &vault.public_key().0).unwrap();
    for purpose in PURPOSES {
        for size in [0, 1, 32, 128, 4096] {
            let (message, mut sealed) = (vec![size as u8; size], vec![0; size + 16]);
            let nonce = vault.box_seal(purpose, &PublicKey(public), &message, &mut sealed).unwrap();
            assert_eq!(shared.opened(&purpose.nonce(&nonce).unwrap(), &sealed), Some(message));
        }
    }
}

pub fn what_its_peer_seals_it_opens(vault: &dyn Vault) {
    let (public, secret) = keypair();
    let shared = BoxKey::agree(&secret, &vault.public_key().0).unwrap();
    for purpose in [Purpose::Hello, Purpose::Cookie, Purpose::Vouch] {
        for size in [0, 1, 32, 128, 4096] {
            let (message, mut opened) = (vec![size as u8; size], vec![0; size]);
            let nonce = vec![3; purpose.nonce_len()];
            let sealed = shared.sealed(&purpose.nonce(&nonce).unwrap(), &message);
            vault.box_open(purpose, &PublicKey(public), &nonce, &sealed, &mut opened).unwrap();
            assert_eq!(opened, message);
        }
    }
}

pub fn a_hello_is_opened_and_never_sealed(vault: &dyn Vault) {
    let peer = PublicKey(keypair().0);
    let sealed = vault.box_seal(Purpose::Hello, &peer, &[0; 64], &mut [0; 80]);
    assert_eq!(sealed, Err(Error::InvalidArgument));
}

pub fn another_purpose_or_a_changed_byte_does_not_open(vault: &dyn Vault) {
    let (public, secret) = keypair();
    let (peer, nonce) = (PublicKey(public), [3; 16]);
    let shared = BoxKey::agree(&secret, &vault.public_key().0).unwrap();
    let sealed = shared.sealed(&Purpose::Cookie.nonce(&nonce).unwrap(), b"four");
    let mut out = [0; 4];
    let mut open =
        |purpose, nonce: &[u8], sealed: &[u8]| vault.box_open(purpose, &peer, nonce, sealed, &mut out);
    assert_eq!(open(Purpose::Vouch, &nonce, &sealed), Err(Error::BadPacket));
    assert_eq!(open(Purpose::Cookie, &[4; 16], &sealed), Err(Error::BadPacket));
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 0x80;
        assert_eq!(open(Purpose::Cookie, &nonce, &changed), Err(Error::BadPacket), "byte {at}");
    }
    assert_eq!(open(Purpose::Cookie, &nonce, &sealed), Ok(()));
}

pub fn lengths_that_do_not_fit_are_refused(vault: &dyn Vault) {
    let peer = PublicKey(keypair().0);
    for len in [0, 15, 31, 33, 48] {
        let sealed = vault.box_seal(Purpose::Vouch, &peer, &[0; 16], &mut vec![0; len]);
        assert_eq!(sealed, Err(Error::InvalidArgument), "sealing 16 bytes into {len}");
        let opened = vault.box_open(Purpose::Vouch, &peer, &[0; 16], &vec![0; len], &mut [0; 16]);
        assert_eq!(opened, Err(Error::InvalidArgument), "opening {len} bytes into 16");
    }
    for (purpose, len) in [(Purpose::Hello, 16), (Purpose::Vouch, 8), (Purpose::Cookie, 0)] {
        let opened = vault.box_open(purpose, &peer, &vec![0; len], &[0; 32], &mut [0; 16]);
        assert_eq!(opened, Err(Error::InvalidArgument), "{purpose:?} with a nonce of {len}");
    }
}

pub fn peers_of_low_order_are_refused(vault: &dyn Vault) {
    for weak in super::weak_keys() {
        let sealed = vault.box_seal(Purpose::Vouch, &weak, &[0; 16], &mut [0; 32]);
        assert_eq!(sealed, Err(Error::WeakKey), "{weak}");
        let opened = vault.box_open(Purpose::Vouch, &weak, &[0; 16], &[0; 32], &mut [0; 16]);
        assert_eq!(opened, Err(Error::WeakKey), "{weak}");
    }
}

pub fn nonces_are_distinct_over_threads(vault: &dyn Vault, count: usize) {
    const THREADS: usize = 4;
    let peer = PublicKey(keypair().0);
    let draw = || -> Vec<[u8; 16]> {
        let seal = |_| vault.box_seal(Purpose::Vouch, &peer, &[], &mut [0; 16]).unwrap();
        (0..count.div_ceil(THREADS)).map(seal).collect()
    };
    let drawn: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(draw)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), drawn.len());
    // Counters are not visible: neighbours differ in about half of their bits, never in few.
    assert!(drawn.windows(2).all(|pair| {
        let difference = pair[0].iter().zip(&pair[1]).map(|(a, b)| (a ^ b).count_ones());
        difference.sum::<u32>() > 16
    }));
}

pub fn a_vault_that_has_forgotten_its_peers_goes_on(vault: &dyn Vault) {
    vault.forget_shared_keys();
    what_it_seals_its_peer_opens(vault);
}
