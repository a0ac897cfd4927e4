//! The bytes of each message, and what each rule refuses.

use super::{message, open, open_messages, open_stream};
use curve_tun::Error;
use curve_tun::stream::{AbortCode, Event, Machine, Mode, Options};

fn options(mode: Mode) -> Options {
    if mode == Mode::Stream { Options::stream() } else { Options::messages() }
}

/// A server whose peer has opened, and which has answered.
fn opened(mode: Mode) -> Machine {
    let mut machine = Machine::server(&options(mode));
    let first = if mode == Mode::Stream { open_stream() } else { open_messages(1 << 20) };
    assert_eq!(machine.receive(&first).unwrap(), Event::Opened);
    machine.accept().unwrap();
    machine.next_message().unwrap();
    machine
}

/// What is sent after this one message, which must be refused with `error`.
fn refused(mut machine: Machine, bytes: &[u8], error: Error) -> Option<Vec<u8>> {
    assert_eq!(machine.receive(bytes), Err(error), "{bytes:?}");
    assert_eq!(machine.received_end(), Err(error));
    assert_eq!(machine.check_send(), Err(error));
    assert_eq!(machine.data(b"more").unwrap_err(), error);
    let said = machine.next_message();
    assert_eq!(machine.next_message(), None, "one ABORT, and nothing after it");
    // What comes after is dropped, whatever it is.
    for late in [&b"\x01"[..], b"", b"\x09", b"\x00more"] {
        assert_eq!(machine.receive(late).unwrap(), Event::Nothing);
    }
    assert_eq!(machine.received_end(), Err(error));
    said
}

/// That it breaks a rule: ABORT 1.
fn violates(machine: Machine, bytes: &[u8]) {
    assert_eq!(refused(machine, bytes, Error::BadPacket).unwrap(), [2, 0, 1], "{bytes:?}");
}

#[test]
fn a_clients_open_has_its_fields() {
    let mut options = Options::messages();
    options.message_max = 0x0102_0304;
    options.service = Some("web-1".parse().unwrap());
    options.client_address = Some("192.0.2.7:8080".parse().unwrap());
    let mut client = Machine::client(&options);
    let rest = b"\x01\x01\x02\x03\x04\x01\x00\x05web-1\x02\x00\x07\x04\xc0\x00\x02\x07\x1f\x90";
    assert_eq!(client.next_message().unwrap(), open(rest));
    assert_eq!(client.next_message(), None);

    let mut server = Machine::server(&options);
    assert_eq!(server.receive(&open(rest)).unwrap(), Event::Opened);
    let peer = server.peer().unwrap();
    assert_eq!(peer.service.as_ref().unwrap().as_str(), "web-1");
    assert_eq!(peer.client_address, options.client_address);
    assert_eq!((peer.mode, peer.message_max), (Mode::Messages, 0x0102_0304));
    server.accept().unwrap();
    assert_eq!(server.next_message().unwrap(), open(b"\x01\x01\x02\x03\x04"), "a server has no fields");
    assert_eq!(server.accept(), Err(Error::WrongState));

    options.client_address = Some("[2001:db8::1]:1".parse().unwrap());
    let said = Machine::client(&options).next_message().unwrap();
    let field = b"\x02\x00\x13\x06\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x01";
    assert!(said.ends_with(field), "{said:?}");
    // An address of IPv4 in IPv6's clothes is one of IPv4.
    options.client_address = Some("[::ffff:192.0.2.7]:8080".parse().unwrap());
    assert!(Machine::client(&options).next_message().unwrap().ends_with(&rest[14..]));
}

