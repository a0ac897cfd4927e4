//! Another library of the process has initialised libsodium first. There is only one test, so that
//! this holds.

#[path = "../support/mod.rs"]
mod support;

use support::{World, recv, settle};

#[test]
fn a_libsodium_that_is_initialised_already_serves_as_well() {
    // Calls `sodium_init`.
    support::sodium::keypair();
    let (mut client, mut server) = World::new().connected();
    client.send(b"as ever").unwrap();
    settle(&mut client, &mut server).unwrap();
    assert_eq!(recv(&mut server).unwrap(), b"as ever");
}
