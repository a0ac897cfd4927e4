//! A PKCS#11 module that finds a token which was away only when it is initialised anew. One test, since that is for the whole
//! process.

#[path = "support/softhsm.rs"]
mod softhsm;

use curve_tun::vault::{Pkcs11Vault, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use softhsm::{PIN, Removable, SoftHsm};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for anything that is to happen; a test that needs it all has failed.
const SOON: Duration = Duration::from_secs(30);

fn counter(vault: &Pkcs11Vault) -> Result<u64, Error> {
    let nonce = vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16])?;
    Ok(vault.counter_in(&nonce))
}

/// The first result that is not this error.
fn until_not(error: Error, mut call: impl FnMut() -> Result<u64, Error>) -> Result<u64, Error> {
    let end = Instant::now() + SOON;
    loop {
        let result = call();
        if result != Err(error) || Instant::now() > end {
            return result;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

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
    // A vault that is opened anew finds it as well.
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
    // It comes back with another PIN: initialised anew or not, that is found out once.
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
