//! The transport ends at every byte of the handshake, and anywhere after it.

use crate::support::{
    COOKIE_FRAME, FRAME_OVERHEAD, HELLO_FRAME, INITIATE_FRAME, World, message, recv, recv_all, take,
};
use curve_tun::Error;
use curve_tun::connection::{Connection, ConnectionState};
use proptest::prelude::*;

/// How a transport ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Orderly,
    Broken,
}

/// Carries the output of `from` to `to`, up to `limit` bytes in total for that direction.
fn carry_up_to(from: &mut Connection, to: &mut Connection, passed: &mut usize, limit: usize) -> usize {
    let count = from.send_buffer().len().min(limit - *passed);
    let bytes = from.send_buffer()[..count].to_vec();
    assert_eq!(to.feed(&bytes), Ok(count));
    from.sent(count);
    *passed += count;
    count
}

/// Runs a pair between which `up` bytes pass to the server and `down` to the client.
fn run(world: &World, up: usize, down: usize) -> (Connection, Connection) {
    let (mut client, mut server) = world.pair();
    let (mut to_server, mut to_client) = (0, 0);
    while carry_up_to(&mut client, &mut server, &mut to_server, up)
        + carry_up_to(&mut server, &mut client, &mut to_client, down)
        > 0
    {}
    (client, server)
}

/// Ends it and checks the outcome.
fn end(connection: &mut Connection, end: End, meaning: Error) {
    match end {
        End::Orderly => assert_eq!(connection.transport_ended(), meaning),
        End::Broken => connection.close(),
    }
    assert_eq!(connection.state(), ConnectionState::Closed);
    assert!(!connection.wants_write() && !connection.wants_read());
    assert_eq!(connection.peek(), Err(Error::Closed));
    assert_eq!(connection.feed(b"x"), Err(Error::Closed));
    assert_eq!(connection.send(b"x"), Err(Error::Closed));
    assert_eq!(connection.tick(0), Err(Error::Closed));
}

#[test]
fn bytes_to_the_server_stop_anywhere_in_the_handshake() {
    let world = World::new();
    for how in [End::Orderly, End::Broken] {
        for up in 0..=HELLO_FRAME + INITIATE_FRAME {
            let (mut client, mut server) = run(&world, up, COOKIE_FRAME);
            let states = match up {
                0 => (ConnectionState::Ready, ConnectionState::Ready),
                1..HELLO_FRAME => (ConnectionState::Initiating, ConnectionState::Ready),
                HELLO_FRAME..356 => (ConnectionState::Connected, ConnectionState::Accepting),
                _ => (ConnectionState::Connected, ConnectionState::Connected),
            };
            assert_eq!((client.state(), server.state()), states, "after {up} bytes");
            end(&mut server, how, Error::Closed);
            end(&mut client, how, Error::Closed);
            assert_eq!(world.server.handshakes_in_flight(), 0);
        }
    }
}

#[test]
fn bytes_to_the_client_stop_anywhere_in_the_handshake() {
    let world = World::new();
    for how in [End::Orderly, End::Broken] {
        for down in 0..=COOKIE_FRAME {
            let (mut client, mut server) = run(&world, usize::MAX, down);
            let states = match down {
                0..COOKIE_FRAME => (ConnectionState::Initiating, ConnectionState::Accepting),
                _ => (ConnectionState::Connected, ConnectionState::Connected),
            };
            assert_eq!((client.state(), server.state()), states, "after {down} bytes");
            // A server that takes the hello and then just ends could not open it.
            let meaning = if down == 0 { Error::WrongServerKey } else { Error::Closed };
            end(&mut client, how, meaning);
            end(&mut server, how, Error::Closed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_messages_before_a_cut_are_delivered_and_nothing_else(
        sizes in prop::collection::vec(0usize..3000, 1..8),
        share in 0.0..=1.0f64,
        piece in 1usize..5000,
        broken: bool,
    ) {
        let (mut client, mut server) = World::new().connected();
        let sent: Vec<_> = sizes.iter().enumerate().map(|(n, size)| message(*size, n)).collect();
        sent.iter().for_each(|message| client.send(message).unwrap());
        let bytes = take(&mut client);
        let cut = (bytes.len() as f64 * share) as usize;
        for piece in bytes[..cut].chunks(piece) {
            prop_assert_eq!(server.feed(piece), Ok(piece.len()));
        }
        let mut passed = 0;
        let whole = sizes.iter().take_while(|size| {
            passed += **size + FRAME_OVERHEAD;
            passed <= cut
        });
        let whole = whole.count();
        if broken {
            server.close();
        } else {
            prop_assert_eq!(server.transport_ended(), Error::Closed);
        }
        prop_assert_eq!(server.send(b"x"), Err(Error::Closed));
        prop_assert_eq!(recv_all(&mut server), &sent[..whole]);
        prop_assert_eq!(recv(&mut server), Err(Error::Closed));
    }
}

#[test]
fn five_messages_and_a_close_are_five_messages_and_then_closed_each_time() {
    let (mut client, mut server) = World::new().connected();
    let sent: Vec<_> = (0..5).map(|n| message(10, n)).collect();
    sent.iter().for_each(|message| client.send(message).unwrap());
    server.feed(&take(&mut client)).unwrap();
    assert_eq!(server.transport_ended(), Error::Closed);
    for message in sent {
        assert_eq!(recv(&mut server).unwrap(), message);
    }
    for _ in 0..3 {
        assert_eq!(recv(&mut server), Err(Error::Closed));
    }
}
