//! The messages of the layer, as bytes (PROTOCOL.md, section 13.1).

use super::code::{Abort, AbortCode};
use crate::protocol::MESSAGE_MAX;

pub(super) const DATA: u8 = 0;
pub(super) const END: u8 = 1;
pub(super) const ABORT: u8 = 2;
pub(super) const OPEN: u8 = 3;
pub(super) const BEGIN: u8 = 4;
pub(super) const PING: u8 = 5;
pub(super) const PONG: u8 = 6;

/// Bytes of a program in one DATA at most: a message of the tunnel, less the kind.
pub(super) const PIECE_MAX: u32 = MESSAGE_MAX as u32 - 1;
/// Bytes of a program in a BEGIN at most.
pub(super) const FIRST_MAX: u32 = PIECE_MAX - 4;
/// Bytes of an ABORT's text at most.
pub(super) const TEXT_MAX: usize = 255;

/// The peer has broken a rule of the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation;

/// A message, by its form alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Data(&'a [u8]),
    End,
    Abort(Abort),
    /// What stands after the kind.
    Open(&'a [u8]),
    Begin {
        total: u32,
        first: &'a [u8],
    },
    Ping([u8; 8]),
    Pong([u8; 8]),
}

impl Message<'_> {
    pub(super) fn parse(message: &[u8]) -> Result<Message<'_>, Violation> {
        let (kind, body) = message.split_first().ok_or(Violation)?;
        Ok(match *kind {
            DATA => Message::Data(body),
            END if body.is_empty() => Message::End,
            ABORT => Message::Abort(abort(body)?),
            OPEN => Message::Open(body),
            BEGIN => {
                let (total, first) = body.split_first_chunk().ok_or(Violation)?;
                let total = u32::from_be_bytes(*total);
                if total <= PIECE_MAX || first.is_empty() {
                    return Err(Violation);
                }
                Message::Begin { total, first }
            }
            PING => Message::Ping(body.try_into().map_err(|_| Violation)?),
            PONG => Message::Pong(body.try_into().map_err(|_| Violation)?),
            _ => return Err(Violation),
        })
    }
}

fn abort(body: &[u8]) -> Result<Abort, Violation> {
    let (code, text) = body.split_first_chunk().ok_or(Violation)?;
    let text = std::str::from_utf8(text).map_err(|_| Violation)?;
    if text.len() > TEXT_MAX {
        return Err(Violation);
    }
    Ok(Abort { code: AbortCode::from_number(u16::from_be_bytes(*code)), text: text.to_owned() })
}

/// Returns an ABORT; what of the text does not fit is left out.
pub(super) fn encode_abort(code: AbortCode, text: &str) -> Vec<u8> {
    let end = text.floor_char_boundary(TEXT_MAX);
    let mut message = vec![ABORT];
    message.extend_from_slice(&code.number().to_be_bytes());
    message.extend_from_slice(&text.as_bytes()[..end]);
    message
}

/// Returns a PING or a PONG.
pub(super) fn encode_probe(kind: u8, value: [u8; 8]) -> Vec<u8> {
    [&[kind], &value[..]].concat()
}
