//! A PKCS#11 token that is removed and comes back, simulated by a module in front of SoftHSM.

#[path = "../support/mod.rs"]
mod support;

use curve_tun::Error;
use curve_tun::vault::Pkcs11Vault;
use support::softhsm::{PIN, Removable, SoftHsm, counter};

#[test]
fn a_token_that_comes_back_is_used_again_and_a_wrong_pin_is_tried_once() {
    let hsm = SoftHsm::get();
    let token = Removable::new("gone", false);
    let uri = hsm.uri_by(&token.module, "gone", "key");
    let vault = Pkcs11Vault::generate(&uri, Some(PIN)).unwrap();
    let mut last = counter(&vault).unwrap();
    for _ in 0..3 {
        token.take_away();
        let before = token.logins();
        for _ in 0..3 {
            assert_eq!(counter(&vault), Err(Error::NotFound));
        }
        assert_eq!(Pkcs11Vault::inspect(&uri, Some(PIN)), Err(Error::NotFound));
        token.bring_back();
        let next = counter(&vault).unwrap();
        assert!(next > last);
        last = next;
        assert_eq!(token.logins(), before + 1, "one login brings it back");
    }
    drop(vault);
    // While it was away its PIN was changed, or locked: three tries would lock it.
    for error in [Error::WrongPassphrase, Error::PinLocked] {
        let vault = Pkcs11Vault::open(&uri, Some(PIN)).unwrap();
        token.take_away();
        token.refuse(Some(error));
        assert_eq!(counter(&vault), Err(Error::NotFound));
        token.bring_back();
        let before = token.logins();
        for _ in 0..5 {
            assert_eq!(counter(&vault), Err(error));
        }
        assert_eq!(token.logins(), before + 1, "a PIN that is refused is tried once");
        token.refuse(None);
    }
}
