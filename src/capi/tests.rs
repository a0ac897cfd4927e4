//! What a C caller sees of what C cannot bring about: a panic, which no known input causes, so that
//! a vault stands in for the defect; and the end of a counter.

use super::boundary::{catch_ok, out};
use super::connection::*;
use super::registry::*;
use super::result::curve_tun_result::{self, *};
use super::server::*;
use super::traffic::*;
use super::vault::*;
use crate::connection::{Connection, Options, Server};
use crate::crypto::PublicKey;
use crate::error::Result;
use crate::registry::MemoryRegistry;
use crate::vault::{LongTermNonce, MemoryVault, Purpose, Vault};
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

/// An object as a C program gets it.
fn given<T>(object: T) -> *mut T {
    let mut place = null_mut();
    // SAFETY: the place is ours.
    unsafe { out(&mut place) }.unwrap().give(object);
    place
}

fn ok(result: curve_tun_result) {
    assert_eq!(result, CURVE_TUN_OK);
}

#[test]
fn a_panic_closes_the_connection_that_met_it() {
    let defective = given(curve_tun_vault(Arc::new(DefectiveVault)));
    let (mut vault, mut registry, mut server) = (null_mut(), null_mut(), null_mut());
    let (mut client, mut end, mut hello) = (null_mut(), null_mut(), null());
    let (mut len, mut consumed) = (0, 77);
    // SAFETY: every pointer is valid, as the header demands, and the struct has integers only.
    unsafe {
        ok(curve_tun_vault_generate(&mut vault));
        ok(curve_tun_registry_new(&mut registry));
        ok(curve_tun_server_new(defective, registry, null(), &mut server));
        ok(curve_tun_connection_new_client(vault, [9; 32].as_ptr(), null(), &mut client));
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

/// Sends one message, and then one that the counter does not suffice for.
type SendTwo = unsafe fn(*mut curve_tun_connection) -> curve_tun_result;

#[test]
fn what_was_sealed_before_the_counters_end_remains_for_the_transport() {
    let one_by_one: SendTwo = |connection| {
        // SAFETY: the test's pointer is valid.
        unsafe {
            ok(curve_tun_connection_send(connection, [7].as_ptr(), 1));
            curve_tun_connection_send(connection, [7].as_ptr(), 1)
        }
    };
    let together: SendTwo = |connection| {
        let messages = [curve_tun_message { bytes: [7].as_ptr(), len: 1 }; 2];
        let mut sent = 77;
        // SAFETY: as above.
        let result = unsafe { curve_tun_connection_send_many(connection, messages.as_ptr(), 2, &mut sent) };
        assert_eq!(sent, 1, "it is said how many went");
        result
    };
    for send_two in [one_by_one, together] {
        remains_after(send_two);
    }
}

fn remains_after(send_two: SendTwo) {
    let vault = |secret| Arc::new(MemoryVault::from_secret(secret).unwrap());
    let (near, far) = (vault(&[1; 32]), vault(&[2; 32]));
    let registry = Arc::new(MemoryRegistry::new());
    registry.add_anywhere(near.public_key());
    let server = Server::new(far.clone(), registry, Options::default(), 0).unwrap();
    let mut far_end = Connection::server(&server, [192, 0, 2, 7].into()).unwrap();
    let mut near_end = Connection::client(near, far.public_key(), &Options::default()).unwrap();
    for _ in 0..2 {
        far_end.feed(near_end.send_buffer()).unwrap();
        near_end.sent(near_end.send_buffer().len());
        near_end.feed(far_end.send_buffer()).unwrap();
        far_end.sent(far_end.send_buffer().len());
    }
    near_end.set_counters(u64::MAX - 1, 2);
    let near_end = given(curve_tun_connection::new(near_end, None));
    let (mut bytes, mut len) = (null(), 0);
    // SAFETY: every pointer is valid, as the header demands.
    unsafe {
        assert_eq!(send_two(near_end), CURVE_TUN_ERR_COUNTER_EXHAUSTED);
        assert_eq!(curve_tun_connection_send(near_end, [7].as_ptr(), 1), CURVE_TUN_ERR_CLOSED);
        assert!(curve_tun_connection_wants_write(near_end));
        ok(curve_tun_connection_pending(near_end, &mut bytes, &mut len));
        assert_eq!(len, 2 + 32 + 1);
        ok(curve_tun_connection_written(near_end, len));
        let nothing = curve_tun_connection_pending(near_end, &mut bytes, &mut len);
        assert_eq!(nothing, CURVE_TUN_ERR_CLOSED);
        curve_tun_connection_free(near_end);
    }
}
