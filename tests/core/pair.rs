//! An in-memory pair of peers: every size both ways, bytes in pieces of every kind.

use crate::support;
use crate::support::{FRAME_OVERHEAD, World, message, recv, recv_all, settle, take};
use curve_tun::Error;
use curve_tun::connection::{ConnectionState, Role};
use curve_tun::protocol::MESSAGE_MAX;

#[test]
fn the_handshake_ends_connected_with_the_peers_key_known() {
    let world = World::new();
    let (client, server) = world.connected();
    assert_eq!((client.state(), client.role()), (ConnectionState::Connected, Role::Client));
    assert_eq!((server.state(), server.role()), (ConnectionState::Connected, Role::Server));
    assert_eq!(client.peer_key(), Some(world.server_key()));
    assert_eq!(server.peer_key(), Some(world.client_vault.public_key()));
    assert_eq!(world.server.handshakes_in_flight(), 0);
}

#[test]
fn no_key_is_known_before_the_handshake_is_over() {
    let (mut client, mut server) = World::new().pair();
    assert_eq!((client.peer_key(), server.peer_key()), (None, None));
    server.feed(&take(&mut client)).unwrap();
    assert_eq!(server.peer_key(), None);
}

#[test]
fn messages_of_every_size_arrive_both_ways() {
    let (mut client, mut server) = World::new().connected();
    let edges = [16_384, 32_767, 32_768, 65_000].into_iter().chain(MESSAGE_MAX - 3..=MESSAGE_MAX);
    for size in (0..=4096).chain(edges) {
        let (up, down) = (message(size, 1), message(size, 2));
        client.send(&up).unwrap();
        server.send(&down).unwrap();
        settle(&mut client, &mut server).unwrap();
        assert!(recv(&mut server).unwrap() == up, "{size} bytes to the server");
        assert!(recv(&mut client).unwrap() == down, "{size} bytes to the client");
    }
}

#[test]
fn a_message_too_large_is_refused_and_uses_no_counter() {
    let (mut client, mut server) = World::new().connected();
    for size in [MESSAGE_MAX + 1, 65_535, 65_536, 131_072] {
        assert_eq!(client.send(&message(size, 0)), Err(Error::TooLarge));
        assert_eq!(server.send(&message(size, 0)), Err(Error::TooLarge));
        assert!(!client.wants_write() && !server.wants_write());
        client.send(b"still here").unwrap();
        server.send(b"here too").unwrap();
        // A counter used up would leave a gap, and a gap closes the connection.
        settle(&mut client, &mut server).unwrap();
        assert_eq!(recv(&mut server).unwrap(), b"still here");
        assert_eq!(recv(&mut client).unwrap(), b"here too");
    }
}

#[test]
fn bytes_that_come_one_at_a_time_are_enough() {
    let (mut client, mut server) = World::new().pair();
    let mut one_by_one = |client: &mut curve_tun::connection::Connection| {
        for byte in take(client) {
            assert_eq!(server.feed(&[byte]), Ok(1));
        }
        server.send_buffer().to_vec().iter().for_each(|byte| {
            server.sent(1);
            client.feed(&[*byte]).unwrap();
        });
    };
    one_by_one(&mut client);
    client.send(b"at last").unwrap();
    one_by_one(&mut client);
    assert_eq!(client.state(), ConnectionState::Connected);
    assert_eq!(recv(&mut server).unwrap(), b"at last");
}

#[test]
fn nothing_is_decided_before_the_last_byte() {
    let (mut client, mut server) = World::new().pair();
    let hello = take(&mut client);
    server.feed(&hello[..hello.len() - 1]).unwrap();
    assert_eq!((server.state(), server.wants_write()), (ConnectionState::Ready, false));
    server.feed(&hello[hello.len() - 1..]).unwrap();
    assert_eq!((server.state(), server.wants_write()), (ConnectionState::Accepting, true));
}

#[test]
fn many_frames_may_come_in_one_read() {
    let (mut client, mut server) = World::new().connected();
    let sent: Vec<_> = (0..100).map(|n| message(n, n)).collect();
    sent.iter().for_each(|message| client.send(message).unwrap());
    let bytes = take(&mut client);
    assert_eq!(server.feed(&bytes), Ok(bytes.len()));
    assert_eq!(recv_all(&mut server), sent);
}

