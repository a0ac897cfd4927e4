//! Recorded packets sent again, forged packets, and unexpected keys.

use crate::support;
use crate::support::providers::TestRegistry;
use crate::support::{World, recv, recv_all, settle, take};
use curve_tun::connection::{Connection, ConnectionState};
use curve_tun::vault::MemoryVault;
use curve_tun::{Error, SecretKey};
use std::sync::Arc;

#[test]
fn a_recorded_connection_played_to_a_new_one_ends_at_the_initiate() {
    let registry = Arc::new(TestRegistry::new(Ok(true), false));
    let world = World::asking(registry.clone());
    let (mut client, mut server) = world.pair();
    let hello = take(&mut client);
    server.feed(&hello).unwrap();
    client.feed(&take(&mut server)).unwrap();
    client.send(b"pay once").unwrap();
    let rest = take(&mut client);
    server.feed(&rest).unwrap();
    assert_eq!(recv(&mut server).unwrap(), b"pay once");
    assert_eq!(registry.asked(), 1);

    // The minute key that sealed its cookie is still current.
    let mut again = world.accept();
    again.feed(&hello).unwrap();
    assert_eq!(again.state(), ConnectionState::Accepting);
    take(&mut again);
    assert_eq!(again.feed(&rest), Err(Error::BadPacket));
    assert_eq!(again.peek(), Err(Error::Closed));
    assert!(!again.wants_write());
    assert_eq!(again.peer_key(), None);
    assert_eq!(registry.asked(), 1, "the registry is not asked about a replay");
}

#[test]
fn the_last_packet_twice_closes_and_is_delivered_once() {
    let (mut client, mut server) = World::new().connected();
    client.send(b"once").unwrap();
    let packet = take(&mut client);
    server.feed(&packet).unwrap();
    assert_eq!(server.feed(&packet), Err(Error::BadPacket));
    assert_eq!(recv_all(&mut server), [b"once"]);
    assert_eq!(recv(&mut server), Err(Error::Closed));
}

#[test]
fn the_right_packet_after_a_forged_one_is_not_delivered() {
    let (mut client, mut server) = World::new().connected();
    client.send(b"genuine").unwrap();
    let packet = take(&mut client);
    let mut forged = packet.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(server.feed(&forged), Err(Error::BadPacket));
    assert_eq!(server.feed(&packet), Err(Error::Closed));
    assert_eq!(recv(&mut server), Err(Error::Closed));
}

#[test]
fn messages_before_a_bad_packet_in_the_same_read_are_delivered() {
    let (mut client, mut server) = World::new().connected();
    client.send(b"good").unwrap();
    let mut bytes = take(&mut client);
    bytes.extend_from_slice(&[0, 0]);
    client.send(b"too late").unwrap();
    bytes.extend_from_slice(&take(&mut client));
    assert_eq!(server.feed(&bytes), Err(Error::BadPacket));
    assert_eq!(recv_all(&mut server), [b"good"]);
    assert_eq!(recv(&mut server), Err(Error::Closed));
}

#[test]
fn a_gap_in_the_messages_closes() {
    let (mut client, mut server) = World::new().connected();
    client.send(b"removed on the way").unwrap();
    take(&mut client);
    client.send(b"second").unwrap();
    assert_eq!(server.feed(&take(&mut client)), Err(Error::BadPacket));
    assert_eq!(recv(&mut server), Err(Error::Closed));
}

#[test]
fn a_message_of_another_connection_of_the_same_peers_is_refused() {
    let world = World::new();
    let ((mut first, _), (_, mut server)) = (world.connected(), world.connected());
    first.send(b"elsewhere").unwrap();
    assert_eq!(server.feed(&take(&mut first)), Err(Error::BadPacket));
}

/// A server, and a client that expects another key from it.
fn mistaken() -> (Connection, Connection) {
    let world = World::new();
    let expected = SecretKey::generate().unwrap().public_key().unwrap();
    let client = Connection::client(world.client_vault.clone(), expected, &world.options).unwrap();
    (client, world.accept())
}

#[test]
fn the_wrong_server_key_has_its_own_error_and_nothing_on_the_wire_says_so() {
    let (mut client, mut server) = mistaken();
    assert_eq!(server.feed(&take(&mut client)), Err(Error::BadPacket));
    assert!(!server.wants_write());
    assert_eq!(client.transport_ended(), Error::WrongServerKey);
    assert_eq!(client.state(), ConnectionState::Closed);
}

#[test]
fn a_cookie_from_another_server_is_a_wrong_server_key() {
    let (mut client, _) = mistaken();
    take(&mut client);
    let (mut other, mut server) = World::new().pair();
    server.feed(&take(&mut other)).unwrap();
    assert_eq!(client.feed(&take(&mut server)), Err(Error::WrongServerKey));
    assert!(!client.wants_write());
}

#[test]
fn an_unknown_peer_is_refused_without_a_word() {
    let world = World::new();
    let stranger = Arc::new(MemoryVault::generate().unwrap());
    let mut client = Connection::client(stranger, world.server_key(), &world.options).unwrap();
    let mut server = world.accept();
    assert_eq!(settle(&mut client, &mut server), Err(Error::UnknownPeer));
    assert_eq!((server.state(), server.wants_write()), (ConnectionState::Closed, false));
    assert_eq!(server.peer_key(), None);
    assert_eq!(client.state(), ConnectionState::Connected);
    assert_eq!(client.transport_ended(), Error::Closed);
    assert_eq!(recv(&mut client), Err(Error::Closed));
}

#[test]
fn a_known_peer_from_another_address_is_unknown() {
    let world = World::new();
    let (mut client, _) = world.pair();
    let mut server = Connection::server(&world.server, "192.0.2.8".parse().unwrap()).unwrap();
    assert_eq!(settle(&mut client, &mut server), Err(Error::UnknownPeer));
}

#[test]
fn a_registry_that_fails_refuses_that_client_and_serves_the_next() {
    for verdict in [Err(Error::RegistryFailed), Ok(false)] {
        let world = World::asking(Arc::new(TestRegistry::new(verdict, false)));
        for _ in 0..2 {
            let (mut client, mut server) = world.pair();
            let error = verdict.err().unwrap_or(Error::UnknownPeer);
            assert_eq!(settle(&mut client, &mut server), Err(error));
            assert_eq!(server.state(), ConnectionState::Closed);
            assert_eq!(world.server.handshakes_in_flight(), 0);
        }
    }
}

#[test]
fn a_change_of_the_registry_is_seen_by_the_next_handshake() {
    use curve_tun::registry::MemoryRegistry;
    let registry = Arc::new(MemoryRegistry::new());
    let world = World::asking(registry.clone());
    let connects = || {
        let (mut client, mut server) = world.pair();
        settle(&mut client, &mut server)
    };
    assert_eq!(connects(), Err(Error::UnknownPeer), "an empty registry lets nobody in");
    registry.add(support::HOME.into(), world.client_vault.public_key());
    assert_eq!(connects(), Ok(()));
    registry.remove(support::HOME.into(), &world.client_vault.public_key()).unwrap();
    assert_eq!(connects(), Err(Error::UnknownPeer));
}