#[test]
fn fields_that_are_not_known_are_passed_over_unless_they_must_be_known() {
    let with = |fields: &[u8]| open(&[&[0, 0, 0, 0, 0], fields].concat());
    let server = || Machine::server(&Options::stream());
    for fields in [&b"\x03\x00\x00"[..], b"\x7f\x00\x02ab", b"\x01\x00\x01a\x03\x00\x01x\x7f\x00\x00"] {
        assert_eq!(server().receive(&with(fields)).unwrap(), Event::Opened, "{fields:?}");
    }
    let long = [&b"\x03\xff\x00"[..], &[7; 0xff00]].concat();
    assert_eq!(server().receive(&with(&long)).unwrap(), Event::Opened);
    let bad: [&[u8]; 18] = [
        b"\x80\x00\x00",
        b"\xff\x00\x00",
        b"\x00\x00\x00",
        b"\x03",
        b"\x03\x00",
        b"\x03\x00\x01",
        b"\x03\x00\x00\x03\x00\x00",
        b"\x04\x00\x00\x03\x00\x00",
        b"\x01\x00\x00",
        b"\x01\x00\x01A",
        b"\x01\x00\x01/",
        b"\x01\x00\x02\xc3\xa4",
        b"\x02\x00\x00",
        b"\x02\x00\x07\x06\xc0\x00\x02\x07\x1f\x90",
        b"\x02\x00\x07\x05\xc0\x00\x02\x07\x1f\x90",
        b"\x02\x00\x08\x04\xc0\x00\x02\x07\x1f\x90\x00",
        b"\x02\x00\x06\x04\xc0\x00\x02\x07\x1f",
        b"\x02\x00\x01\x04",
    ];
    for fields in bad {
        violates(server(), &with(fields));
    }
    let name = |len: u8| [&[1, 0, len], &vec![b'n'; len.into()][..]].concat();
    assert_eq!(server().receive(&with(&name(64))).unwrap(), Event::Opened);
    violates(server(), &with(&name(65)));
    // A server has none of a client's.
    let client = || Machine::client(&Options::stream());
    violates(client(), &with(b"\x01\x00\x01a"));
    violates(client(), &with(b"\x02\x00\x07\x04\xc0\x00\x02\x07\x1f\x90"));
    assert_eq!(client().receive(&with(b"\x03\x00\x00")).unwrap(), Event::Opened);
}

#[test]
fn modes_and_sizes_that_do_not_fit_are_refused() {
    let stream = || Machine::server(&Options::stream());
    let messages = || Machine::server(&Options::messages());
    violates(stream(), &open_messages(1 << 20));
    violates(messages(), &open_stream());
    violates(stream(), &open(&[0, 0, 0, 0, 1]));
    violates(stream(), &open(&[2, 0, 0, 0, 0]));
    violates(messages(), &open_messages(65_501));
    for short in [&[][..], &[0], &[0, 0, 0, 0]] {
        violates(stream(), &open(short));
    }
    assert_eq!(messages().receive(&open_messages(65_502)).unwrap(), Event::Opened);
    assert_eq!(messages().receive(&open_messages(u32::MAX)).unwrap(), Event::Opened);
}

#[test]
fn who_does_not_speak_the_layer_is_told_nothing() {
    let strange: [&[u8]; 12] = [
        b"",
        b"hello",
        b"\x00data",
        b"\x01",
        b"\x03",
        b"\x03ctstrm0",
        b"\x03ctstrm02\x00\x00\x00\x00\x00",
        b"\x04\x00\x01\x00\x00x",
        b"\x0512345678",
        b"\x0612345678",
        b"\x02\x00",
        b"\x02\x00\x00\xff",
    ];
    for first in strange {
        for machine in [Machine::server(&Options::stream()), Machine::client(&Options::messages())] {
            assert_eq!(refused(machine, first, Error::NotAStream), None, "{first:?}");
        }
    }
}

#[test]
fn what_is_out_of_place_is_refused() {
    for mode in [Mode::Stream, Mode::Messages] {
        let first = if mode == Mode::Stream { open_stream() } else { open_messages(1 << 20) };
        let bad = [
            first,
            vec![],
            message(7, b""),
            message(255, b"x"),
            message(1, b"x"),
            message(2, b"\x00"),
            message(2, &[&[0, 0], &[b'x'; 256][..]].concat()),
            message(2, b"\x00\x00\xff"),
            message(4, b"\x00\x00\xff\xde"),
            message(4, b"\x00\x00\xff\xdex"),
            message(4, b"\x00\x01\x00\x00"),
            message(5, b"1234567"),
            message(5, b"123456789"),
            message(6, b"12345678"),
        ];
        for bytes in bad {
            violates(opened(mode), &bytes);
        }
    }
    violates(opened(Mode::Stream), &message(0, b""));
    violates(opened(Mode::Stream), &message(4, b"\x00\x01\x00\x00x"));
    // A second ping before the answer to the first.
    let mut machine = opened(Mode::Stream);
    assert_eq!(machine.receive(&message(5, b"12345678")).unwrap(), Event::Nothing);
    violates(machine, &message(5, b"12345678"));
    // Before the own OPEN no large message can be asked of an honest peer.
    let mut server = Machine::server(&Options::messages());
    server.receive(&open_messages(1 << 20)).unwrap();
    violates(server, &message(4, b"\x00\x01\x00\x00x"));
}

