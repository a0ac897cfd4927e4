//! Nonces: a prefix that says what the nonce is for, then a counter or a long-term nonce.

use crate::crypto::Nonce;

/// The 16 bytes of a nonce that a vault makes, and that travel in the packet.
pub type LongTermNonce = [u8; 16];

pub(crate) const CLIENT_HELLO: &[u8; 16] = b"CurveCP-client-H";
pub(crate) const CLIENT_INITIATE: &[u8; 16] = b"CurveCP-client-I";
pub(crate) const CLIENT_MESSAGE: &[u8; 16] = b"CurveCP-client-M";
pub(crate) const SERVER_MESSAGE: &[u8; 16] = b"CurveCP-server-M";
pub(crate) const COOKIE: &[u8; 8] = b"CurveCPK";
pub(crate) const VOUCH: &[u8; 8] = b"CurveCPV";
pub(crate) const MINUTE_KEY: &[u8; 8] = b"minute-k";

/// Joins a prefix and the rest of a nonce.
///
/// # Panics
/// If the two do not have 24 bytes together.
pub(crate) fn join(prefix: &[u8], rest: &[u8]) -> Nonce {
    let mut nonce: Nonce = [0; _];
    let (a, b) = nonce.split_at_mut(prefix.len());
    a.copy_from_slice(prefix);
    b.copy_from_slice(rest);
    nonce
}

/// Returns a nonce for a short-term key: prefix and 8-byte counter.
pub(crate) fn short_term(prefix: &[u8; 16], counter: [u8; 8]) -> Nonce {
    join(prefix, &counter)
}

/// Returns a nonce for a long-term or minute key: prefix and 16 bytes.
pub(crate) fn long_term(prefix: &[u8; 8], rest: &LongTermNonce) -> Nonce {
    join(prefix, rest)
}
