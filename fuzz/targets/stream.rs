//! One end of a stream, to which a peer says what it likes while its own program does as it likes.
#![no_main]

use arbitrary::Arbitrary;
use curve_tun::Error;
use curve_tun::stream::{AbortCode, Event, Machine, Mode, Options};

#[derive(Arbitrary, Debug)]
struct Input {
    messages: bool,
    server: bool,
    message_max: u32,
    /// Whether the peer begins as it has to.
    opened: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Receive(Vec<u8>),
    /// A message of this kind, with as many bytes after what is given.
    Long { kind: u8, start: [u8; 4], len: u16 },
    Accept,
    Begin(u32),
    Send(u32),
    Finish,
    Ping([u8; 8]),
    Abort(u16),
    Take,
    End,
}

struct Run {
    machine: Machine,
    mode: Mode,
    /// Of the message that has begun to come: its length, and how much has come.
    part: Option<(u32, u32)>,
    ended: bool,
    refused: bool,
    /// Whether the last message that may be sent was taken.
    said_all: bool,
}

impl Run {
    fn receive(&mut self, message: &[u8]) {
        match self.machine.receive(message) {
            Ok(Event::Bytes(bytes)) => assert!(self.mode == Mode::Stream && !self.ended && !bytes.is_empty()),
            Ok(Event::Message(bytes)) => {
                assert!(self.mode == Mode::Messages && !self.ended && self.part.is_none());
                assert!(bytes.len() <= 65_502);
            }
            Ok(Event::Part { total, offset, bytes }) => {
                let (of, came) = self.part.unwrap_or((total, 0));
                assert_eq!((of, came), (total, offset));
                let came = came + bytes.len() as u32;
                assert!(!bytes.is_empty() && came <= total && !self.ended);
                self.part = (came < total).then_some((total, came));
            }
            Ok(Event::End) => {
                assert!(!self.ended && self.part.is_none());
                self.ended = true;
            }
            Ok(Event::Opened) => assert!(self.machine.peer().is_some()),
            Ok(Event::Aborted) => assert!(self.machine.abort_received().is_some()),
            Ok(Event::Pong | Event::Nothing) => {}
            Ok(other) => panic!("{other:?}"),
            Err(Error::BadPacket | Error::TooLarge | Error::NotAStream) => {
                assert!(!self.refused, "refused twice");
                self.refused = true;
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    fn take(&mut self) {
        while let Some(message) = self.machine.next_message() {
            assert!(!self.said_all, "something after ABORT");
            self.said_all = message[0] == 2;
            assert!(message.len() <= 258);
        }
        assert!(!self.machine.is_pending());
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Receive(message) => self.receive(&message),
            Step::Long { kind, start, len } => {
                let mut message = [&[kind], &start[..]].concat();
                message.resize(usize::from(len).clamp(5, 65_503), 7);
                self.receive(&message);
            }
            Step::Accept => {
                let _ = self.machine.accept();
            }
            Step::Begin(total) => {
                let _ = self.machine.begin_message(total as usize);
            }
            Step::Send(len) => {
                let bytes = vec![7; len as usize % 200_000];
                if let Ok(Some(piece)) = self.machine.data(&bytes) {
                    assert!(!self.said_all && piece.header().len() + piece.body().len() <= 65_503);
                }
            }
            Step::Finish => {
                let _ = self.machine.finish();
            }
            Step::Ping(value) => {
                let _ = self.machine.ping(value);
            }
            Step::Abort(code) => self.machine.abort(AbortCode::from_number(code), "a text"),
            Step::Take => self.take(),
            Step::End => self.machine.transport_ended(),
        }
        match self.machine.received_end() {
            Ok(ended) => assert_eq!(ended, self.ended),
            Err(_) => assert!(!self.ended, "an end was taken back"),
        }
    }
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let mut options = if input.messages { Options::messages() } else { Options::stream() };
    options.message_max = input.message_max;
    let machine = if input.server { Machine::server(&options) } else { Machine::client(&options) };
    let mode = options.mode;
    let mut run = Run { machine, mode, part: None, ended: false, refused: false, said_all: false };
    if input.opened {
        let rest: &[u8] = if input.messages { &[1, 0, 16, 0, 0] } else { &[0; 5] };
        run.receive(&[b"\x03ctstrm01", rest].concat());
        run.step(Step::Accept);
        run.take();
    }
    for step in input.steps.into_iter().take(200) {
        run.step(step);
    }
});
