//! A PKCS#11 token that is taken away and comes back, by a module in front of SoftHSM that plays it.

#[path = "support/softhsm.rs"]
mod softhsm;

use curve_tun::vault::{Pkcs11Vault, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use softhsm::{PIN, SoftHsm};
use std::fs;
use std::path::PathBuf;

fn counter(vault: &Pkcs11Vault) -> Result<u64, Error> {
    let nonce = vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16])?;
    Ok(vault.counter_in(&nonce))
}

#[test]
fn a_token_that_comes_back_is_used_again_and_a_wrong_pin_is_tried_once() {
    let hsm = SoftHsm::get();
    let file = |name: &str| hsm.folder().join(name);
    let (away, wrong_pin, logins) = (file("away"), file("wrong-pin"), file("logins"));
    let define = |name: &str, path: &PathBuf| format!("{name}=\"{}\"", path.display());
    let definitions = [define("AWAY", &away), define("WRONG_PIN", &wrong_pin), define("LOGINS", &logins)];
    let module = hsm.front("removable", &definitions);
    let tried = || fs::read(&logins).map_or(0, |logins| logins.len());
    let uri = hsm.uri_by(&module, "gone", "key");
    let vault = Pkcs11Vault::generate(&uri, Some(PIN)).unwrap();
    let mut last = counter(&vault).unwrap();
    for _ in 0..3 {
        fs::write(&away, b"").unwrap();
        let before = tried();
        for _ in 0..3 {
            assert_eq!(counter(&vault), Err(Error::NotFound));
        }
        assert_eq!(Pkcs11Vault::inspect(&uri, Some(PIN)), Err(Error::NotFound));
        fs::remove_file(&away).unwrap();
        let next = counter(&vault).unwrap();
        assert!(next > last);
        last = next;
        assert_eq!(tried(), before + 1, "one login brings it back");
    }
    // While it was away its PIN was changed: three tries would lock it.
    fs::write(&away, b"").unwrap();
    fs::write(&wrong_pin, b"").unwrap();
    assert_eq!(counter(&vault), Err(Error::NotFound));
    fs::remove_file(&away).unwrap();
    let before = tried();
    for _ in 0..5 {
        assert_eq!(counter(&vault), Err(Error::WrongPassphrase));
    }
    assert_eq!(tried(), before + 1, "a wrong PIN is tried once");
}
