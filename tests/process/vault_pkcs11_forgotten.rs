//! A PKCS#11 module that finds a token which was removed only after being initialised again. There
//! is only one test, since that affects the whole process.

#[path = "../support/mod.rs"]
mod support;

use curve_tun::Error;
use curve_tun::vault::Pkcs11Vault;
use support::softhsm::{PIN, Removable, SoftHsm, counter, until_not};

#[test]
fn a_module_that_forgets_its_token_is_initialised_anew_and_logged_in_to_once() {
    let hsm = SoftHsm::get();
    let token = Removable::new("forgetful", true);
    let uri = hsm.uri_by(&token.module, "gone", "forgotten");
    let vault = Pkcs11Vault::generate(&uri, Some(PIN)).unwrap();
    let first = counter(&vault).unwrap();
    token.take_away();
    let before = token.logins();
    assert_eq!(counter(&vault), Err(Error::NotFound));
    token.bring_back();
    assert!(until_not(Error::NotFound, || counter(&vault)).unwrap() > first);
    assert_eq!(token.logins(), before + 1, "one login brings it back");
    // A vault that is opened again finds it as well.
    drop(vault);
    token.take_away();
    assert_eq!(Pkcs11Vault::open(&uri, Some(PIN)).err(), Some(Error::NotFound));
    token.bring_back();
    let mut opened = None;
    let found = until_not(Error::NotFound, || {
        opened = Some(Pkcs11Vault::open(&uri, Some(PIN))?);
        Ok(0)
    });
    assert_eq!(found, Ok(0));
    let vault = opened.unwrap();
    // It comes back with another PIN, which is found out once, whether or not the module is
    // initialised again.
    token.take_away();
    assert_eq!(counter(&vault), Err(Error::NotFound));
    token.refuse(Some(Error::WrongPassphrase));
    token.bring_back();
    let (logins, starts) = (token.logins(), token.starts());
    assert_eq!(until_not(Error::NotFound, || counter(&vault)), Err(Error::WrongPassphrase));
    for _ in 0..5 {
        assert_eq!(counter(&vault), Err(Error::WrongPassphrase));
    }
    assert_eq!(token.logins(), logins + 1, "a wrong PIN is tried once");
    assert!(token.starts() <= starts + 1);
}
