//! The recorded connections of the original application, repeated byte for byte.
//!
//! `CURVE_TUN_VECTORS` names another folder of recordings.

use crate::support::recorded::{RecordedVault, Recording, Sender, folder, load};
use crate::support::{HOME, recv};
use curve_tun::connection::{Connection, ConnectionState, Options, Server};
use curve_tun::registry::MemoryRegistry;
use curve_tun::{Error, test_util};
use std::sync::Arc;

fn recordings() -> Vec<Recording> {
    load(&folder()).unwrap()
}

/// Our client in the role of the recorded one, before its first byte.
fn client(recording: &Recording) -> Connection {
    test_util::script([&recording.client_short_secret[..]]);
    let vault = RecordedVault { secret: recording.client_secret, nonce: recording.client_nonce };
    let client = Connection::client(Arc::new(vault), recording.server_public(), &Options::default()).unwrap();
    assert_eq!(test_util::remaining(), 0);
    client
}

/// Our server in the role of the recorded one, before its first byte; its short-term key and cookie
/// nonce are scripted.
fn server(recording: &Recording) -> Connection {
    test_util::script([&recording.minute_key[..]]);
    let vault = RecordedVault { secret: recording.server_secret, nonce: recording.server_nonce };
    let registry = MemoryRegistry::new();
    registry.add(HOME.into(), recording.client_public());
    let server = Server::new(Arc::new(vault), Arc::new(registry), Options::default(), 0).unwrap();
    assert_eq!(test_util::remaining(), 0);
    test_util::script([&recording.server_short_secret[..], &recording.server_nonce[..]]);
    Connection::server(&server, HOME).unwrap()
}

/// Takes the pending output, which must be exactly `frame`.
fn says(connection: &mut Connection, frame: &[u8], name: &str) {
    assert!(connection.send_buffer() == frame, "{name}: another packet than the recorded one");
    connection.sent(frame.len());
}

/// Makes `ours` send and receive the recorded messages, as `side`.
fn converse(ours: &mut Connection, side: Sender, recording: &Recording) {
    for message in &recording.messages {
        if message.sender == side {
            ours.send(&message.plaintext).unwrap();
            says(ours, &message.frame, &recording.name);
        } else {
            assert_eq!(ours.feed(&message.frame), Ok(message.frame.len()), "{}", recording.name);
            assert!(recv(ours).unwrap() == message.plaintext, "{}: another plaintext", recording.name);
        }
    }
    assert_eq!(ours.peek(), Err(Error::WouldBlock));
    assert!(!ours.wants_write());
    assert_eq!(ours.state(), ConnectionState::Connected);
}

#[test]
fn our_client_says_what_the_recorded_client_said_and_understands_the_recorded_server() {
    for recording in &recordings() {
        let mut client = client(recording);
        says(&mut client, &recording.hello, &recording.name);
        client.feed(&recording.cookie).unwrap();
        says(&mut client, &recording.initiate, &recording.name);
        converse(&mut client, Sender::Client, recording);
    }
}

#[test]
fn our_server_says_what_the_recorded_server_said_and_understands_the_recorded_client() {
    for recording in &recordings() {
        let mut server = server(recording);
        server.feed(&recording.hello).unwrap();
        assert_eq!(test_util::remaining(), 0);
        says(&mut server, &recording.cookie, &recording.name);
        server.feed(&recording.initiate).unwrap();
        assert_eq!(server.peer_key(), Some(recording.client_public()));
        converse(&mut server, Sender::Server, recording);
    }
}

/// Every copy of `frame` with one byte changed.
fn flipped(frame: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..frame.len()).map(|at| {
        let mut frame = frame.to_vec();
        frame[at] ^= 1;
        frame
    })
}

#[test]
fn a_changed_byte_anywhere_in_a_recorded_handshake_is_refused() {
    let recording = &recordings()[0];
    for hello in flipped(&recording.hello) {
        let mut server = server(recording);
        assert_eq!(server.feed(&hello), Err(Error::BadPacket));
        assert_eq!((server.state(), server.wants_write()), (ConnectionState::Closed, false));
    }
    for (at, cookie) in flipped(&recording.cookie).enumerate() {
        let mut client = client(recording);
        says(&mut client, &recording.hello, &recording.name);
        // A changed length field or magic makes it another packet; any other change makes it a box
        // of another key.
        let error = if at < 10 { Error::BadPacket } else { Error::WrongServerKey };
        assert_eq!(client.feed(&cookie), Err(error), "byte {at}");
        assert_eq!((client.state(), client.wants_write()), (ConnectionState::Closed, false));
    }
    for initiate in flipped(&recording.initiate) {
        let mut server = server(recording);
        server.feed(&recording.hello).unwrap();
        says(&mut server, &recording.cookie, &recording.name);
        assert_eq!(server.feed(&initiate), Err(Error::BadPacket));
        assert_eq!((server.state(), server.wants_write()), (ConnectionState::Closed, false));
    }
}

#[test]
fn a_changed_byte_anywhere_in_a_recorded_message_keeps_it_from_being_delivered() {
    for recording in &recordings() {
        let from_client = recording.messages.iter().find(|m| m.sender == Sender::Client);
        let Some(first) = from_client else { continue };
        // All of a small packet; of a large one its head and its end.
        let len = first.frame.len();
        for (at, frame) in flipped(&first.frame).enumerate().filter(|(at, _)| *at < 80 || at + 80 > len) {
            let mut server = server(recording);
            server.feed(&recording.hello).unwrap();
            server.sent(recording.cookie.len());
            server.feed(&recording.initiate).unwrap();
            let read = server.feed(&frame);
            assert!(server.peek().is_err(), "byte {at}");
            // A larger length only makes it wait for more.
            assert!(at < 2 || read == Err(Error::BadPacket), "byte {at}");
        }
    }
}

#[test]
fn a_folder_without_recordings_is_a_failure() {
    let folder = std::env::temp_dir().join(format!("curve_tun-no-recordings-{}", std::process::id()));
    assert!(load(&folder).is_err(), "a folder that is not there");
    std::fs::create_dir(&folder).unwrap();
    let loaded = load(&folder);
    std::fs::remove_dir(&folder).unwrap();
    assert!(loaded.is_err(), "an empty folder");
}
