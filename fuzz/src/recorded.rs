//! The recorded connections of `tests/vectors/original`: with the recorded randomness scripted,
//! this end is the recorded one, so an input that holds the recorded bytes, and no other, completes
//! the handshake.

use crate::{Watched, repeatable};
use curve_tun::connection::{Connection, Options, Role, Server};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, PublicKey, test_util};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, OnceLock};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// One end of one recorded connection.
struct Recording {
    client: Arc<MemoryVault>,
    client_short: Vec<u8>,
    server_key: PublicKey,
    server: Arc<Server>,
    server_short: Vec<u8>,
    cookie_nonce: Vec<u8>,
    /// The recorded packets of each end.
    said: [Vec<Vec<u8>>; 2],
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("a string of hexadecimal digits");
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn load(path: &Path) -> Recording {
    let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let vault = |end: &str| {
        let secret: [u8; 32] = hex(&json[end]["long_term_secret"]).try_into().unwrap();
        Arc::new(MemoryVault::from_secret(&secret).unwrap())
    };
    let (client, server) = (vault("client"), vault("server"));
    let server_key = server.public_key();
    let registry = Arc::new(MemoryRegistry::new());
    registry.add(HOME.into(), client.public_key());
    let minute_key = hex(&json["server"]["minute_key"]);
    test_util::script([&minute_key[..]]);
    let server = Server::new(server, registry, Options::default(), 0).unwrap();
    let said = |direction: &str| {
        let messages = json["messages"].as_array().unwrap().iter();
        let messages = messages.filter(|message| message["direction"] == direction);
        messages.map(|message| hex(&message["plaintext_hex"])).collect()
    };
    Recording {
        client,
        client_short: hex(&json["client"]["ephemeral_secret"]),
        server_key,
        server,
        server_short: hex(&json["server"]["ephemeral_secret"]),
        cookie_nonce: hex(&json["nonces"]["server_safe_nonce"]),
        said: [said("client_to_server"), said("server_to_client")],
    }
}

/// Returns the recordings in the order of their names.
fn recordings() -> &'static [Recording] {
    static ALL: OnceLock<Vec<Recording>> = OnceLock::new();
    ALL.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/original");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty());
        files.iter().map(|file| load(file)).collect()
    })
}

/// Plays the recorded `role`, with the bytes of `input` after its first two, which select the
/// recording and the sizes of the pieces that the bytes come in.
pub fn replay(role: Role, input: &[u8]) {
    let [which, pieces, stream @ ..] = input else { return };
    repeatable();
    let recording = &recordings()[usize::from(*which) % recordings().len()];
    let mut ours = match role {
        Role::Client => {
            test_util::script([&recording.client_short[..]]);
            let options = Options::default();
            let client =
                Connection::client(recording.client.clone(), recording.server_key, &options).unwrap();
            let mut client = Watched::new(client);
            let hello = client.connection.send_buffer().len();
            client.connection.sent(hello);
            client
        }
        Role::Server => {
            test_util::script([&recording.server_short[..], &recording.cookie_nonce]);
            Watched::new(Connection::server(&recording.server, HOME).unwrap())
        }
    };
    ours.check();
    let theirs = &recording.said[usize::from(role == Role::Client)];
    let mut delivered = 0;
    for piece in stream.chunks(usize::from(*pieces).pow(2) + 1) {
        let result = if pieces % 2 == 0 {
            ours.connection.feed(piece).map(|count| assert_eq!(count, piece.len()))
        } else {
            let room = ours.connection.recv_buffer().unwrap();
            let count = room.len().min(piece.len());
            room[..count].copy_from_slice(&piece[..count]);
            let filled = ours.connection.received(count);
            filled.and_then(|()| ours.connection.feed(&piece[count..]).map(drop))
        };
        ours.check();
        for message in ours.take_all() {
            assert_eq!(message, theirs[delivered], "not what the peer said");
            delivered += 1;
        }
        let pending = ours.connection.send_buffer().len();
        ours.connection.sent(pending);
        if let Err(error) = result {
            assert!(matches!(error, Error::BadPacket | Error::WrongServerKey), "{error:?}");
            assert_eq!(ours.connection.state(), curve_tun::connection::ConnectionState::Closed);
            assert!(pending == 0, "something goes over the wire about a failure");
            return;
        }
    }
    test_util::script([]);
}
