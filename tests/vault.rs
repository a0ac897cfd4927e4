//! The vault in memory, and the purposes of its boxes.

mod support;

use curve_tun::vault::{MemoryVault, Purpose, Vault};
use curve_tun::{Error, SecretKey};
use support::recorded::RecordedVault;
use support::sodium::{keypair, public_of};
use support::vault_suite;

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

/// The tests' own vault is held to the rules that recordings leave it.
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
