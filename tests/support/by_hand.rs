//! The packets of the wire, built and opened by hand, for peers that no honest implementation would
//! be.

use super::sodium::{BoxKey, KEY_BYTES, keypair, nonce, public_of};
use curve_tun::PublicKey;

const HELLO_MAGIC: [u8; 8] = [0x6c, 0x09, 0xaf, 0xb2, 0x8a, 0xa9, 0xfa, 0xfc];
const COOKIE_MAGIC: [u8; 8] = [0x1c, 0x45, 0xdc, 0xb9, 0x41, 0xc0, 0xe3, 0xf6];
const INITIATE_MAGIC: [u8; 8] = [0x6c, 0x09, 0xaf, 0xb2, 0x8a, 0xa9, 0xfa, 0xfd];
pub const MESSAGE_MAGIC: [u8; 8] = [0x6d, 0x1b, 0x39, 0xcb, 0xf6, 0x5a, 0x11, 0xb4];
pub const COOKIE_BYTES: usize = 96;

/// Length field and payload.
pub fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[..], &payload].concat()
}

/// Makes a hello for `short`, with its box under `key`.
pub fn hello(short: &[u8; KEY_BYTES], key: &BoxKey) -> Vec<u8> {
    hello_of(&[0; 64], short, key)
}

/// Makes a hello whose box holds other contents than the required zeros.
pub fn hello_of(contents: &[u8; 64], short: &[u8; KEY_BYTES], key: &BoxKey) -> Vec<u8> {
    let counter = 0u64.to_be_bytes();
    let sealed = key.sealed(&nonce(b"CurveCP-client-H", &counter), contents);
    frame(&[&HELLO_MAGIC, short, &counter, &sealed])
}

/// Makes a cookie packet with `short` and `cookie`, with its box under `key`.
pub fn cookie_packet(short: &[u8; KEY_BYTES], cookie: &[u8; COOKIE_BYTES], key: &BoxKey) -> Vec<u8> {
    let long_term = [9; 16];
    let sealed = key.sealed(&nonce(b"CurveCPK", &long_term), &[&short[..], cookie].concat());
    frame(&[&COOKIE_MAGIC, &long_term, &sealed])
}

/// Returns the vouch for `message`, with its nonce and its box under `key`.
pub fn vouch(message: &[u8], key: &BoxKey) -> ([u8; 16], Vec<u8>) {
    let long_term = [5; 16];
    (long_term, key.sealed(&nonce(b"CurveCPV", &long_term), message))
}

/// Makes an initiate that returns `cookie` and claims `long` with this vouch, with its box under
/// `key`.
pub fn initiate(
    cookie: &[u8],
    long: &[u8; KEY_BYTES],
    (vouch_nonce, vouch): &([u8; 16], Vec<u8>),
    key: &BoxKey,
) -> Vec<u8> {
    let counter = 1u64.to_be_bytes();
    let sealed = key.sealed(&nonce(b"CurveCP-client-I", &counter), &[&long[..], vouch_nonce, vouch].concat());
    frame(&[&INITIATE_MAGIC, cookie, &counter, &sealed])
}

/// A message from the client under `key`.
pub fn client_message(counter: u64, message: &[u8], key: &BoxKey) -> Vec<u8> {
    let counter = counter.to_be_bytes();
    let sealed = key.sealed(&nonce(b"CurveCP-client-M", &counter), message);
    frame(&[&MESSAGE_MAGIC, &counter, &sealed])
}

/// A client with accessible keys.
pub struct HandClient {
    pub server: PublicKey,
    pub long_secret: [u8; KEY_BYTES],
    pub short: [u8; KEY_BYTES],
    pub short_secret: [u8; KEY_BYTES],
}

impl HandClient {
    pub fn new(server: PublicKey) -> HandClient {
        let (short, short_secret) = keypair();
        HandClient { server, long_secret: keypair().1, short, short_secret }
    }

    pub fn long(&self) -> PublicKey {
        PublicKey(public_of(&self.long_secret))
    }

    /// Returns the key of hello and cookie packet.
    pub fn hello_key(&self) -> BoxKey {
        BoxKey::agree(&self.short_secret, &self.server.0).unwrap()
    }

    pub fn hello(&self) -> Vec<u8> {
        hello(&self.short, &self.hello_key())
    }

    /// Returns the key of initiate and messages, and the cookie, from the server's cookie packet.
    pub fn open_cookie(&self, packet: &[u8]) -> (BoxKey, Vec<u8>) {
        let payload = &packet[2..];
        assert_eq!((payload.len(), &payload[..8]), (168, &COOKIE_MAGIC[..]));
        let opened =
            self.hello_key().opened(&nonce(b"CurveCPK", &payload[8..24]), &payload[24..]).expect("a cookie");
        let (short, cookie) = opened.split_first_chunk().unwrap();
        (BoxKey::agree(&self.short_secret, short).unwrap(), cookie.to_vec())
    }

    pub fn vouch(&self) -> ([u8; 16], Vec<u8>) {
        vouch(&self.short, &BoxKey::agree(&self.long_secret, &self.server.0).unwrap())
    }

    pub fn initiate(&self, cookie: &[u8], key: &BoxKey) -> Vec<u8> {
        initiate(cookie, &self.long().0, &self.vouch(), key)
    }
}
