//! What goes out: OPEN first, then data, answers to pings, and END or ABORT last.

use super::code::AbortCode;
use super::message::{BEGIN, DATA, END, FIRST_MAX, PIECE_MAX, PING, PONG, encode_abort, encode_probe};
use super::open::{Mode, Open};
use crate::error::{Error, Result};

/// The next message of a stream's data: what the layer puts before it, and what it takes of the
/// caller's bytes. Send both as one message of the tunnel.
#[derive(Clone, Copy, Debug)]
#[must_use = "it is to be sent before anything else"]
pub struct Piece<'a> {
    header: [u8; 5],
    header_len: usize,
    body: &'a [u8],
}

impl<'a> Piece<'a> {
    fn data(body: &'a [u8]) -> Piece<'a> {
        Piece { header: [DATA, 0, 0, 0, 0], header_len: 1, body }
    }

    fn begin(total: u32, body: &'a [u8]) -> Piece<'a> {
        let [a, b, c, d] = total.to_be_bytes();
        Piece { header: [BEGIN, a, b, c, d], header_len: 5, body }
    }

    /// Returns what stands before the caller's bytes.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header[..self.header_len]
    }

    /// Returns the bytes of the caller that it takes, the first ones.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }
}

/// A message whose data has not all been taken.
#[derive(Clone, Copy)]
struct Unsent {
    total: u32,
    left: u32,
}

pub(super) struct Sender {
    mode: Mode,
    /// What waits to be sent, in this order; ABORT alone, once it is there.
    open: Option<Vec<u8>>,
    pong: Option<[u8; 8]>,
    ping: Option<[u8; 8]>,
    end: bool,
    abort: Option<Vec<u8>>,
    /// Whether OPEN was taken.
    opened: bool,
    /// Whether the program has finished.
    finished: bool,
    unsent: Option<Unsent>,
    failure: Option<Error>,
}

impl Sender {
    /// `open` is what is to be sent at once.
    pub(super) fn new(mode: Mode, open: Option<&Open>) -> Sender {
        Sender {
            mode,
            open: open.map(Open::encode),
            pong: None,
            ping: None,
            end: false,
            abort: None,
            opened: false,
            finished: false,
            unsent: None,
            failure: None,
        }
    }

    /// `WrongState` a second time.
    pub(super) fn open(&mut self, open: &Open) -> Result<()> {
        self.check()?;
        if self.opened || self.open.is_some() {
            return Err(Error::WrongState);
        }
        self.open = Some(open.encode());
        Ok(())
    }

    pub(super) fn opened(&self) -> bool {
        self.opened
    }

    /// What ended it before its time.
    pub(super) fn check(&self) -> Result<()> {
        self.failure.map_or(Ok(()), Err)
    }

    /// Whether the program has finished.
    pub(super) fn finished(&self) -> bool {
        self.finished
    }

    /// Whether END was taken.
    pub(super) fn ended(&self) -> bool {
        self.finished && !self.end && self.failure.is_none()
    }

    /// Whether [`Sender::next_message`] has something.
    pub(super) fn pending(&self) -> bool {
        self.abort.is_some()
            || self.open.is_some()
            || (self.opened && (self.pong.is_some() || self.ping.is_some() || self.end))
    }

    pub(super) fn next_message(&mut self) -> Option<Vec<u8>> {
        if self.abort.is_some() {
            return self.abort.take();
        }
        if self.open.is_some() {
            self.opened = true;
            return self.open.take();
        }
        if !self.opened {
            return None;
        }
        let probe = |kind| move |value| encode_probe(kind, value);
        let answer = self.pong.take().map(probe(PONG)).or_else(|| self.ping.take().map(probe(PING)));
        answer.or_else(|| std::mem::take(&mut self.end).then(|| vec![END]))
    }

    /// Begins a message of this many bytes; `peer_max` is what the peer takes, once it has said so.
    pub(super) fn begin(&mut self, total: usize, peer_max: Option<u32>) -> Result<()> {
        let total = self.check_message(total, peer_max)?;
        if self.unsent.is_some() {
            return Err(Error::WrongState);
        }
        self.unsent = Some(Unsent { total, left: total });
        Ok(())
    }

    /// Returns the size of a message that may begin when none is under way.
    pub(super) fn check_message(&self, total: usize, peer_max: Option<u32>) -> Result<u32> {
        self.check_open()?;
        if self.mode != Mode::Messages {
            return Err(Error::WrongState);
        }
        let total = u32::try_from(total).map_err(|_| Error::TooLarge)?;
        if total > PIECE_MAX {
            match peer_max {
                None => return Err(Error::WouldBlock),
                Some(most) if total > most => return Err(Error::TooLarge),
                Some(_) => {}
            }
        }
        Ok(total)
    }

    pub(super) fn data<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Piece<'a>>> {
        self.check_open()?;
        let first = |most: u32| &bytes[..bytes.len().min(most as usize)];
        match (self.mode, self.unsent) {
            (Mode::Messages, None) => Err(Error::WrongState),
            (Mode::Messages, Some(Unsent { total: 0, .. })) => {
                self.unsent = None;
                Ok(Some(Piece::data(&[])))
            }
            _ if bytes.is_empty() => Ok(None),
            (Mode::Stream, _) => Ok(Some(Piece::data(first(PIECE_MAX)))),
            (Mode::Messages, Some(Unsent { total, left })) => {
                let large = total > PIECE_MAX;
                let piece = if large && left == total {
                    Piece::begin(total, first(FIRST_MAX))
                } else {
                    Piece::data(first(left.min(PIECE_MAX)))
                };
                if !large && (piece.body.len() as u32) < total {
                    // A small message is one DATA.
                    return Err(Error::InvalidArgument);
                }
                let left = left - piece.body.len() as u32;
                self.unsent = (left > 0).then_some(Unsent { total, left });
                Ok(Some(piece))
            }
        }
    }

    /// `WrongState` within a message, and where there is no OPEN yet.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.check()?;
        if self.unsent.is_some() || !(self.opened || self.open.is_some()) {
            return Err(Error::WrongState);
        }
        self.end |= !self.finished;
        self.finished = true;
        Ok(())
    }

    pub(super) fn abort(&mut self, code: AbortCode, text: &str, failure: Error) {
        if self.failure.is_none() {
            self.fail(failure);
            self.abort = Some(encode_abort(code, text));
        }
    }

    /// Nothing more is sent.
    pub(super) fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
        (self.open, self.pong, self.ping, self.end, self.abort) = (None, None, None, false, None);
    }

    /// Owes the peer an answer; false if one is owed already.
    pub(super) fn owe(&mut self, value: [u8; 8]) -> bool {
        self.pong.replace(value).is_none()
    }

    pub(super) fn ping(&mut self, value: [u8; 8]) {
        self.ping = Some(value);
    }

    fn check_open(&self) -> Result<()> {
        self.check()?;
        if self.opened && !self.finished { Ok(()) } else { Err(Error::WrongState) }
    }
}
