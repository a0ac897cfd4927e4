//! The PIN of a token in this process: one guarded copy while a vault is open, to log in again
//! with, and none afterwards. There is only one test, since the search sees whatever else a test
//! process does.

#[path = "../support/mod.rs"]
mod support;

use curve_tun::vault::{Pkcs11Vault, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use support::memory::Needle;
use support::softhsm::SoftHsm;

fn seal(vault: &Pkcs11Vault) {
    vault.box_seal(Purpose::Vouch, &PublicKey([9; 32]), &[], &mut [0; 16]).unwrap();
}

#[test]
fn a_pin_is_kept_once_while_a_vault_is_open_and_not_after() {
    let hsm = SoftHsm::get();
    let mut letters: Vec<u8> = (0..24).map(|i| b'a' + (i * 5 + 3) % 26).collect();
    let pin_file = hsm.folder().join("wiped-pin");
    std::fs::write(&pin_file, &letters).unwrap();
    std::fs::set_permissions(&pin_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    hsm.init_token("wiped", &pin_file);
    let pin = Needle::take(&mut letters);
    assert_eq!(pin.count(), 0, "before");
    let uri = hsm.uri("wiped", "key");
    let vault = pin.with(|pin| Pkcs11Vault::generate(&uri, Some(pin)).unwrap());
    seal(&vault);
    assert_eq!(pin.count(), 1, "while its maker has it open");
    drop(vault);
    assert_eq!(pin.count(), 0, "after that");
    let vault = pin.with(|pin| Pkcs11Vault::open(&uri, Some(pin)).unwrap());
    seal(&vault);
    assert_eq!(pin.count(), 1, "while it is open");
    drop(vault);
    assert_eq!(pin.count(), 0, "after that");
    let by_uri = format!("{uri}&pin-source=file:{}", pin_file.display());
    let vault = Pkcs11Vault::open(&by_uri, None).unwrap();
    seal(&vault);
    assert_eq!(pin.count(), 1, "while it is open by a PIN in a file");
    drop(vault);
    assert_eq!(pin.count(), 0, "after that");
    pin.with(|pin| assert!(Pkcs11Vault::inspect(&uri, Some(pin)).is_ok()));
    assert_eq!(pin.count(), 0, "after it was looked at");
    let absent = hsm.uri("wiped", "absent");
    pin.with(|pin| assert_eq!(Pkcs11Vault::open(&absent, Some(pin)).err(), Some(Error::NotFound)));
    assert_eq!(pin.count(), 0, "after an error");
    pin.with(|pin| {
        pin[23] ^= 1;
        assert_eq!(Pkcs11Vault::open(&uri, Some(pin)).err(), Some(Error::WrongPassphrase));
        pin[23] ^= 1;
    });
    assert_eq!(pin.count(), 0, "after a wrong one");
}