#[test]
fn room_and_filled_bring_the_same_as_read() {
    let (mut client, mut server) = World::new().connected();
    let sent: Vec<_> = (0..50).map(|n| message(n * 40, n)).collect();
    sent.iter().for_each(|message| client.send(message).unwrap());
    let bytes = take(&mut client);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let room = server.recv_buffer().unwrap();
        let count = room.len().min(rest.len()).min(1000);
        room[..count].copy_from_slice(&rest[..count]);
        server.received(count).unwrap();
        rest = &rest[count..];
    }
    assert_eq!(recv_all(&mut server), sent);
}

#[test]
fn write_gives_the_bytes_that_pending_shows() {
    let (mut client, mut server) = World::new().pair();
    let hello = client.send_buffer().to_vec();
    let (mut written, mut piece) = (Vec::new(), [0; 7]);
    while client.wants_write() {
        let count = client.transmit(&mut piece).unwrap();
        written.extend_from_slice(&piece[..count]);
    }
    assert_eq!(written, hello);
    assert_eq!(client.transmit(&mut piece), Ok(0));
    server.feed(&written).unwrap();
    assert_eq!(server.state(), ConnectionState::Accepting);
}

#[test]
fn the_first_message_leaves_together_with_the_initiate() {
    let (mut client, mut server) = World::new().pair();
    server.feed(&take(&mut client)).unwrap();
    client.feed(&take(&mut server)).unwrap();
    client.send(b"first").unwrap();
    let bytes = take(&mut client);
    assert_eq!(bytes.len(), support::INITIATE_FRAME + FRAME_OVERHEAD + 5);
    server.feed(&bytes).unwrap();
    assert_eq!(recv(&mut server).unwrap(), b"first");
}

#[test]
fn a_message_fits_a_buffer_of_its_length_and_waits_for_one() {
    let (mut client, mut server) = World::new().connected();
    client.send(b"12345").unwrap();
    client.send(b"").unwrap();
    settle(&mut client, &mut server).unwrap();
    assert_eq!(server.recv(&mut [0; 4]), Err(Error::TooSmall));
    let mut buffer = [0; 5];
    assert_eq!(server.recv(&mut buffer), Ok(5));
    assert_eq!(&buffer, b"12345");
    assert_eq!(server.recv(&mut []), Ok(0));
    assert_eq!(server.recv(&mut []), Err(Error::WouldBlock));
}

#[test]
fn a_handshake_agrees_three_keys_on_each_side_and_two_when_the_peer_is_known() {
    let world = World::new();
    // Both sides run on this thread: hello, short-term keys and vouch, each on both sides; later
    // without the vouch.
    for expected in [6, 4, 4] {
        let before = curve_tun::test_util::agreements();
        world.connected();
        assert_eq!(curve_tun::test_util::agreements() - before, expected);
    }
    world.server_vault.forget_shared_keys();
    let before = curve_tun::test_util::agreements();
    world.connected();
    assert_eq!(curve_tun::test_util::agreements() - before, 5);
}

#[test]
fn a_forged_vouch_costs_the_same_whether_or_not_its_key_is_remembered() {
    use curve_tun::vault::Purpose;
    let world = World::new();
    let (client, server) = (world.client_vault.public_key(), world.server_key());
    let mut vouch = [0; 48];
    let nonce = world.client_vault.box_seal(Purpose::Vouch, &server, &[7; 32], &mut vouch).unwrap();
    let cost = |vouch: &[u8]| {
        let before = curve_tun::test_util::agreements();
        let opened = world.server_vault.box_open(Purpose::Vouch, &client, &nonce, vouch, &mut [0; 32]);
        (opened, curve_tun::test_util::agreements() - before)
    };
    let mut forged = vouch;
    forged[0] ^= 1;
    let unknown = cost(&forged);
    assert_eq!(cost(&vouch), (Ok(()), 1));
    assert_eq!(cost(&vouch), (Ok(()), 0), "the key is remembered");
    assert_eq!(cost(&forged), unknown);
}
