//! The last counters, high-water marks, deadlines, and handshakes in flight.

use crate::support;
use crate::support::{FRAME_OVERHEAD, World, carry, message, recv, recv_all, settle, take};
use curve_tun::Error;
use curve_tun::connection::{Connection, ConnectionState, Options};
use curve_tun::protocol::MESSAGE_MAX;
use std::time::Duration;

const LAST: u64 = u64::MAX - 1;
/// The largest frame.
const FRAME_MAX: usize = 2 + 65_535;

#[test]
fn the_last_send_counter_works_and_then_it_is_exhausted_without_a_wrap() {
    let (mut client, mut server) = World::new().connected();
    server.send(b"came before").unwrap();
    settle(&mut client, &mut server).unwrap();
    client.set_counters(LAST, 3);
    server.set_counters(2, LAST);
    client.send(b"the last").unwrap();
    assert_eq!(client.send(b"one too many"), Err(Error::CounterExhausted));
    assert_eq!(client.state(), ConnectionState::Closed);
    assert_eq!(client.send(b"again"), Err(Error::Closed));
    // Messages sealed in time may still leave, and those before the end can still be read.
    let mut bytes = vec![0; 1000];
    let count = client.transmit(&mut bytes).unwrap();
    assert_eq!(count, FRAME_OVERHEAD + 8);
    assert_eq!(client.transmit(&mut bytes[count..]), Err(Error::Closed));
    server.feed(&bytes[..count]).unwrap();
    assert_eq!(recv(&mut server).unwrap(), b"the last");
    assert_eq!(recv(&mut client).unwrap(), b"came before");
    assert_eq!(recv(&mut client), Err(Error::Closed));
}

#[test]
fn the_last_receive_counter_works_and_then_it_is_exhausted() {
    let (mut client, mut server) = World::new().connected();
    client.set_counters(LAST, 2);
    server.set_counters(2, LAST);
    client.send(b"the last").unwrap();
    let frame = take(&mut client);
    assert_eq!(server.feed(&frame), Ok(frame.len()));
    for counter in [u64::MAX, 0, 2] {
        let mut after = frame.clone();
        after[10..18].copy_from_slice(&counter.to_be_bytes());
        let (_, mut server) = World::new().connected();
        server.set_counters(2, u64::MAX);
        assert_eq!(server.feed(&after), Err(Error::CounterExhausted));
        assert_eq!(server.state(), ConnectionState::Closed);
    }
    assert_eq!(server.feed(&frame), Err(Error::CounterExhausted));
    assert_eq!(recv_all(&mut server), [b"the last"]);
    assert_eq!(recv(&mut server), Err(Error::Closed));
}

fn with_receive_mark(receive_high_water: usize) -> World {
    World::with(Options::default().receive_high_water(receive_high_water))
}

#[test]
fn a_receiver_that_does_not_receive_takes_no_more_than_the_mark_and_one_packet() {
    for (mark, size) in [(1, 0), (1, 65_503), (1000, 10), (1000, 999), (100_000, 65_503), (262_144, 1000)] {
        let (mut client, mut server) = with_receive_mark(mark).connected();
        let mut taken = 0;
        let mut sent = 0;
        while server.wants_read() {
            client.send(&message(size, sent)).unwrap();
            sent += 1;
            taken += carry(&mut client, &mut server).unwrap();
            assert!(taken <= mark + FRAME_MAX, "{taken} bytes taken with a mark of {mark}");
        }
        assert!(taken >= mark.min(size + FRAME_OVERHEAD));
        // The sender notices: nothing is taken, nothing breaks.
        client.send(&message(size, sent)).unwrap();
        sent += 1;
        assert_eq!(carry(&mut client, &mut server), Ok(0));
        assert!(server.recv_buffer().unwrap().is_empty());
        // Once there is a receiver everything arrives.
        for n in 0..sent {
            while !carry(&mut client, &mut server).is_ok_and(|moved| moved == 0) {}
            assert!(recv(&mut server).unwrap() == message(size, n), "message {n} with a mark of {mark}");
        }
        assert_eq!(recv(&mut server), Err(Error::WouldBlock));
    }
}

#[test]
fn an_initiate_and_a_message_beyond_the_mark_are_taken_in_one_read() {
    let (mut client, mut server) = with_receive_mark(1).pair();
    server.feed(&take(&mut client)).unwrap();
    client.feed(&take(&mut server)).unwrap();
    let largest = message(MESSAGE_MAX, 1);
    client.send(&largest).unwrap();
    let bytes = take(&mut client);
    assert_eq!(server.feed(&bytes), Ok(bytes.len()), "no message waited: there was room for all");
    assert_eq!(recv(&mut server), Ok(largest));
}

#[test]
fn bytes_refused_at_the_mark_may_come_again_in_any_pieces() {
    let (mut client, mut server) = with_receive_mark(100).connected();
    let sent: Vec<_> = (0..2000).map(|n| message(n % 90, n)).collect();
    sent.iter().for_each(|message| client.send(message).unwrap());
    let bytes = take(&mut client);
    let (mut given, mut received) = (0, Vec::new());
    for step in (1..).cycle().take(1_000_000) {
        if received.len() == sent.len() {
            break;
        }
        let piece = &bytes[given..bytes.len().min(given + step % 977)];
        given += server.feed(piece).unwrap();
        if step % 3 == 0 {
            received.extend(recv(&mut server).ok());
        }
    }
    assert!(received == sent);
}

