//! One short test for each misuse of a connection, a server or a key: an error, and nothing lost.

use crate::support::{World, recv, settle, take};
use curve_tun::connection::{Answer, Connection, ConnectionState};
use curve_tun::protocol::MESSAGE_MAX;
use curve_tun::{Error, KEY_TEXT_LEN, PublicKey, SecretKey};

#[test]
fn sending_before_the_handshake_is_over_is_a_wrong_state() {
    let (mut client, mut server) = World::new().pair();
    assert_eq!(client.send(b"x"), Err(Error::WrongState));
    assert_eq!(server.send(b"x"), Err(Error::WrongState));
    server.feed(&take(&mut client)).unwrap();
    assert_eq!(server.send(b"x"), Err(Error::WrongState));
    settle(&mut client, &mut server).unwrap();
    assert_eq!((client.send(b"x"), server.send(b"x")), (Ok(()), Ok(())));
}

#[test]
fn receiving_when_nothing_came_would_block() {
    let (mut client, _) = World::new().pair();
    assert_eq!(client.peek(), Err(Error::WouldBlock));
    assert_eq!(client.recv(&mut [0; 10]), Err(Error::WouldBlock));
}

#[test]
fn receiving_into_a_buffer_too_small_keeps_the_message() {
    let (mut client, mut server) = World::new().connected();
    client.send(b"whole").unwrap();
    settle(&mut client, &mut server).unwrap();
    let mut small = [0xaa; 4];
    assert_eq!(server.recv(&mut small), Err(Error::TooSmall));
    assert_eq!(small, [0xaa; 4]);
    assert_eq!(recv(&mut server).unwrap(), b"whole");
}

#[test]
fn consuming_when_nothing_came_does_nothing() {
    let (mut client, mut server) = World::new().pair();
    client.consume();
    server.consume();
    settle(&mut client, &mut server).unwrap();
    server.consume();
    client.send(b"not consumed").unwrap();
    settle(&mut client, &mut server).unwrap();
    assert_eq!(recv(&mut server).unwrap(), b"not consumed");
}

#[test]
fn a_message_half_come_is_not_consumed() {
    let (mut client, mut server) = World::new().connected();
    client.send(b"in two pieces").unwrap();
    let bytes = take(&mut client);
    server.feed(&bytes[..20]).unwrap();
    server.consume();
    server.feed(&bytes[20..]).unwrap();
    assert_eq!(recv(&mut server).unwrap(), b"in two pieces");
}

#[test]
fn reading_nothing_takes_nothing() {
    let (mut client, mut server) = World::new().connected();
    assert_eq!((client.feed(&[]), client.received(0), server.transmit(&mut [])), (Ok(0), Ok(()), Ok(0)));
    client.send(b"fine").unwrap();
    assert_eq!(client.transmit(&mut []), Ok(0));
    settle(&mut client, &mut server).unwrap();
    assert_eq!(recv(&mut server).unwrap(), b"fine");
}

#[test]
fn more_written_than_was_pending_is_all_that_was_pending() {
    let (mut client, mut server) = World::new().connected();
    for count in [1_000, usize::MAX] {
        client.sent(count);
        client.send(b"lost by the driver").unwrap();
        client.sent(1);
        client.sent(count);
        assert!(!client.wants_write());
    }
    server.send(b"the other way").unwrap();
    settle(&mut client, &mut server).unwrap();
    assert_eq!(recv(&mut client).unwrap(), b"the other way");
}

#[test]
fn more_filled_than_there_was_room_closes_at_worst() {
    for count in [1, 4096, 4097, usize::MAX] {
        let (mut client, _) = World::new().connected();
        // There is no room without asking for the buffer first.
        assert!(matches!(client.received(count), Ok(()) | Err(Error::BadPacket)));
        let (mut client, _) = World::new().connected();
        client.recv_buffer().unwrap();
        let filled = client.received(count);
        // Zeros in the buffer that was never written are a frame of length 0.
        assert_eq!(filled, if count == 1 { Ok(()) } else { Err(Error::BadPacket) }, "{count}");
        assert!(client.peek().is_err());
    }
}

fn closed_calls(connection: &mut Connection) {
    assert_eq!(connection.state(), ConnectionState::Closed);
    for _ in 0..2 {
        assert_eq!(connection.feed(b"x"), Err(Error::Closed));
        assert_eq!(connection.recv_buffer().err(), Some(Error::Closed));
        assert_eq!(connection.received(0), Err(Error::Closed));
        assert_eq!(connection.send(b"x"), Err(Error::Closed));
        assert_eq!(connection.transmit(&mut [0; 10]), Err(Error::Closed));
        assert_eq!(connection.peek(), Err(Error::Closed));
        assert_eq!(connection.recv(&mut [0; 10]), Err(Error::Closed));
        assert_eq!(connection.answer(Answer::Verdict(true)), Err(Error::Closed));
        assert_eq!(connection.tick(0), Err(Error::Closed));
        assert!(connection.send_buffer().is_empty() && connection.request().is_none());
        assert!(!connection.wants_read() && !connection.wants_write());
        connection.consume();
        connection.sent(1);
        connection.close();
        assert_eq!(connection.transport_ended(), Error::Closed);
    }
}