#[test]
fn nothing_comes_after_an_end_but_probes_and_an_abort() {
    let ended = |mode| {
        let mut machine = opened(mode);
        assert_eq!(machine.receive(&message(1, b"")).unwrap(), Event::End);
        assert_eq!(machine.received_end(), Ok(true));
        machine
    };
    for mode in [Mode::Stream, Mode::Messages] {
        for bytes in [message(0, b"x"), message(1, b""), message(4, b"\x00\x01\x00\x00x"), open_stream()] {
            let mut machine = ended(mode);
            assert_eq!(machine.receive(&bytes), Err(Error::BadPacket));
            assert_eq!(machine.next_message().unwrap(), [2, 0, 1]);
            assert_eq!(machine.received_end(), Ok(true), "the end that was reported stays");
            assert_eq!(machine.check_send(), Err(Error::BadPacket));
        }
        let mut machine = ended(mode);
        assert_eq!(machine.receive(&message(5, b"12345678")).unwrap(), Event::Nothing);
        assert_eq!(machine.next_message().unwrap(), message(6, b"12345678"));
        assert_eq!(machine.receive(&message(2, b"\x00\x03")).unwrap(), Event::Aborted);
        assert_eq!(machine.received_end(), Ok(true));
        assert_eq!(machine.check_send(), Err(Error::Aborted));
        assert_eq!(machine.abort_received().unwrap().code, AbortCode::LocalReset);
    }
}

#[test]
fn an_abort_ends_both_directions() {
    let mut machine = opened(Mode::Stream);
    machine.finish().unwrap();
    assert_eq!(machine.receive(&message(2, b"\x00\x0bnot now")).unwrap(), Event::Aborted);
    assert_eq!(machine.next_message(), None, "nothing after the peer's ABORT");
    assert_eq!(machine.received_end(), Err(Error::Aborted));
    assert_eq!(machine.check_send(), Err(Error::Aborted));
    let abort = machine.abort_received().unwrap();
    assert_eq!((abort.code, abort.text.as_str()), (AbortCode::Busy, "not now"));
    // Instead of an OPEN, too, and with a number that is not known.
    let mut client = Machine::client(&Options::stream());
    assert_eq!(client.receive(&message(2, b"\x12\x34")).unwrap(), Event::Aborted);
    assert_eq!(client.abort_received().unwrap().code, AbortCode::GivenUp);

    let mut machine = opened(Mode::Stream);
    machine.ping(*b"12345678").unwrap();
    machine.finish().unwrap();
    machine.abort(AbortCode::TargetRefused, "");
    machine.abort(AbortCode::Internal, "only the first counts");
    assert_eq!(machine.next_message().unwrap(), [2, 0, 8]);
    assert_eq!(machine.next_message(), None);
    assert_eq!(machine.received_end(), Err(Error::Closed));
    // Before the own OPEN.
    let mut server = Machine::server(&Options::stream());
    server.abort(AbortCode::NoService, &"\u{e4}".repeat(200));
    let said = server.next_message().unwrap();
    assert_eq!(said.len(), 3 + 254, "as much of the text as fits, in whole characters");
    assert!(std::str::from_utf8(&said[3..]).is_ok());
}

#[test]
fn codes_have_their_numbers() {
    let numbers: Vec<u16> = AbortCode::all().iter().map(|code| code.number()).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11]);
    for code in AbortCode::all() {
        assert_eq!(AbortCode::from_number(code.number()), *code);
        assert!(!code.to_string().is_empty());
    }
    for unknown in [7, 12, 255, 256, u16::MAX] {
        assert_eq!(AbortCode::from_number(unknown), AbortCode::GivenUp);
    }
    // Those of the document.
    let document = include_str!("../../../docs/PROTOCOL.md");
    let table = document.split("### 13.3 Codes").nth(1).unwrap().split("###").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok());
    assert_eq!(rows.collect::<Vec<u16>>(), numbers);
}

#[test]
fn data_goes_in_pieces_of_a_packet() {
    let mut machine = opened(Mode::Stream);
    let bytes = vec![7; 70_000];
    let piece = machine.data(&bytes).unwrap().unwrap();
    assert_eq!((piece.header(), piece.body().len()), (&[0][..], 65_502));
    assert!(machine.data(b"").unwrap().is_none());
    assert_eq!(machine.begin_message(1), Err(Error::WrongState));
    assert_eq!(machine.check_message(1), Err(Error::WrongState));
    machine.finish().unwrap();
    machine.finish().unwrap();
    assert_eq!(machine.data(b"x").unwrap_err(), Error::WrongState);
    assert_eq!(machine.next_message().unwrap(), [1]);
    assert_eq!(machine.next_message(), None);
}