#[test]
fn fifty_megabytes_each_way_arrive_though_both_send_before_either_reads() {
    const COUNT: usize = 50_000_000 / 50_000;
    let (mut client, mut server) = World::new().connected();
    let (up, down) = (message(50_000, 1), message(50_000, 2));
    for _ in 0..COUNT {
        client.send(&up).unwrap();
        server.send(&down).unwrap();
    }
    let (mut at_server, mut at_client) = (0, 0);
    while at_server < COUNT || at_client < COUNT {
        let moved = carry(&mut client, &mut server).unwrap() + carry(&mut server, &mut client).unwrap();
        let received = (recv_all(&mut server), recv_all(&mut client));
        assert!(moved > 0 || !received.0.is_empty() || !received.1.is_empty(), "no progress");
        assert!(received.0.iter().all(|message| *message == up));
        assert!(received.1.iter().all(|message| *message == down));
        at_server += received.0.len();
        at_client += received.1.len();
    }
    assert_eq!((at_server, at_client), (COUNT, COUNT));
}

#[test]
fn at_the_send_mark_a_message_is_not_taken_and_no_counter_is_used() {
    let options = Options::default().send_high_water(1000);
    let (mut client, mut server) = World::with(options).connected();
    let mut sent = 0;
    while client.send_buffer().len() < 1000 {
        client.send(&message(100, sent)).unwrap();
        sent += 1;
    }
    for _ in 0..3 {
        assert_eq!(client.send(b"not now"), Err(Error::WouldBlock));
    }
    settle(&mut client, &mut server).unwrap();
    client.send(b"now").unwrap();
    settle(&mut client, &mut server).unwrap();
    let received = recv_all(&mut server);
    assert_eq!(received.len(), sent + 1);
    assert_eq!(received[sent], b"now");
}

#[test]
fn a_server_has_no_more_handshakes_in_flight_than_it_allows() {
    let world = World::with(Options::default().handshakes_max(2));
    let refused = || Connection::server(&world.server, support::HOME).err();
    let ((mut client, mut first), second) = (world.pair(), world.accept());
    assert_eq!((world.server.handshakes_in_flight(), refused()), (2, Some(Error::TooManyHandshakes)));
    // A finished handshake makes room, whether it succeeded or failed.
    settle(&mut client, &mut first).unwrap();
    assert_eq!((world.server.handshakes_in_flight(), refused()), (1, None));
    let mut third = world.accept();
    assert_eq!(refused(), Some(Error::TooManyHandshakes));
    drop(second);
    assert_eq!(world.server.handshakes_in_flight(), 1);
    third.feed(&[0, 0]).unwrap_err();
    assert_eq!(world.server.handshakes_in_flight(), 0);
}

#[test]
fn one_deadline_runs_from_the_first_tick_to_connected() {
    let world = World::with(Options::default().handshake_timeout(Duration::from_millis(500)));
    let (mut client, mut server) = world.pair();
    assert_eq!((client.tick(1000), server.tick(2000)), (Ok(Some(1500)), Ok(Some(2500))));
    server.feed(&take(&mut client)).unwrap();
    // Progress does not extend the deadline.
    assert_eq!(server.tick(2499), Ok(Some(2500)));
    assert_eq!(server.tick(2500), Err(Error::Timeout));
    assert_eq!(server.tick(2501), Err(Error::Closed));
    assert_eq!((server.state(), server.wants_write()), (ConnectionState::Closed, false));
    assert_eq!(client.tick(1499), Ok(Some(1500)));
    assert_eq!(client.tick(99_999), Err(Error::Timeout));
}

#[test]
fn an_established_connection_has_no_deadline() {
    let (mut client, mut server) = World::new().connected();
    for now in [0, 1_000_000, u64::MAX] {
        client.tick(now).unwrap();
        server.tick(now).unwrap();
    }
    client.send(b"still here").unwrap();
    settle(&mut client, &mut server).unwrap();
    assert_eq!(recv(&mut server).unwrap(), b"still here");
}

#[test]
fn options_out_of_their_range_are_refused_by_both_ends() {
    let world = World::new();
    let with = |change: fn(&mut Options)| {
        let mut options = Options::default();
        change(&mut options);
        let client = Connection::client(world.client_vault.clone(), world.server_key(), &options).err();
        let (vault, registry) = (world.server_vault.clone(), world.server.registry().clone());
        let server = curve_tun::connection::Server::new(vault, registry, options, 0).err();
        assert_eq!(client, server);
        client
    };
    let bad: [fn(&mut Options); 6] = [
        |options| options.handshake_timeout = Duration::ZERO,
        |options| options.receive_high_water = 0,
        |options| options.receive_high_water = (1 << 30) + 1,
        |options| options.send_high_water = 0,
        |options| options.send_high_water = 1 << 32,
        |options| options.handshakes_max = 0,
    ];
    for change in bad {
        assert_eq!(with(change), Some(Error::InvalidArgument));
    }
    let edges: [fn(&mut Options); 5] = [
        |options| options.handshake_timeout = Duration::from_millis(1),
        |options| options.handshake_timeout = Duration::MAX,
        |options| (options.receive_high_water, options.send_high_water) = (1, 1),
        |options| (options.receive_high_water, options.send_high_water) = (1 << 30, (1 << 32) - 1),
        |options| options.handshakes_max = 1,
    ];
    for change in edges {
        assert_eq!(with(change), None);
    }
}
