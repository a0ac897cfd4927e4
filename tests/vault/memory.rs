//! The vault in memory, and the purposes of its boxes.

use crate::support::recorded::RecordedVault;
use crate::support::sodium::{keypair, public_of};
use crate::support::vault_suite;
use curve_tun::vault::{MemoryVault, Purpose, Vault};
use curve_tun::{Error, SecretKey};

#[test]
fn the_memory_vault_keeps_every_rule_of_vaults() {
    vault_suite::all(&MemoryVault::generate().unwrap(), 100_000);
}

#[test]
fn a_vault_over_a_secret_has_that_secrets_public_key() {
    let (public, secret) = keypair();
    assert_eq!(MemoryVault::from_secret(&secret).unwrap().public_key().0, public);
    let key = SecretKey::from_bytes(&secret).unwrap();
    let mut exposed = [0; 32];
    key.expose(&mut exposed);
    assert_eq!((exposed, key.public_key().unwrap().0), (secret, public));
    assert_eq!(public_of(&secret), public);
}

#[test]
fn generated_vaults_have_keys_of_their_own() {
    let keys = [(); 3].map(|()| MemoryVault::generate().unwrap().public_key());
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
}

/// The tests' own vault has to follow the rules that remain for a recording.
#[test]
fn the_recorded_vault_boxes_and_opens_as_a_vault_does() {
    let vault = RecordedVault { secret: keypair().1, nonce: [1; 16] };
    vault_suite::what_it_seals_its_peer_opens(&vault);
    vault_suite::what_its_peer_seals_it_opens(&vault);
    vault_suite::another_purpose_or_a_changed_byte_does_not_open(&vault);
    vault_suite::peers_of_low_order_are_refused(&vault);
}

#[test]
fn two_vaults_over_one_secret_do_not_give_the_same_nonces() {
    let (peer, secret) = keypair();
    let nonce = || {
        let vault = MemoryVault::from_secret(&secret).unwrap();
        vault.box_seal(Purpose::Vouch, &curve_tun::PublicKey(peer), &[], &mut [0; 16]).unwrap()
    };
    assert_ne!(nonce(), nonce());
}

#[test]
fn a_purpose_has_its_number_and_no_other_number_has_one() {
    for purpose in [Purpose::Hello, Purpose::Cookie, Purpose::Vouch] {
        assert_eq!(Purpose::from_code(purpose as u32), Ok(purpose));
    }
    for code in [0, 4, u32::MAX] {
        assert_eq!(Purpose::from_code(code), Err(Error::InvalidArgument));
    }
}

#[test]
fn a_vault_remembers_the_sixty_four_peers_that_it_met_last() {
    let vault = MemoryVault::generate().unwrap();
    let peers: Vec<_> = (0..=64).map(|_| MemoryVault::generate().unwrap()).collect();
    // Returns how many keys the vault agrees on to seal a vouch, which the peer then opens.
    let agreed = |peer: usize| {
        let peer = &peers[peer];
        let (mut sealed, mut opened) = ([0; 48], [0; 32]);
        let before = curve_tun::test_util::agreements();
        let nonce = vault.box_seal(Purpose::Vouch, &peer.public_key(), &[7; 32], &mut sealed).unwrap();
        let count = curve_tun::test_util::agreements() - before;
        peer.box_open(Purpose::Vouch, &vault.public_key(), &nonce, &sealed, &mut opened).unwrap();
        assert_eq!(opened, [7; 32]);
        count
    };
    (0..64).for_each(|peer| assert_eq!(agreed(peer), 1, "{peer} is new"));
    (0..64).for_each(|peer| assert_eq!(agreed(peer), 0, "{peer} is remembered"));
    assert_eq!(agreed(0), 0);
    assert_eq!(agreed(64), 1, "a new one takes the place of 1");
    assert_eq!([agreed(0), agreed(2), agreed(64)], [0; 3]);
    assert_eq!(agreed(1), 1, "and 1 comes back in the place of 3");
    assert_eq!([agreed(1), agreed(4), agreed(3)], [0, 0, 1]);
    vault.forget_shared_keys();
    assert_eq!([agreed(1), agreed(1), agreed(64)], [1, 0, 1]);
}

#[test]
fn a_forged_vouch_costs_the_same_and_changes_nothing_whether_or_not_its_peer_is_remembered() {
    let vault = MemoryVault::generate().unwrap();
    let peers: Vec<_> = (0..=64).map(|_| MemoryVault::generate().unwrap()).collect();
    let stranger = MemoryVault::generate().unwrap();
    // Returns the cost for the vault of a vouch in the name of `peer`, genuine or not: agreements
    // and openings.
    let cost = |sealed_by: &MemoryVault, peer: &MemoryVault| {
        let (mut sealed, mut opened) = ([0; 48], [0; 32]);
        let nonce = sealed_by.box_seal(Purpose::Vouch, &vault.public_key(), &[7; 32], &mut sealed).unwrap();
        let before = (curve_tun::test_util::agreements(), curve_tun::test_util::openings());
        let result = vault.box_open(Purpose::Vouch, &peer.public_key(), &nonce, &sealed, &mut opened);
        let genuine = std::ptr::eq(sealed_by, peer);
        assert_eq!(result, if genuine { Ok(()) } else { Err(Error::BadPacket) });
        (curve_tun::test_util::agreements() - before.0, curve_tun::test_util::openings() - before.1)
    };
    // Before any peer has come; then with one, and with as many as are remembered.
    let of_a_stranger = cost(&stranger, &peers[0]);
    for count in [1, 64] {
        let opened = peers[..count].iter().filter(|peer| cost(peer, peer).1 > 0);
        assert_eq!(opened.count(), count);
        for claimed in [&peers[0], &peers[count - 1], &peers[64]] {
            assert_eq!(cost(&stranger, claimed), of_a_stranger);
        }
    }
    // Peer 0 came first, and is the one to be replaced, however often strangers claim to be it.
    (0..3).for_each(|_| assert_eq!(cost(&stranger, &peers[0]), of_a_stranger));
    assert_eq!(cost(&peers[64], &peers[64]).0, 1, "64 is new");
    assert_eq!([1, 63, 64].map(|peer: usize| cost(&peers[peer], &peers[peer]).0), [0; 3]);
    assert_eq!(cost(&peers[0], &peers[0]).0, 1, "0 was forgotten");
}
