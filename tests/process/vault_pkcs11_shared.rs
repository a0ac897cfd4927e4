//! A PKCS#11 module that another part of the process has initialised, so the library must not
//! finalize it. There is only one test, since that affects the whole process.

#[path = "../support/mod.rs"]
mod support;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use curve_tun::Error;
use curve_tun::vault::Pkcs11Vault;
use std::thread;
use std::time::{Duration, Instant};
use support::softhsm::{PIN, Removable, SoftHsm, counter, until_not};

#[test]
fn a_module_that_another_part_of_the_process_has_initialised_is_left_alone() {
    let hsm = SoftHsm::get();
    let token = Removable::new("shared", true);
    let module = Pkcs11::new(&token.module).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slots = module.get_slots_with_initialized_token().unwrap();
    let slot =
        slots.into_iter().find(|slot| module.get_token_info(*slot).unwrap().label() == "suite").unwrap();
    let uri = hsm.uri_by(&token.module, "gone", "shared");
    let vault = Pkcs11Vault::generate(&uri, Some(PIN)).unwrap();
    let starts = token.starts();
    token.take_away();
    assert_eq!(counter(&vault), Err(Error::NotFound));
    token.bring_back();
    let session = module.open_ro_session(slot);
    assert!(session.is_err(), "the token is still away for this module");
    // Longer than the library would leave a module of its own alone.
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        assert_eq!(counter(&vault), Err(Error::NotFound));
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(token.starts(), starts);
    // The other part initialises it again.
    module.clone().finalize().unwrap();
    assert!(until_not(Error::NotFound, || counter(&vault)).is_ok());
}
