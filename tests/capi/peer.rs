//! The independent peer of `tests/peer` against the C examples, in both roles, keeping the rules and breaking each.

use crate::support::c;
use crate::support::c::examples::{Keys, Server, examples, keygen};
use crate::support::independent::{Key, Peer, SIZES, low_order};
use curve_tun::{Error, PublicKey};
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

const SERVERS: [&str; 2] = ["echo_server", "epoll_server"];

/// Starts a server that knows the peer and all keys of low order, so that no refusal can come from
/// the registry.
fn serve(name: &str, its: &Key) -> (Server, PublicKey) {
    let keys = keygen();
    let known = |public| Keys { public, secret: String::new() };
    let known: Vec<Keys> = low_order().into_iter().chain([its.public()]).map(known).collect();
    let server = Server::start(name, &[], &keys, &known.iter().collect::<Vec<_>>());
    (server, keys.public)
}

#[test]
fn its_client_talks_to_the_servers() {
    for name in SERVERS {
        let its = Key::new();
        let (server, key) = serve(name, &its);
        let (port, sizes) = (server.port.to_string(), SIZES.map(|size| size.to_string()));
        let arguments = ["talk", "127.0.0.1", &port].into_iter().chain(sizes.iter().map(String::as_str));
        let mut peer = Peer::start(&arguments.collect::<Vec<_>>(), &its, key);
        assert_eq!(peer.line().unwrap(), format!("{} messages sent and received", SIZES.len()));
        peer.finish();
        server.ends_by_sigterm();
    }
}

#[test]
fn the_servers_hold_against_each_broken_rule() {
    for name in SERVERS {
        let its = Key::new();
        let (server, key) = serve(name, &its);
        let descriptors = server.descriptors();
        let mut peer = Peer::start(&["attack", "127.0.0.1", &server.port.to_string()], &its, key);
        let mut let_in = 0;
        while peer.line().is_some() {
            let_in += 1;
        }
        // It has checked that each attack is refused, and that an honest client is served after
        // each.
        peer.finish();
        assert!(let_in > 90, "the peer knows fewer attacks than it did");
        c::examples::wait_until("all are gone", || server.descriptors() == descriptors);
        server.ends_by_sigterm();
    }
}

/// Starts a peer that waits for the client, which is built by then.
fn its_server(arguments: &[&str], its: &Key, ours: &Key) -> (Peer, String) {
    examples();
    let mut peer = Peer::start(arguments, its, ours.public());
    let port = peer.line().unwrap();
    (peer, port)
}

/// Runs the client with these lines to send.
fn echo_client(port: &str, ours: &Key, its: PublicKey, lines: &str) -> Output {
    let secret = PublicKey(ours.secret).to_string();
    let mut client = Command::new(examples().join("echo_client"))
        .args(["127.0.0.1", port, &secret, &its.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    thread::scope(|scope| {
        // A refused client does not read them.
        scope.spawn(move || _ = stdin.write_all(lines.as_bytes()));
        client.wait_with_output().unwrap()
    })
}

#[test]
fn the_client_talks_to_its_server() {
    let (its, ours) = (Key::new(), Key::new());
    let (peer, port) = its_server(&["echo", "2"], &its, &ours);
    let lines: String = SIZES.map(|size| "m".repeat(size) + "\n").concat();
    for _ in 0..2 {
        let output = echo_client(&port, &ours, its.public(), &lines);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == lines.as_bytes());
    }
    peer.finish();
}

#[test]
fn the_client_holds_against_each_broken_rule() {
    let (its, ours) = (Key::new(), Key::new());
    let (mut peer, port) = its_server(&["trap"], &its, &ours);
    let mut attacks = 0;
    while let Some(line) = peer.line() {
        let (expected, name) = line.split_once(": ").unwrap();
        // It sends one message and reads one: the correct one comes first.
        let output = echo_client(&port, &ours, its.public(), "first\n");
        let printed = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let error = |atom: &str| match atom {
            "bad_packet" => Error::BadPacket,
            "wrong_server_key" => Error::WrongServerKey,
            "closed" => Error::Closed,
            other => panic!("an error that this test does not know: {other}"),
        };
        if let Some(atom) = expected.strip_prefix("refuse with ") {
            assert_eq!((printed, said), (String::new(), format!("connect: {}\n", error(atom))), "at {name}");
            assert!(!output.status.success());
        } else if let Some(atom) = expected.strip_prefix("receive 0, then ") {
            assert_eq!((printed, said), (String::new(), format!("receive: {}\n", error(atom))), "at {name}");
            assert!(!output.status.success());
        } else {
            assert!(expected.starts_with("receive "), "{expected}");
            assert_eq!((printed.as_str(), said.as_str()), ("message 0\n", ""), "at {name}");
            assert!(output.status.success());
        }
        attacks += 1;
    }
    peer.finish();
    assert!(attacks > 40, "the peer knows fewer attacks than it did");
}
