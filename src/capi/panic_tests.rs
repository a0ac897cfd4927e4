//! What a C caller sees of a panic. No input is known that causes one, so a vault stands in for the defect.

use super::boundary::catch_ok;
use super::connection::*;
use super::options::*;
use super::registry::*;
use super::result::curve_tun_result::{self, *};
use super::server::*;
use super::traffic::*;
use super::vault::*;
use crate::crypto::PublicKey;
use crate::error::Result;
use crate::vault::{LongTermNonce, Purpose, Vault};
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::Arc;

struct DefectiveVault;

impl Vault for DefectiveVault {
    fn public_key(&self) -> PublicKey {
        PublicKey([9; 32])
    }

    fn box_seal(&self, _: Purpose, _: &PublicKey, _: &[u8], _: &mut [u8]) -> Result<LongTermNonce> {
        panic!("a defect, for a test")
    }

    fn box_open(&self, _: Purpose, _: &PublicKey, _: &[u8], _: &[u8], _: &mut [u8]) -> Result<()> {
        panic!("a defect, for a test")
    }
}

/// A payload whose drop panics as well.
struct Spiteful;

impl Drop for Spiteful {
    fn drop(&mut self) {
        panic!("a panic's payload, for a test");
    }
}

#[test]
fn a_panic_is_an_error_whatever_its_payload() {
    assert_eq!(catch_ok(|| panic!("a defect, for a test")), CURVE_TUN_ERR_INTERNAL);
    assert_eq!(catch_ok(|| std::panic::panic_any(Spiteful)), CURVE_TUN_ERR_INTERNAL);
}

#[test]
fn a_panic_closes_the_connection_that_met_it() {
    let ok = |result: curve_tun_result| assert_eq!(result, CURVE_TUN_OK);
    let defective = Box::into_raw(Box::new(curve_tun_vault(Arc::new(DefectiveVault))));
    let (mut vault, mut registry, mut server) = (null_mut(), null_mut(), null_mut());
    let (mut client, mut end, mut hello) = (null_mut(), null_mut(), null());
    let (mut len, mut consumed) = (0, 77);
    // SAFETY: every pointer is valid, as the header demands, and the struct has integers only.
    unsafe {
        let mut options: curve_tun_options = zeroed();
        options.size = size_of::<curve_tun_options>();
        ok(curve_tun_options_default(&mut options));
        ok(curve_tun_vault_generate(&mut vault));
        ok(curve_tun_registry_new(&mut registry));
        ok(curve_tun_server_new(defective, registry, &options, &mut server));
        ok(curve_tun_connection_new_client(vault, [9; 32].as_ptr(), &options, &mut client));
        ok(curve_tun_connection_new_server(server, c"192.0.2.7".as_ptr(), &mut end));
        ok(curve_tun_connection_pending(client, &mut hello, &mut len));

        let read = curve_tun_connection_read(end, hello, len, &mut consumed);
        assert_eq!(read, CURVE_TUN_ERR_INTERNAL);
        assert_eq!(curve_tun_connection_state(end), curve_tun_state::CURVE_TUN_STATE_CLOSED);
        assert_eq!(curve_tun_connection_read(end, hello, len, &mut consumed), CURVE_TUN_ERR_CLOSED);
        assert_eq!(consumed, 77);

        curve_tun_connection_free(client);
        curve_tun_connection_free(end);
        curve_tun_server_free(server);
        curve_tun_registry_free(registry);
        curve_tun_vault_free(vault);
        curve_tun_vault_free(defective);
    }
}
