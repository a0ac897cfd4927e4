//! What comes in: OPEN first, then data, and END or ABORT last.

use super::code::Abort;
use super::message::{ABORT, Message, OPEN, Violation};
use super::open::{MAGIC, Mode, Open};
use crate::error::Error;

/// Why a message of the peer ends the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It breaks a rule of the layer.
    Violation,
    /// It begins a message that is larger than this end takes.
    TooLarge,
    /// The peer does not speak the layer.
    NotAStream,
}

impl From<Violation> for Refusal {
    fn from(Violation: Violation) -> Refusal {
        Refusal::Violation
    }
}

/// What a message of the peer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    Open,
    Bytes(&'a [u8]),
    Message(&'a [u8]),
    Part { total: u32, offset: u32, bytes: &'a [u8] },
    End,
    Abort(Abort),
    Ping([u8; 8]),
    Pong([u8; 8]),
}

/// A message of which a part has come.
#[derive(Clone, Copy)]
struct Unfinished {
    total: u32,
    got: u32,
}

pub(super) struct Receiver {
    mode: Mode,
    message_max: u32,
    from_client: bool,
    /// What the peer said when it opened.
    open: Option<Open>,
    unfinished: Option<Unfinished>,
    ended: bool,
    failure: Option<Error>,
}

impl Receiver {
    pub(super) fn new(mode: Mode, message_max: u32, from_client: bool) -> Receiver {
        Receiver { mode, message_max, from_client, open: None, unfinished: None, ended: false, failure: None }
    }

    pub(super) fn open(&self) -> Option<&Open> {
        self.open.as_ref()
    }

    /// Whether END has come.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    pub(super) fn failure(&self) -> Option<Error> {
        self.failure
    }

    /// Nothing more is received. An end that has come stays one.
    pub(super) fn fail(&mut self, error: Error) {
        if !self.ended {
            self.failure.get_or_insert(error);
        }
    }

    /// `opened` says whether this end's OPEN has been sent, before which no large message may come.
    pub(super) fn receive<'a>(&mut self, message: &'a [u8], opened: bool) -> Result<Received<'a>, Refusal> {
        if self.open.is_none() {
            return self.first(message);
        }
        let message = Message::parse(message)?;
        let inside = self.unfinished.is_some();
        Ok(match message {
            Message::Ping(value) => Received::Ping(value),
            Message::Pong(value) => Received::Pong(value),
            Message::Abort(abort) => Received::Abort(abort),
            _ if self.ended => return Err(Refusal::Violation),
            Message::Data(bytes) => self.data(bytes)?,
            Message::End if !inside => {
                self.ended = true;
                Received::End
            }
            Message::Begin { total, first } if self.mode == Mode::Messages && !inside && opened => {
                if total > self.message_max {
                    return Err(Refusal::TooLarge);
                }
                self.unfinished = Some(Unfinished { total, got: first.len() as u32 });
                Received::Part { total, offset: 0, bytes: first }
            }
            Message::Open(_) | Message::End | Message::Begin { .. } => return Err(Refusal::Violation),
        })
    }

    /// A program that knows nothing of the layer is told nothing by it.
    fn first<'a>(&mut self, message: &[u8]) -> Result<Received<'a>, Refusal> {
        match message {
            [OPEN, rest @ ..] => {
                let body = rest.strip_prefix(MAGIC).ok_or(Refusal::NotAStream)?;
                let open = Open::parse(body, self.from_client)?;
                if open.mode != self.mode {
                    return Err(Refusal::Violation);
                }
                self.open = Some(open);
                Ok(Received::Open)
            }
            [ABORT, ..] => match Message::parse(message) {
                Ok(Message::Abort(abort)) => Ok(Received::Abort(abort)),
                _ => Err(Refusal::NotAStream),
            },
            _ => Err(Refusal::NotAStream),
        }
    }

    fn data<'a>(&mut self, bytes: &'a [u8]) -> Result<Received<'a>, Refusal> {
        match (self.mode, self.unfinished) {
            (Mode::Messages, None) => Ok(Received::Message(bytes)),
            _ if bytes.is_empty() => Err(Refusal::Violation),
            (Mode::Stream, _) => Ok(Received::Bytes(bytes)),
            (Mode::Messages, Some(Unfinished { total, got: offset })) => {
                // A message of the tunnel has far fewer bytes than a u32 counts.
                let got = offset.checked_add(bytes.len() as u32).filter(|got| *got <= total);
                let got = got.ok_or(Refusal::Violation)?;
                self.unfinished = (got < total).then_some(Unfinished { total, got });
                Ok(Received::Part { total, offset, bytes })
            }
        }
    }
}
