//! Writes and parses the four packets.
//!
//! Parsing checks length and magic, and nothing that needs a key. Every offset of the wire format
//! is in this file.

use crate::crypto::{KEY_BYTES, PublicKey, TAG_BYTES};
use crate::error::{Error, Result};
use crate::protocol::nonce::LongTermNonce;

const HELLO_MAGIC: [u8; 8] = [0x6c, 0x09, 0xaf, 0xb2, 0x8a, 0xa9, 0xfa, 0xfc];
const COOKIE_MAGIC: [u8; 8] = [0x1c, 0x45, 0xdc, 0xb9, 0x41, 0xc0, 0xe3, 0xf6];
const INITIATE_MAGIC: [u8; 8] = [0x6c, 0x09, 0xaf, 0xb2, 0x8a, 0xa9, 0xfa, 0xfd];
const MESSAGE_MAGIC: [u8; 8] = [0x6d, 0x1b, 0x39, 0xcb, 0xf6, 0x5a, 0x11, 0xb4];

/// The counter of every hello.
pub(crate) const HELLO_COUNTER: [u8; 8] = 0u64.to_be_bytes();
/// The counter of every initiate.
pub(crate) const INITIATE_COUNTER: [u8; 8] = 1u64.to_be_bytes();
/// The counter of the first message of each direction.
pub(crate) const FIRST_MESSAGE_COUNTER: u64 = 2;

/// The message of a hello's box: zeros that pay for the size of the answer.
pub(crate) const HELLO_ZEROS: [u8; 64] = [0; 64];
/// The box in a hello.
pub(crate) type HelloBox = [u8; 64 + TAG_BYTES];
/// `K`: a 16-byte nonce, then the secret box of `EC` and `ESs`.
pub(crate) type Cookie = [u8; 16 + 2 * KEY_BYTES + TAG_BYTES];
/// The message of a cookie packet's box: `ES`, then `K`.
pub(crate) type CookieMessage = [u8; KEY_BYTES + size_of::<Cookie>()];
/// The box in a cookie packet.
pub(crate) type CookieBox = [u8; size_of::<CookieMessage>() + TAG_BYTES];
/// `V`: the box of `EC` under the long-term keys.
pub(crate) type Vouch = [u8; KEY_BYTES + TAG_BYTES];
/// The message of an initiate's box: `C`, `CN`, `V`.
pub(crate) type InitiateMessage = [u8; KEY_BYTES + 16 + size_of::<Vouch>()];
/// The box in an initiate.
pub(crate) type InitiateBox = [u8; size_of::<InitiateMessage>() + TAG_BYTES];

/// Bytes of each packet of the handshake.
pub(crate) const HELLO_LEN: usize = 8 + KEY_BYTES + 8 + size_of::<HelloBox>();
pub(crate) const COOKIE_LEN: usize = 8 + 16 + size_of::<CookieBox>();
pub(crate) const INITIATE_LEN: usize = 8 + size_of::<Cookie>() + 8 + size_of::<InitiateBox>();

/// Takes the next field off `bytes`; `BadPacket` if they are too few.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let (field, rest) = bytes.split_first_chunk().ok_or(Error::BadPacket)?;
    *bytes = rest;
    Ok(*field)
}

/// Checks length and magic, and returns what follows the magic.
fn after_magic(packet: &[u8], len: usize, magic: [u8; 8]) -> Result<&[u8]> {
    match packet.split_first_chunk() {
        Some((first, rest)) if packet.len() == len && *first == magic => Ok(rest),
        _ => Err(Error::BadPacket),
    }
}

/// Client to server: "I know your key; here is mine for this connection."
pub(crate) struct Hello {
    pub client_short: PublicKey,
    pub sealed: HelloBox,
}

impl Hello {
    pub(crate) fn parse(packet: &[u8]) -> Result<Hello> {
        let mut rest = after_magic(packet, HELLO_LEN, HELLO_MAGIC)?;
        let client_short = PublicKey(take(&mut rest)?);
        if take(&mut rest)? != HELLO_COUNTER {
            return Err(Error::BadPacket);
        }
        Ok(Hello { client_short, sealed: take(&mut rest)? })
    }

    pub(crate) fn parts(&self) -> [&[u8]; 4] {
        [&HELLO_MAGIC, &self.client_short.0, &HELLO_COUNTER, &self.sealed]
    }
}

/// Server to client: the server's key for this connection, and the cookie that the client sends
/// back.
pub(crate) struct CookiePacket {
    pub nonce: LongTermNonce,
    pub sealed: CookieBox,
}

impl CookiePacket {
    pub(crate) fn parse(packet: &[u8]) -> Result<CookiePacket> {
        let mut rest = after_magic(packet, COOKIE_LEN, COOKIE_MAGIC)?;
        Ok(CookiePacket { nonce: take(&mut rest)?, sealed: take(&mut rest)? })
    }

    pub(crate) fn parts(&self) -> [&[u8]; 3] {
        [&COOKIE_MAGIC, &self.nonce, &self.sealed]
    }
}

/// Client to server: the cookie, and who the client is.
pub(crate) struct Initiate {
    pub cookie: Cookie,
    pub sealed: InitiateBox,
}

impl Initiate {
    pub(crate) fn parse(packet: &[u8]) -> Result<Initiate> {
        let mut rest = after_magic(packet, INITIATE_LEN, INITIATE_MAGIC)?;
        let cookie = take(&mut rest)?;
        if take(&mut rest)? != INITIATE_COUNTER {
            return Err(Error::BadPacket);
        }
        Ok(Initiate { cookie, sealed: take(&mut rest)? })
    }

    pub(crate) fn parts(&self) -> [&[u8]; 4] {
        [&INITIATE_MAGIC, &self.cookie, &INITIATE_COUNTER, &self.sealed]
    }
}

/// The first bytes of every message packet: magic and counter.
pub(crate) type MessageHead = [u8; MESSAGE_HEAD_LEN];
pub(crate) const MESSAGE_HEAD_LEN: usize = 16;

/// Returns the head of the message packet with this counter.
pub(crate) fn message_head(counter: [u8; 8]) -> MessageHead {
    let mut head = [0; _];
    let (magic, field) = head.split_at_mut(8);
    magic.copy_from_slice(&MESSAGE_MAGIC);
    field.copy_from_slice(&counter);
    head
}

/// Parses a handshake packet and returns its bytes written again; `None` if it is not one. This is
/// for the project's fuzzing.
#[cfg(feature = "test-util")]
pub fn rewrite(packet: &[u8]) -> Option<Vec<u8>> {
    let hello = Hello::parse(packet).map(|hello| hello.parts().concat());
    let cookie = CookiePacket::parse(packet).map(|cookie| cookie.parts().concat());
    let initiate = Initiate::parse(packet).map(|initiate| initiate.parts().concat());
    hello.or(cookie).or(initiate).ok()
}
