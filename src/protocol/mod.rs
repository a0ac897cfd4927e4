//! The wire protocol: packets to bytes and back, nonces, the handshake of each side, and the
//! channel.
//!
//! There is no I/O here, no clock, no lock and no vault. `docs/PROTOCOL.md` describes this module
//! and gives its reasons.

pub(crate) mod channel;
pub(crate) mod client;
pub(crate) mod nonce;
pub(crate) mod packet;
pub(crate) mod server;

use crate::crypto::TAG_BYTES;
#[cfg(feature = "test-util")]
pub use packet::rewrite;

/// Bytes in the length field before every packet.
pub(crate) const LENGTH_BYTES: usize = 2;
/// The bytes that a message packet has besides its message: magic, counter and tag.
pub(crate) const MESSAGE_OVERHEAD: usize = packet::MESSAGE_HEAD_LEN + TAG_BYTES;
/// The largest packet that the length field can announce.
const PACKET_MAX: usize = u16::MAX as usize;
/// The largest frame: length field and packet.
pub(crate) const FRAME_MAX: usize = LENGTH_BYTES + PACKET_MAX;
/// The largest message, in bytes: 65,503. The smallest is empty.
pub const MESSAGE_MAX: usize = PACKET_MAX - MESSAGE_OVERHEAD;

/// Returns the length that the two bytes of a length field announce.
pub(crate) fn frame_length(field: [u8; LENGTH_BYTES]) -> usize {
    usize::from(u16::from_be_bytes(field))
}

/// Returns the length field of a packet of `len` bytes, which is at most [`PACKET_MAX`].
pub(crate) fn length_field(len: usize) -> [u8; LENGTH_BYTES] {
    debug_assert!(len <= PACKET_MAX);
    (len as u16).to_be_bytes()
}
