//! Every packet that the crate makes and accepts, checked against libsodium's own boxes, and
//! packets that are out of place.

use crate::support::by_hand::{
    HandClient, MESSAGE_MAGIC, client_message, cookie_packet, frame, hello, hello_of, initiate, vouch,
};
use crate::support::providers::{LaterVault, TestRegistry};
use crate::support::sodium::{BoxKey, keypair, nonce};
use crate::support::{World, message, recv, take, weak_keys};
use curve_tun::connection::{Connection, ConnectionState};
use curve_tun::protocol::MESSAGE_MAX;
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, PublicKey};
use proptest::prelude::*;
use std::sync::Arc;

/// A server that lets anyone in, connected to a client built by hand; and the key of their messages.
fn by_hand() -> (Connection, BoxKey) {
    let world = World::asking(Arc::new(TestRegistry::new(Ok(true), false)));
    let (client, mut server) = (HandClient::new(world.server_key()), world.accept());
    server.feed(&client.hello()).unwrap();
    let (key, cookie) = client.open_cookie(&take(&mut server));
    server.feed(&client.initiate(&cookie, &key)).unwrap();
    assert_eq!(server.peer_key(), Some(client.long()));
    (server, key)
}

/// The server's frame for `message`, made with libsodium's `crypto_box_easy_afternm`.
fn server_message(counter: u64, message: &[u8], key: &BoxKey) -> Vec<u8> {
    let counter = counter.to_be_bytes();
    frame(&[&MESSAGE_MAGIC, &counter, &key.sealed(&nonce(b"CurveCP-server-M", &counter), message)])
}

fn sizes() -> impl Iterator<Item = usize> {
    (0..=2048).chain([4096, 16_384, 32_768, 65_000]).chain(MESSAGE_MAX - 520..=MESSAGE_MAX)
}

#[test]
fn messages_sealed_are_those_of_crypto_box() {
    let (mut server, key) = by_hand();
    for (counter, size) in (2..).zip(sizes()) {
        let message = message(size, counter as usize);
        server.send(&message).unwrap();
        assert!(take(&mut server) == server_message(counter, &message, &key), "{size} bytes");
    }
}

