//! Keys in a PKCS#11 token, with SoftHSM as the token, and what happens when something is wrong
//! with it.

use crate::support::agent;
use crate::support::softhsm::{PIN, SoftHsm, counter};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::object::Attribute;
use curve_tun::vault::{FileVault, Pkcs11Vault, STEP, Vault};
use curve_tun::{Error, PublicKey};
use std::fs;
use std::process::Command;

fn generate(uri: &str) -> Pkcs11Vault {
    Pkcs11Vault::generate(uri, Some(PIN)).unwrap()
}

fn open(uri: &str) -> Result<Pkcs11Vault, Error> {
    Pkcs11Vault::open(uri, Some(PIN))
}

/// Loads the module as another user of it in this process does.
fn beside(hsm: &SoftHsm) -> Pkcs11 {
    let module = Pkcs11::new(&hsm.module).unwrap();
    // It is initialised already.
    let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    module
}

#[test]
fn a_key_is_found_again_by_its_name_or_its_identifier_and_its_counter_goes_on() {
    let hsm = SoftHsm::get();
    let uri = hsm.uri("again", "key");
    let vault = generate(&uri.replace(';', ";id=%01%02;"));
    let (key, first) = (vault.public_key(), counter(&vault).unwrap());
    assert_eq!(open(&uri).err(), Some(Error::VaultInUse));
    assert!(vault.deferred());
    drop(vault);
    let by_id = uri.replace("object=key", "id=%01%02;type=private");
    for (round, uri) in [&uri, &by_id].into_iter().enumerate() {
        let vault = open(uri).unwrap();
        assert_eq!(vault.public_key(), key);
        assert_eq!(counter(&vault).unwrap(), first + 2 * STEP * (round as u64 + 1));
    }
    let with_pin = format!("{uri}&pin-value={}", std::str::from_utf8(PIN).unwrap());
    assert_eq!(Pkcs11Vault::open(&with_pin, None).unwrap().public_key(), key);
    let pin_file = hsm.folder().join("pin");
    fs::write(&pin_file, [PIN, b"\nmore"].concat()).unwrap();
    let with_file = format!("{uri}&pin-source=file:{}", pin_file.display());
    for mode in [0o644, 0o660, 0o600] {
        assert_eq!(
            Pkcs11Vault::open(&with_file, None).err(),
            Some(Error::VaultPermissions),
            "not its own alone"
        );
        fs::set_permissions(&pin_file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    assert_eq!(Pkcs11Vault::open(&with_file, None).unwrap().public_key(), key);
    fs::write(&pin_file, PIN).unwrap();
    assert_eq!(Pkcs11Vault::open(&with_file, None).unwrap().public_key(), key, "its line may lack an end");
    let with_folder = format!("{uri}&pin-source=file:{}", hsm.folder().display());
    assert_eq!(Pkcs11Vault::open(&with_folder, None).err(), Some(Error::Io), "a folder has no lines");
    fs::write(&pin_file, [b'1'; 1025]).unwrap();
    assert_eq!(Pkcs11Vault::open(&with_file, None).err(), Some(Error::InvalidArgument), "a line too long");
}

#[test]
fn the_secret_key_cannot_be_had_out_of_the_token() {
    let hsm = SoftHsm::get();
    let _vault = generate(&hsm.uri("secret", "key"));
    let module = beside(hsm);
    let slots = module.get_slots_with_initialized_token().unwrap();
    let slot =
        slots.into_iter().find(|slot| module.get_token_info(*slot).unwrap().label() == "secret").unwrap();
    let session = module.open_ro_session(slot).unwrap();
    // The vault's login applies to the whole process.
    let key = session.find_objects(&[Attribute::Sensitive(true), Attribute::Extractable(false)]).unwrap();
    assert_eq!(key.len(), 1);
    let value = session.get_attributes(key[0], &[cryptoki::object::AttributeType::Value]);
    assert!(value.is_err() || value.is_ok_and(|attributes| attributes.is_empty()));
    // No agreed key is left in the token, either.
    assert!(
        session
            .find_objects(&[Attribute::Class(cryptoki::object::ObjectClass::SECRET_KEY)])
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_does_not_fit_is_told_apart() {
    let hsm = SoftHsm::get();
    let uri = hsm.uri("fits", "key");
    assert_eq!(open(&uri).err(), Some(Error::NotFound), "no key");
    assert_eq!(open(&hsm.uri("none", "key")).err(), Some(Error::NotFound), "no token");
    drop(generate(&uri));
    assert_eq!(Pkcs11Vault::generate(&uri, Some(PIN)).err(), Some(Error::AlreadyExists));
    let nameless = uri.replace("object=key", "manufacturer=SoftHSM%20project");
    assert_eq!(Pkcs11Vault::generate(&nameless, Some(PIN)).err(), Some(Error::InvalidArgument));
    open(&nameless).unwrap();
    for stranger in ["manufacturer=Acme", "model=x", "serial=x", "slot-id=123456789", "library-version=9.9"] {
        assert_eq!(open(&uri.replace("object=key", stranger)).err(), Some(Error::NotFound), "{stranger}");
    }
    let missing = uri.replace(hsm.module.to_str().unwrap(), "/nowhere/module.so");
    assert_eq!(open(&missing).err(), Some(Error::FileNotFound));
    let no_module = uri.replace(hsm.module.to_str().unwrap(), hsm.conf().to_str().unwrap());
    assert_eq!(open(&no_module).err(), Some(Error::VaultFailed));
    assert_eq!(open("pkcs11:colour=red").err(), Some(Error::InvalidArgument));
    drop(generate(&hsm.uri("fits", "other")));
    assert_eq!(open(&nameless).err(), Some(Error::InvalidArgument), "two keys fit");
}

#[test]
fn a_wrong_pin_is_said_so() {
    let hsm = SoftHsm::get();
    let uri = hsm.uri("pins", "key");
    drop(generate(&uri));
    for wrong in [Some(&b"wrong-pin"[..]), Some(b"1"), None] {
        assert_eq!(Pkcs11Vault::open(&uri, wrong).err(), Some(Error::WrongPassphrase));
    }
    for odd in [&b""[..], &[b'1'; 256]] {
        assert_eq!(Pkcs11Vault::open(&uri, Some(odd)).err(), Some(Error::InvalidArgument));
    }
    open(&uri).unwrap();
}

#[test]
fn the_state_of_another_key_or_of_none_is_refused() {
    let hsm = SoftHsm::get();
    let (uri, other) = (hsm.uri("state", "key"), hsm.uri("state", "other"));
    drop((generate(&uri), generate(&other)));
    let state = |uri: &str| uri.rsplit_once('=').unwrap().1.to_owned();
    // Nor is it a file vault.
    let path = state(&uri);
    assert_eq!(FileVault::open(path.as_ref(), None).err(), Some(Error::VaultCorrupt));
    assert_eq!(FileVault::inspect(path.as_ref()), Err(Error::VaultCorrupt));
    fs::copy(state(&other), state(&uri)).unwrap();
    assert_eq!(open(&uri).err(), Some(Error::VaultCorrupt));
    fs::write(state(&uri), b"").unwrap();
    assert_eq!(open(&uri).err(), Some(Error::VaultCorrupt));
    fs::remove_file(state(&uri)).unwrap();
    // A new state starts with a new block key, so no nonce is repeated.
    assert_eq!(counter(&open(&uri).unwrap()), Ok(0));
}

#[test]
fn a_session_that_was_lost_is_opened_again() {
    let hsm = SoftHsm::get();
    let vault = generate(&hsm.uri("lost", "key"));
    let first = counter(&vault).unwrap();
    let module = beside(hsm);
    let slots = module.get_slots_with_initialized_token().unwrap();
    let slot =
        slots.into_iter().find(|slot| module.get_token_info(*slot).unwrap().label() == "lost").unwrap();
    for round in 1..4 {
        // Logging out ends the rights of the vault's session, as removing the token does.
        let session = module.open_ro_session(slot).unwrap();
        session.logout().unwrap();
        assert_eq!(counter(&vault), Ok(first + round));
    }
}

#[test]
fn without_a_place_for_the_state_the_users_own_is_taken() {
    let hsm = SoftHsm::get();
    let uri = hsm.uri("suite", "home");
    let uri = uri.split_once("&x-curve").unwrap().0;
    let home = tempfile::tempdir().unwrap();
    let make = |home: Option<&std::path::Path>| {
        let mut command = Command::new(agent::TOOL);
        let pin = hsm.folder().join("home-pin");
        fs::write(&pin, PIN).unwrap();
        fs::set_permissions(&pin, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        command.args(["keygen", "--pkcs11", uri, "--passphrase-file"]).arg(pin);
        command.env_remove("XDG_STATE_HOME").env_remove("HOME").envs(home.map(|home| ("HOME", home)));
        command.output().unwrap()
    };
    let output = make(Some(home.path()));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let states = home.path().join(".local/state/curve_tun");
    assert_eq!(fs::read_dir(states).unwrap().count(), 1);
    let key: PublicKey = std::str::from_utf8(&output.stdout).unwrap().trim_end().parse().unwrap();
    let again = make(Some(home.path()));
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("already there"));
    let mut public = Command::new(agent::TOOL);
    public.args(["public", "--pkcs11", uri, "--passphrase-file"]).arg(hsm.folder().join("home-pin"));
    let output = public.env("HOME", home.path()).env_remove("XDG_STATE_HOME").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), key.to_string());
}
