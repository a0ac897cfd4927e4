//! Keys of type Montgomery, the form of X25519 in newer PKCS#11 modules, with a module in front of
//! SoftHSM that simulates one: once with raw points, and once with points in DER.

use crate::support::agent;
use crate::support::softhsm::{PIN, SoftHsm};
use crate::support::vault_suite;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use curve_tun::vault::{Pkcs11Vault, Vault};
use curve_tun::{Error, PublicKey};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How a module encodes points, and the bytes of one.
const FORMS: [(&str, usize); 2] = [("raw", 32), ("der", 34)];

fn module(point_bytes: usize) -> PathBuf {
    SoftHsm::get().front("montgomery", &[format!("POINT_BYTES={point_bytes}")])
}

fn tool(args: &[&str]) -> Output {
    let pin = SoftHsm::get().folder().join("newer-pin");
    std::fs::write(&pin, PIN).unwrap();
    std::fs::set_permissions(&pin, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    Command::new(agent::TOOL).args(args).arg("--passphrase-file").arg(pin).output().unwrap()
}

fn printed_key(output: Output) -> PublicKey {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().parse().unwrap()
}

#[test]
fn a_vault_over_a_montgomery_key_keeps_the_rules_of_all_vaults() {
    let hsm = SoftHsm::get();
    for (form, point_bytes) in FORMS {
        let uri = hsm.uri_by(&module(point_bytes), "newer", form);
        let vault = Pkcs11Vault::generate(&uri, Some(PIN)).unwrap();
        vault_suite::all(&vault, 400);
        let key = vault.public_key();
        drop(vault);
        let vault = Pkcs11Vault::open(&uri, Some(PIN)).unwrap();
        assert_eq!(vault.public_key(), key, "{form}");
        vault_suite::what_its_peer_seals_it_opens(&vault);
        // The key is the same that the older kind of module has as type Edwards.
        assert_eq!(Pkcs11Vault::inspect(&hsm.uri("newer", form), Some(PIN)), Ok(key), "{form}");
    }
}

#[test]
fn the_tool_makes_a_montgomery_key_and_finds_it_again() {
    let hsm = SoftHsm::get();
    for (form, point_bytes) in FORMS {
        let uri = hsm.uri_by(&module(point_bytes), "newer-tool", form);
        let key = printed_key(tool(&["keygen", "--pkcs11", &uri]));
        assert_eq!(printed_key(tool(&["public", "--pkcs11", &uri])), key, "{form}");
        let again = tool(&["keygen", "--pkcs11", &uri]);
        assert_eq!(again.status.code(), Some(1), "{form}");
        assert!(String::from_utf8_lossy(&again.stderr).contains("already there"));
        assert_eq!(Pkcs11Vault::inspect(&uri, Some(PIN)), Ok(key), "{form}");
    }
}

/// Checks that the module of these tests is what it claims to be.
#[test]
fn such_a_module_knows_no_edwards_key() {
    let hsm = SoftHsm::get();
    let path = module(32);
    let key =
        Pkcs11Vault::generate(&hsm.uri_by(&path, "newer-shown", "key"), Some(PIN)).unwrap().public_key();
    let module = loaded(&path);
    let slots = module.get_slots_with_initialized_token().unwrap();
    let slot = slots
        .into_iter()
        .find(|slot| module.get_token_info(*slot).unwrap().label() == "newer-shown")
        .unwrap();
    let mechanisms = module.get_mechanism_list(slot).unwrap();
    assert!(mechanisms.contains(&MechanismType::ECC_MONTGOMERY_KEY_PAIR_GEN));
    assert!(!mechanisms.contains(&MechanismType::ECC_EDWARDS_KEY_PAIR_GEN));
    assert!(module.get_mechanism_info(slot, MechanismType::ECC_MONTGOMERY_KEY_PAIR_GEN).is_ok());
    assert!(module.get_mechanism_info(slot, MechanismType::ECC_EDWARDS_KEY_PAIR_GEN).is_err());
    let session = module.open_rw_session(slot).unwrap();
    // Another test may have logged in already.
    let _ = session.login(UserType::User, Some(&AuthPin::new("1234-user".into())));
    let named = Attribute::Label(b"key".to_vec());
    let of_type = |kind| session.find_objects(&[named.clone(), Attribute::KeyType(kind)]).unwrap();
    assert_eq!(of_type(KeyType::EC_EDWARDS), []);
    let pair = of_type(KeyType::EC_MONTGOMERY);
    assert_eq!(pair.len(), 2, "a public and a private key");
    for object in pair {
        let attributes = session.get_attributes(object, &[AttributeType::KeyType]).unwrap();
        assert_eq!(attributes, [Attribute::KeyType(KeyType::EC_MONTGOMERY)]);
    }
    let parameters = [Attribute::EcParams(vec![0x06, 0x03, 0x2b, 0x65, 0x6e])];
    assert!(session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &parameters, &[]).is_err());
    assert_eq!(Pkcs11Vault::inspect(&hsm.uri_by(&path, "newer-shown", "key"), Some(PIN)), Ok(key));
    assert_eq!(
        Pkcs11Vault::inspect(&hsm.uri_by(&path, "newer-shown", "absent"), Some(PIN)),
        Err(Error::NotFound)
    );
}

/// Loads the module as another user of it in this process does.
fn loaded(path: &Path) -> Pkcs11 {
    let module = Pkcs11::new(path).unwrap();
    // It is initialised already.
    let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    module
}