#[test]
fn a_large_message_is_announced_and_comes_in_pieces() {
    let mut machine = opened(Mode::Messages);
    let bytes = vec![7; 140_000];
    assert_eq!(machine.data(&bytes).unwrap_err(), Error::WrongState, "not begun");
    machine.begin_message(bytes.len()).unwrap();
    assert_eq!(machine.begin_message(1), Err(Error::WrongState));
    machine.check_message(1).unwrap();
    assert_eq!(machine.finish(), Err(Error::WrongState));
    let piece = machine.data(&bytes).unwrap().unwrap();
    assert_eq!((piece.header(), piece.body().len()), (&[4, 0, 2, 0x22, 0xe0][..], 65_498));
    let piece = machine.data(&bytes[65_498..]).unwrap().unwrap();
    assert_eq!((piece.header(), piece.body().len()), (&[0][..], 65_502));
    // The rest, and no byte beyond it.
    let piece = machine.data(&bytes).unwrap().unwrap();
    assert_eq!((piece.header(), piece.body().len()), (&[0][..], 9_000));
    assert_eq!(machine.data(&bytes).unwrap_err(), Error::WrongState);
    for (len, header) in [(65_502, &[0][..]), (65_503, &[4, 0, 0, 0xff, 0xdf]), (0, &[0]), (1, &[0])] {
        machine.begin_message(len).unwrap();
        let mut left = len;
        let piece = machine.data(&bytes[..left]).unwrap().unwrap();
        assert_eq!(piece.header(), header, "{len}");
        left -= piece.body().len();
        if left > 0 {
            assert_eq!(machine.data(&bytes).unwrap().unwrap().body().len(), left);
        }
    }
    machine.begin_message(10).unwrap();
    assert_eq!(machine.data(&bytes[..9]).unwrap_err(), Error::InvalidArgument, "a part of a small one");
    assert_eq!(machine.data(&bytes).unwrap().unwrap().body().len(), 10);
}

#[test]
fn a_message_that_the_peer_does_not_take_is_not_begun() {
    let mut client = Machine::client(&Options::messages());
    client.next_message().unwrap();
    assert_eq!(client.begin_message(65_503), Err(Error::WouldBlock), "before the peer's OPEN");
    assert_eq!(client.check_message(65_503), Err(Error::WouldBlock));
    client.begin_message(65_502).unwrap();
    let _ = client.data(&[0; 65_502]).unwrap().unwrap();
    client.receive(&open_messages(100_000)).unwrap();
    assert_eq!(client.begin_message(100_001), Err(Error::TooLarge));
    assert_eq!(client.begin_message(1 << 32), Err(Error::TooLarge));
    assert_eq!(client.check_message(100_001), Err(Error::TooLarge));
    client.check_message(100_000).unwrap();
    client.begin_message(100_000).unwrap();
    let _ = client.data(&[0; 100_000]).unwrap().unwrap();
}

#[test]
fn a_message_over_the_limit_is_refused_when_it_is_announced() {
    let mut options = Options::messages();
    options.message_max = 100_000;
    let server = || {
        let mut server = Machine::server(&options);
        server.receive(&open_messages(65_502)).unwrap();
        server.accept().unwrap();
        server.next_message().unwrap();
        server
    };
    let begin = |total: u32| message(4, &[&total.to_be_bytes()[..], b"x"].concat());
    assert_eq!(refused(server(), &begin(100_001), Error::TooLarge).unwrap(), [2, 0, 10]);
    assert_eq!(refused(server(), &begin(u32::MAX), Error::TooLarge).unwrap(), [2, 0, 10]);
    let part = |total, offset, bytes| Event::Part { total, offset, bytes };
    let mut machine = server();
    assert_eq!(machine.receive(&begin(65_503)).unwrap(), part(65_503, 0, b"x"));
    // Within it, probes and nothing else.
    assert_eq!(machine.receive(&message(5, b"12345678")).unwrap(), Event::Nothing);
    let rest = message(0, &[7; 65_500]);
    assert_eq!(machine.receive(&rest).unwrap(), part(65_503, 1, &rest[1..]));
    violates(machine, &message(0, b"xyz"));
    for bytes in [message(1, b""), begin(65_503), message(0, b"")] {
        let mut machine = server();
        machine.receive(&begin(65_503)).unwrap();
        violates(machine, &bytes);
    }
}