#[test]
fn messages_of_crypto_box_are_opened() {
    let (mut server, key) = by_hand();
    for (counter, size) in (2..).zip(sizes()) {
        let message = message(size, counter as usize);
        server.feed(&client_message(counter, &message, &key)).unwrap();
        assert!(recv(&mut server).unwrap() == message, "{size} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_of_any_size_and_counter_are_those_of_crypto_box(
        size in 0..=MESSAGE_MAX,
        counter in any::<u64>().prop_map(|n| n.min(u64::MAX - 1)),
    ) {
        let (mut server, key) = by_hand();
        let message = message(size, counter as usize);
        server.set_counters(counter, counter);
        server.send(&message).unwrap();
        prop_assert!(take(&mut server) == server_message(counter, &message, &key));
        server.feed(&client_message(counter, &message, &key)).unwrap();
        prop_assert!(recv(&mut server).unwrap() == message);
    }
}

/// Checks that these bytes close the connection, with nothing sent and nothing delivered.
fn refuses(connection: &mut Connection, bytes: &[u8], case: &str) {
    assert_eq!(connection.feed(bytes), Err(Error::BadPacket), "{case}");
    assert_eq!(connection.state(), ConnectionState::Closed, "{case}");
    assert!(!connection.wants_write() && !connection.wants_read(), "{case}");
    assert_eq!(connection.peek(), Err(Error::Closed), "{case}");
    assert_eq!(connection.feed(bytes), Err(Error::Closed), "{case}");
}

/// Frames that no state expects, as soon as their length shows it.
fn hopeless() -> Vec<(&'static str, Vec<u8>)> {
    let of = |len: usize| frame(&[&vec![0x6c; len]]);
    vec![
        ("length 0", of(0)),
        ("length 0, its field alone", vec![0, 0]),
        ("length 7", of(7)),
        ("length 7, its field alone", vec![0, 7]),
        ("a hello's length and another magic", of(128)),
        ("a cookie's length and another magic", of(168)),
        ("an initiate's length and another magic", of(224)),
        ("the largest packet", of(65_535)),
    ]
}

#[test]
fn a_bad_frame_closes_a_connection_in_any_state_and_gets_no_answer() {
    let world = World::new();
    for (case, bytes) in hopeless() {
        let (mut client, mut server) = world.pair();
        refuses(&mut server, &bytes, &format!("ready server, {case}"));
        take(&mut client);
        refuses(&mut client, &bytes, &format!("initiating client, {case}"));

        let (mut client, mut server) = world.pair();
        server.feed(&take(&mut client)).unwrap();
        take(&mut server);
        refuses(&mut server, &bytes, &format!("accepting server, {case}"));

        let (mut client, mut server) = world.connected();
        refuses(&mut server, &bytes, &format!("connected server, {case}"));
        refuses(&mut client, &bytes, &format!("connected client, {case}"));
    }
}

#[test]
fn a_server_that_speaks_before_the_hello_is_refused() {
    let (mut client, mut other) = World::new().pair();
    assert_eq!(client.state(), ConnectionState::Ready);
    let hello = take(&mut other).into_iter().chain([0, 168]).collect::<Vec<_>>();
    refuses(&mut client, &hello, "bytes before the hello has left");
}

#[test]
fn packets_of_another_step_are_refused() {
    let world = World::new();
    let (mut client, mut server) = world.pair();
    let hello = take(&mut client);
    server.feed(&hello).unwrap();
    let cookie = take(&mut server);
    client.feed(&cookie).unwrap();
    let initiate = take(&mut client);
    client.send(b"a message").unwrap();
    let message = take(&mut client);

    for (case, bytes) in [("cookie", &cookie), ("initiate", &initiate), ("message", &message)] {
        refuses(&mut world.accept(), bytes, &format!("ready server, {case}"));
    }
    let other_hello = take(&mut world.pair().0);
    for (case, bytes) in [
        ("the same hello", &hello),
        ("another hello", &other_hello),
        ("cookie", &cookie),
        ("message before the initiate", &message),
    ] {
        let mut accepting = world.accept();
        accepting.feed(&hello).unwrap();
        take(&mut accepting);
        refuses(&mut accepting, bytes, &format!("accepting server, {case}"));
    }
    for (case, bytes) in [
        ("second hello", &hello),
        ("another hello", &other_hello),
        ("cookie", &cookie),
        ("second initiate", &initiate),
    ] {
        let (mut client, mut server) = world.connected();
        refuses(&mut server, bytes, &format!("connected server, {case}"));
        refuses(&mut client, bytes, &format!("connected client, {case}"));
    }
}

#[test]
fn an_end_refuses_its_own_messages_sent_back() {
    let (mut client, mut server) = World::new().connected();
    client.send(b"mirror").unwrap();
    server.send(b"mirror").unwrap();
    let (from_client, from_server) = (take(&mut client), take(&mut server));
    refuses(&mut client, &from_client, "client");
    refuses(&mut server, &from_server, "server");
}

#[test]
fn a_public_key_of_low_order_is_refused_wherever_a_peer_can_put_one() {
    let world = World::asking(Arc::new(TestRegistry::new(Ok(true), false)));
    // A key that anybody could compute, if low order were accepted.
    let known = BoxKey::of_zeros();
    for weak in weak_keys() {
        let client = Connection::client(world.client_vault.clone(), weak, &world.options);
        assert_eq!(client.err(), Some(Error::WeakKey), "the server's long-term key {weak}");

        refuses(&mut world.accept(), &hello(&weak.0, &known), &format!("the client's short-term key {weak}"));

        let (hand, mut server) = (HandClient::new(world.server_key()), world.accept());
        server.feed(&hand.hello()).unwrap();
        let (key, cookie) = hand.open_cookie(&take(&mut server));
        let vouch = vouch(&hand.short, &known);
        let packet = initiate(&cookie, &weak.0, &vouch, &key);
        refuses(&mut server, &packet, &format!("the client's long-term key {weak}"));
    }
}

#[test]
fn a_hello_whose_box_holds_anything_but_zeros_is_refused() {
    let world = World::new();
    let hand = HandClient::new(world.server_key());
    let host = LaterVault(MemoryVault::generate().unwrap());
    let key = BoxKey::agree(&hand.short_secret, &host.public_key().0).unwrap();
    for at in [0, 31, 63] {
        let mut contents = [0; 64];
        contents[at] = 1;
        let packet = hello_of(&contents, &hand.short, &hand.hello_key());
        refuses(&mut world.accept(), &packet, &format!("byte {at} is not zero"));

        // A vault that has only a host's two box callbacks answers a hello with these.
        let sealed = hello_of(&contents, &hand.short, &key)[50..].try_into().unwrap();
        let answer = host.answer_hello(&PublicKey(hand.short), &sealed, &mut || unreachable!());
        assert_eq!(answer.err(), Some(Error::BadPacket), "byte {at} is not zero");
    }
}

#[test]
fn a_servers_short_term_key_of_low_order_is_refused_by_the_client() {
    let (server, secret) = keypair();
    let vault = World::new().client_vault;
    for weak in weak_keys() {
        let mut client = Connection::client(vault.clone(), PublicKey(server), &Default::default()).unwrap();
        let hello = take(&mut client);
        let short = hello[10..42].try_into().unwrap();
        let key = BoxKey::agree(&secret, &short).unwrap();
        refuses(&mut client, &cookie_packet(&weak.0, &[0; 96], &key), &format!("{weak}"));
    }
}

#[test]
fn a_vouch_for_another_short_term_key_proves_nothing() {
    let registry = Arc::new(TestRegistry::new(Ok(true), false));
    let world = World::asking(registry.clone());
    let (hand, mut server) = (HandClient::new(world.server_key()), world.accept());
    server.feed(&hand.hello()).unwrap();
    let (key, cookie) = hand.open_cookie(&take(&mut server));
    let long_key = BoxKey::agree(&hand.long_secret, &world.server_key().0).unwrap();
    let packet = initiate(&cookie, &hand.long().0, &vouch(&keypair().0, &long_key), &key);
    refuses(&mut server, &packet, "a vouch for another key");
    assert_eq!(registry.asked(), 0);
}

#[test]
fn a_vouch_by_another_than_the_claimed_key_proves_nothing() {
    let world = World::new();
    let (hand, mut server) = (HandClient::new(world.server_key()), world.accept());
    server.feed(&hand.hello()).unwrap();
    let (key, cookie) = hand.open_cookie(&take(&mut server));
    let packet = initiate(&cookie, &world.client_vault.public_key().0, &hand.vouch(), &key);
    refuses(&mut server, &packet, "the known client's name on a stranger's vouch");
}

#[test]
fn a_cookie_of_another_connection_is_refused() {
    let world = World::asking(Arc::new(TestRegistry::new(Ok(true), false)));
    let hand = HandClient::new(world.server_key());
    let (mut first, mut second) = (world.accept(), world.accept());
    first.feed(&hand.hello()).unwrap();
    second.feed(&hand.hello()).unwrap();
    let (key, cookie) = hand.open_cookie(&take(&mut first));
    take(&mut second);
    // The same client, the same keys, a cookie that opens: but it was issued for another
    // connection.
    let initiate = hand.initiate(&cookie, &key);
    refuses(&mut second, &initiate, "the first connection's cookie");
    assert_eq!(first.feed(&initiate), Ok(initiate.len()));
}