#[test]
fn after_close_every_call_says_closed_in_whatever_state_it_was() {
    let world = World::new();
    let (mut client, mut server) = world.pair();
    client.close();
    server.close();
    closed_calls(&mut client);
    closed_calls(&mut server);

    let (mut client, mut server) = world.pair();
    server.feed(&take(&mut client)).unwrap();
    client.close();
    server.close();
    closed_calls(&mut client);
    closed_calls(&mut server);

    let (mut client, mut server) = world.connected();
    client.send(b"dropped").unwrap();
    client.close();
    server.close();
    closed_calls(&mut client);
    closed_calls(&mut server);
    assert_eq!(client.peer_key(), Some(world.server_key()));
}

#[test]
fn after_an_error_every_call_says_closed() {
    let (mut client, mut server) = World::new().connected();
    assert_eq!(server.feed(&[0, 0]), Err(Error::BadPacket));
    closed_calls(&mut server);
    client.set_counters(u64::MAX, 2);
    assert_eq!(client.send(b"x"), Err(Error::CounterExhausted));
    closed_calls(&mut client);
}

#[test]
fn a_hello_taken_in_part_makes_the_client_initiating_and_the_rest_still_goes() {
    let (mut client, mut server) = World::new().pair();
    let hello = client.send_buffer().to_vec();
    client.sent(0);
    assert_eq!(client.state(), ConnectionState::Ready);
    client.sent(1);
    assert_eq!(client.state(), ConnectionState::Initiating);
    assert_eq!(client.send_buffer(), &hello[1..]);
    server.feed(&hello[..1]).unwrap();
    settle(&mut client, &mut server).unwrap();
    assert_eq!(server.state(), ConnectionState::Connected);
}

#[test]
fn a_text_that_is_not_a_key_is_refused() {
    let text = SecretKey::generate().unwrap().public_key().unwrap().to_string();
    assert_eq!(text.len(), KEY_TEXT_LEN);
    let with = |at: usize, character: &str| {
        let mut text = text.clone();
        text.replace_range(at..=at, character);
        text
    };
    let bad = [
        String::new(),
        "A".into(),
        text[..43].into(),
        format!("{text}="),
        format!("{text}\n"),
        format!(" {}", &text[..43]),
        format!("{} ", &text[..43]),
        with(0, "-"),
        with(7, "_"),
        with(20, "="),
        with(43, "A"),
        with(20, "\0"),
        // 44 bytes, but not 44 characters.
        with(20, "é")[..43].to_owned() + "=",
        // Bits set that no key has: the last character before the padding carries four bits, the
        // rest is zero.
        with(42, "B"),
        "=".repeat(44),
        "A".repeat(44),
    ];
    for bad in bad {
        assert_eq!(bad.parse::<PublicKey>(), Err(Error::BadKeyText), "{bad:?}");
    }
}

#[test]
fn a_key_is_what_its_text_says() {
    for n in 0..64u8 {
        let key =
            PublicKey(std::array::from_fn(|i| n.wrapping_mul(37).wrapping_add((i as u8).wrapping_mul(n))));
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(format!("{key:?}"), format!("PublicKey({key})"));
    }
    let text = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    assert_eq!(text.parse(), Ok(PublicKey(std::array::from_fn(|i| i as u8))));
}

#[test]
fn an_error_is_one_of_io_with_its_errno() {
    for (error, errno) in [
        (Error::Timeout, libc::ETIMEDOUT),
        (Error::WouldBlock, libc::EAGAIN),
        (Error::Closed, libc::ENOTCONN),
        (Error::ConnectionRefused, libc::ECONNREFUSED),
        (Error::TooManyFiles, libc::EMFILE),
        (Error::NoBuffers, libc::ENOBUFS),
        (Error::DiskFull, libc::ENOSPC),
        (Error::FileNotFound, libc::ENOENT),
    ] {
        assert_eq!(std::io::Error::from(error).raw_os_error(), Some(errno));
    }
    for error in Error::ALL.iter().copied() {
        let io = std::io::Error::from(error);
        let inner = io.get_ref().and_then(|inner| inner.downcast_ref());
        assert!(io.raw_os_error().is_some() || inner == Some(&error), "{error:?}");
    }
}

#[test]
fn every_error_has_a_number_a_name_an_atom_and_a_sentence() {
    let mut names = std::collections::HashSet::new();
    for (n, error) in (1..).zip(Error::ALL.iter().copied()) {
        assert_eq!((error.code(), Error::from_code(n)), (n, Some(error)));
        assert!(error.name().starts_with("CURVE_TUN_ERR_") && names.insert(error.name()));
        assert!(
            !error.atom().is_empty() && error.atom().bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        );
        assert_eq!(error.to_string(), error.message());
        assert!(!error.message().is_empty() && !error.message().ends_with(['.', '\0']));
    }
    assert!(Error::TooLarge.message().contains(&format!(" {MESSAGE_MAX} ")));
    for code in [i32::MIN, -1, 0, Error::ALL.len() as i32 + 1, i32::MAX] {
        assert_eq!(Error::from_code(code), None);
    }
}
