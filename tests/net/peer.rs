//! The independent peer of `tests/peer`, written in Python from docs/PROTOCOL.md alone. Both sides
//! interoperate with it when it keeps the rules, and withstand it when it breaks each of them.

use crate::support::independent::{Key, Peer, SIZES, SOON, low_order};
use curve_tun::connection::Options;
use curve_tun::net::{Connector, Listener, Socket, TimedServer};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, PublicKey};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// The outcome of one connection that was let in.
type Seen = (Vec<Vec<u8>>, Error);

/// Echoes until the connection ends; returns the messages received and the error.
fn echo(socket: &Socket) -> Seen {
    let mut came = Vec::new();
    loop {
        match socket.recv_with(SOON, |message| Ok(message.to_vec())) {
            Ok(message) => {
                // The peer may have left.
                let _ = socket.send(&message, SOON);
                came.push(message);
            }
            Err(error) => return (came, error),
        }
    }
}

/// Starts a server that knows `client` and all keys of low order, so that no refusal can come from
/// the registry.
fn serve(client: PublicKey) -> (PublicKey, Arc<Listener>, JoinHandle<Vec<Seen>>) {
    let vault = Arc::new(MemoryVault::generate().unwrap());
    let key = vault.public_key();
    let registry = Arc::new(MemoryRegistry::new());
    registry.add_anywhere(client);
    low_order().into_iter().for_each(|key| registry.add_anywhere(key));
    let server = TimedServer::new(vault, registry, Options::default()).unwrap();
    let listener = Arc::new(Listener::bind("127.0.0.1", 0, server).unwrap());
    let accepting = listener.clone();
    let seen = thread::spawn(move || {
        let mut seen = Vec::new();
        while let Ok(socket) = accepting.accept(None) {
            assert_eq!(socket.peer_key(), Ok(client));
            seen.push(echo(&socket));
        }
        seen
    });
    (key, listener, seen)
}

fn contents(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 31 + size) as u8).collect()
}

#[test]
fn its_client_talks_to_our_server() {
    let its = Key::new();
    let (key, listener, seen) = serve(its.public());
    let (port, sizes) = (listener.port().to_string(), SIZES.map(|size| size.to_string()));
    let arguments = ["talk", "127.0.0.1", &port].into_iter().chain(sizes.iter().map(String::as_str));
    let mut peer = Peer::start(&arguments.collect::<Vec<_>>(), &its, key);
    assert_eq!(peer.line().unwrap(), format!("{} messages sent and received", SIZES.len()));
    peer.finish();
    listener.shutdown();
    assert_eq!(seen.join().unwrap(), [(SIZES.map(contents).to_vec(), Error::Closed)]);
}

#[test]
fn our_client_talks_to_its_server() {
    let (its, ours) = (Key::new(), Key::new());
    let mut peer = Peer::start(&["echo", "2"], &its, ours.public());
    let port = peer.line().unwrap().parse().unwrap();
    for _ in 0..2 {
        let socket = dial(port, &ours, &its).unwrap();
        assert_eq!(socket.peer_key(), Ok(its.public()));
        for size in SIZES {
            socket.send(&contents(size), SOON).unwrap();
            assert_eq!(socket.recv_with(SOON, |message| Ok(message.to_vec())), Ok(contents(size)));
        }
    }
    peer.finish();
}

fn dial(port: u16, ours: &Key, its: &Key) -> Result<Socket, Error> {
    Connector::new(ours.vault.clone()).server_key(its.public()).timeout(SOON).connect("127.0.0.1", port)
}

#[test]
fn our_server_holds_against_each_broken_rule() {
    let its = Key::new();
    let (key, listener, seen) = serve(its.public());
    let port = listener.port().to_string();
    let mut peer = Peer::start(&["attack", "127.0.0.1", &port], &its, key);
    let mut expected = Vec::new();
    while let Some(line) = peer.line() {
        expected.push(line);
    }
    peer.finish();
    listener.shutdown();
    let seen = seen.join().unwrap();
    assert_eq!(seen.len(), expected.len(), "{expected:?}");
    let seen: Vec<String> = seen
        .iter()
        .zip(&expected)
        .map(|((came, error), line)| {
            let end = match error {
                Error::Closed => "closed",
                Error::BadPacket => "refused",
                other => panic!("{other:?} at: {line}"),
            };
            let name = line.split_once(": ").map_or("", |(_, name)| name);
            format!("let in, {} delivered, {end}: {name}", came.len())
        })
        .collect();
    assert_eq!(seen, expected);
    assert!(expected.len() > 90, "the peer knows fewer attacks than it did");
}

#[test]
fn our_client_holds_against_each_broken_rule() {
    let (its, ours) = (Key::new(), Key::new());
    let mut peer = Peer::start(&["trap"], &its, ours.public());
    let port = peer.line().unwrap().parse().unwrap();
    let mut attacks = 0;
    while let Some(line) = peer.line() {
        let (expected, name) = line.split_once(": ").unwrap();
        let connected = dial(port, &ours, &its);
        let result = match connected {
            Err(error) => format!("refuse with {}", error.atom()),
            Ok(socket) => {
                socket.send(b"first", SOON).unwrap_or_else(|error| panic!("{error:?} at {name}"));
                let mut count = 0;
                let error = loop {
                    match socket.recv_with(SOON, |message| Ok(message.to_vec())) {
                        Ok(message) => assert_eq!(message, format!("message {count}").as_bytes(), "{name}"),
                        Err(error) => break error,
                    }
                    count += 1;
                };
                format!("receive {count}, then {}", error.atom())
            }
        };
        assert_eq!(result, expected, "at {name}");
        attacks += 1;
    }
    peer.finish();
    assert!(attacks > 40, "the peer knows fewer attacks than it did");
}

#[test]
fn our_client_refuses_a_server_key_of_low_order_before_it_connects() {
    let ours = Key::new();
    for key in low_order() {
        let refused = Connector::new(ours.vault.clone())
            .server_key(key)
            .timeout(SOON)
            .connect("127.0.0.1", 1)
            .map(drop);
        assert_eq!(refused, Err(Error::WeakKey));
    }
}
