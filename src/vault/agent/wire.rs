//! The protocol between agent and client.
//!
//! Each request gets one response, in order. Both are frames: a length of four
//! bytes, big-endian, of what follows; at most [`FRAME_MAX`].
//!
//! | request | bytes | response |
//! | --- | --- | --- |
//! | public key | `1`, version (1) | version (1), public key (32) |
//! | box | `2`, purpose (1), peer (32), message | nonce (16), box |
//! | box open | `3`, purpose (1), peer (32), nonce part (8 or 16, by purpose), box | message |
//! | answer hello | `4`, `EC` (32), hello's box (80), cookie's message (128) | nonce (16), cookie's box (144) |
//!
//! A response begins with a status byte: 0, or the number of an error, after
//! which nothing follows.

use crate::crypto::{KEY_BYTES, PublicKey, TAG_BYTES};
use crate::error::{Error, Result};
use crate::protocol::MESSAGE_MAX;
use crate::protocol::packet::{CookieBox, CookieMessage, HelloBox};
use crate::vault::{LongTermNonce, Purpose, Vault};

/// The protocol's version; an agent and a client of different versions do not talk.
pub(super) const VERSION: u8 = 1;
/// Bytes of the length before each frame.
pub(super) const LENGTH_BYTES: usize = 4;
/// The largest frame: a box of the largest message, to be opened.
pub(super) const FRAME_MAX: usize = 1 + 1 + KEY_BYTES + size_of::<LongTermNonce>() + MESSAGE_MAX + TAG_BYTES;

pub(super) const PUBLIC_KEY: u8 = 1;
pub(super) const BOX: u8 = 2;
pub(super) const BOX_OPEN: u8 = 3;
pub(super) const ANSWER_HELLO: u8 = 4;

/// Reads the length before a frame; `None` if it is more than any frame has, or 0.
pub(super) fn frame_length(field: [u8; LENGTH_BYTES]) -> Option<usize> {
    let length = usize::try_from(u32::from_be_bytes(field)).ok()?;
    (1..=FRAME_MAX).contains(&length).then_some(length)
}

/// Returns a frame of these parts; `TooLarge` if they are more than [`FRAME_MAX`] bytes.
pub(super) fn frame(parts: &[&[u8]]) -> Result<Vec<u8>> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    if length > FRAME_MAX {
        return Err(Error::TooLarge);
    }
    let mut frame = Vec::with_capacity(LENGTH_BYTES + length);
    frame.extend_from_slice(&(length as u32).to_be_bytes());
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    Ok(frame)
}

/// Lets `vault` answer a request, and frames the response.
pub(super) fn respond(vault: &dyn Vault, request: &[u8]) -> Vec<u8> {
    let response = perform(vault, request).and_then(|body| frame(&[&[0], &body]));
    response.unwrap_or_else(|error| {
        let status = u8::try_from(error.code()).unwrap_or(Error::VaultFailed.code() as u8);
        [&1u32.to_be_bytes()[..], &[status]].concat()
    })
}

/// Returns the body of the response.
fn perform(vault: &dyn Vault, request: &[u8]) -> Result<Vec<u8>> {
    let (&kind, mut rest) = request.split_first().ok_or(Error::InvalidArgument)?;
    match kind {
        PUBLIC_KEY => match rest {
            [VERSION] => Ok([&[VERSION], &vault.public_key().0[..]].concat()),
            [_] => Err(Error::VaultVersion),
            _ => Err(Error::InvalidArgument),
        },
        BOX => {
            let (purpose, peer) = (purpose(&mut rest)?, PublicKey(take(&mut rest)?));
            let nonce_len = size_of::<LongTermNonce>();
            let mut body = vec![0; nonce_len + rest.len() + TAG_BYTES];
            let nonce = vault.box_seal(purpose, &peer, rest, &mut body[nonce_len..])?;
            body[..nonce_len].copy_from_slice(&nonce);
            Ok(body)
        }
        BOX_OPEN => {
            let (purpose, peer) = (purpose(&mut rest)?, PublicKey(take(&mut rest)?));
            let (nonce, sealed) = rest.split_at_checked(purpose.nonce_len()).ok_or(Error::InvalidArgument)?;
            let len = sealed.len().checked_sub(TAG_BYTES).ok_or(Error::InvalidArgument)?;
            let mut message = vec![0; len];
            vault.box_open(purpose, &peer, nonce, sealed, &mut message)?;
            Ok(message)
        }
        ANSWER_HELLO => {
            let client_short = PublicKey(take(&mut rest)?);
            let (hello, cookie): (HelloBox, CookieMessage) = (take(&mut rest)?, take(&mut rest)?);
            if !rest.is_empty() {
                return Err(Error::InvalidArgument);
            }
            let (nonce, sealed): (LongTermNonce, CookieBox) =
                vault.answer_hello(&client_short, &hello, &mut || Ok(cookie))?;
            Ok([&nonce[..], &sealed].concat())
        }
        _ => Err(Error::InvalidArgument),
    }
}

fn purpose(bytes: &mut &[u8]) -> Result<Purpose> {
    let [code] = take(bytes)?;
    Purpose::from_code(code.into())
}

/// Returns the next field of a request.
fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let (field, rest) = bytes.split_first_chunk().ok_or(Error::InvalidArgument)?;
    *bytes = rest;
    Ok(*field)
}