#[test]
fn a_server_says_nothing_before_it_has_taken_the_stream() {
    let mut server = Machine::server(&Options::stream());
    assert_eq!(server.accept(), Err(Error::WrongState), "before the client's OPEN");
    assert_eq!(server.data(b"x").unwrap_err(), Error::WrongState);
    assert_eq!(server.finish(), Err(Error::WrongState));
    assert_eq!(server.ping([0; 8]), Err(Error::WrongState));
    server.receive(&open_stream()).unwrap();
    server.receive(&message(5, b"12345678")).unwrap();
    assert!(!server.is_pending());
    assert_eq!(server.next_message(), None, "an answer to a ping waits for the OPEN");
    server.accept().unwrap();
    assert!(server.is_pending());
    assert_eq!(server.data(b"x").unwrap_err(), Error::WrongState, "the OPEN goes first");
    assert_eq!(server.next_message().unwrap(), open_stream());
    assert_eq!(server.next_message().unwrap(), message(6, b"12345678"));
    assert_eq!(Machine::client(&Options::stream()).accept(), Err(Error::WrongState));
}

#[test]
fn pings_are_answered_one_by_one() {
    let mut machine = opened(Mode::Stream);
    machine.ping(*b"abcdefgh").unwrap();
    assert_eq!(machine.ping(*b"other..."), Err(Error::WouldBlock));
    assert_eq!(machine.next_message().unwrap(), message(5, b"abcdefgh"));
    assert_eq!(machine.receive(&message(6, b"abcdefgh")).unwrap(), Event::Pong);
    machine.ping(*b"other...").unwrap();
    machine.next_message().unwrap();
    violates(machine, &message(6, b"abcdefgh"));
}

#[test]
fn an_answer_to_a_ping_is_heard_after_both_ends() {
    let mut machine = opened(Mode::Stream);
    machine.receive(&message(1, b"")).unwrap();
    machine.ping(*b"arrived?").unwrap();
    machine.finish().unwrap();
    assert_eq!(machine.next_message().unwrap(), message(5, b"arrived?"));
    assert_eq!(machine.next_message().unwrap(), message(1, b""));
    assert!(machine.is_finished());
    for other in [message(6, b"another."), message(5, b"12345678"), message(0, b"x")] {
        assert_eq!(machine.receive(&other).unwrap(), Event::Nothing);
    }
    assert_eq!(machine.receive(&message(6, b"arrived?")).unwrap(), Event::Pong);
    assert_eq!(machine.receive(&message(6, b"arrived?")).unwrap(), Event::Nothing);

    // The other end owes it, though it has ended long before and now knows of both ends.
    let mut machine = opened(Mode::Stream);
    machine.finish().unwrap();
    assert_eq!(machine.next_message().unwrap(), message(1, b""));
    machine.receive(&message(5, b"arrived?")).unwrap();
    assert_eq!(machine.receive(&message(1, b"")).unwrap(), Event::End);
    assert!(machine.is_finished());
    assert_eq!(machine.next_message().unwrap(), message(6, b"arrived?"));
}

#[test]
fn a_transport_that_ends_before_the_end_was_cut() {
    let mut machine = opened(Mode::Stream);
    machine.receive(&message(0, b"some")).unwrap();
    machine.transport_ended();
    assert_eq!(machine.received_end(), Err(Error::Truncated));
    assert_eq!(machine.check_send(), Err(Error::Closed));
    // After the end it concerns what this end still sends.
    let mut machine = opened(Mode::Stream);
    machine.receive(&message(1, b"")).unwrap();
    machine.transport_ended();
    assert_eq!(machine.received_end(), Ok(true));
    assert_eq!(machine.check_send(), Err(Error::Closed));
    assert!(!machine.is_finished());
    // After both ends it concerns nothing.
    let mut machine = opened(Mode::Stream);
    machine.receive(&message(1, b"")).unwrap();
    machine.finish().unwrap();
    assert!(!machine.is_finished(), "END is yet to be sent");
    machine.next_message().unwrap();
    machine.transport_ended();
    assert!(machine.is_finished());
    assert_eq!(machine.check_send(), Ok(()));
    // Nor does what still comes.
    for late in [message(2, b"\x00\x03"), message(5, b"12345678"), message(0, b"x"), message(1, b"")] {
        assert_eq!(machine.receive(&late).unwrap(), Event::Nothing);
        assert_eq!((machine.is_finished(), machine.next_message()), (true, None));
    }
    machine.abort(AbortCode::GivenUp, "");
    assert_eq!((machine.is_finished(), machine.next_message()), (true, None));
}
