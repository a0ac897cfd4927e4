//! What one call of `seal` takes of what a process sends.

use super::portion::{MESSAGE_COST, PORTION};
use super::sending::FRAME_OVERHEAD;
use crate::connection::SendHalf;
use crate::error::Result;
use crate::protocol::MESSAGE_MAX;
use rustler::{Binary, NifResult, Term};

/// What one call takes of a larger message of a stream: two full pieces.
const CUT: usize = 2 * (MESSAGE_MAX - 1);
/// What a stream puts before a piece at most.
const PIECE_HEADER: usize = 5;

/// Messages of one call of `seal`.
pub(super) struct Batch<'a> {
    messages: Vec<Binary<'a>>,
    /// How many bytes of the last message belong to this call. All, if it is no stream's.
    last: usize,
    /// Their size on the wire.
    pub size: usize,
    pub cost: usize,
    /// The messages for the next call.
    pub rest: Term<'a>,
}

impl<'a> Batch<'a> {
    /// Takes as many messages of a list as one call may seal. Those of a stream can have any size,
    /// others are `badarg` above 65,503 bytes.
    pub(super) fn decode(messages: Term<'a>, is_stream: bool) -> NifResult<Batch<'a>> {
        let mut batch = Batch { messages: Vec::with_capacity(16), last: 0, size: 0, cost: 0, rest: messages };
        while batch.cost < PORTION && !batch.rest.is_empty_list() {
            let (message, rest) = batch.rest.list_get_cell()?;
            let message = message.decode::<Binary>()?;
            batch.rest = rest;
            batch.last = message.len();
            if is_stream {
                if message.len() > CUT {
                    let left = message.make_subbinary(CUT, message.len() - CUT)?;
                    batch.rest = rest.list_prepend(left);
                    batch.last = CUT;
                }
                batch.size +=
                    (FRAME_OVERHEAD + PIECE_HEADER) * batch.last.div_ceil(MESSAGE_MAX - PIECE_HEADER);
            } else if message.len() > MESSAGE_MAX {
                return Err(rustler::Error::BadArg);
            }
            batch.size += FRAME_OVERHEAD + batch.last;
            batch.cost += MESSAGE_COST + batch.last;
            batch.messages.push(message);
        }
        Ok(batch)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether nothing of the messages is left for another call.
    pub(super) fn is_whole(&self) -> bool {
        self.rest.is_empty_list()
    }

    /// Returns of each message its length and the bytes of it that belong to this call.
    pub(super) fn parts(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let last = self.messages.len().wrapping_sub(1);
        self.messages.iter().enumerate().map(move |(at, message)| {
            let end = if at == last { self.last } else { message.len() };
            (message.len(), &message.as_slice()[..end])
        })
    }

    /// Seals all; an error is that of the first message that could not be, and `frames` hold those
    /// before it.
    pub(super) fn seal(&self, half: &mut SendHalf, frames: &mut Vec<u8>) -> Result<()> {
        self.messages.iter().try_for_each(|message| half.seal_onto(message, frames))
    }
}
