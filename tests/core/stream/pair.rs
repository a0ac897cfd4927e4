//! Two ends that play fair, in every order of what their programs do, over a transport that somebody
//! may cut anywhere: nothing is refused, and an end that is reported means that everything has come.

use curve_tun::Error;
use curve_tun::stream::{AbortCode, Event, Machine, Mode, Options};
use proptest::prelude::*;
use std::collections::VecDeque;

/// What a message, or the stream, has at a place: another byte at each, nearly.
fn byte(message: usize, place: usize) -> u8 {
    (message * 131 + place * 7 + place / 251) as u8
}

struct End {
    machine: Machine,
    mode: Mode,
    /// The lengths of the messages that its program has sent; of a stream, that of all of it.
    sent: Vec<usize>,
    finished: bool,
    aborted: bool,
    /// Of the peer's messages, or of its stream: how many bytes have come, and of how many.
    came: Vec<(usize, usize)>,
    /// What it has for the transport.
    out: VecDeque<Vec<u8>>,
}

impl End {
    fn new(machine: Machine, mode: Mode) -> End {
        let empty = || if mode == Mode::Stream { 1 } else { 0 };
        End {
            machine,
            mode,
            sent: vec![0; empty()],
            finished: false,
            aborted: false,
            came: vec![(0, 0); empty()],
            out: VecDeque::new(),
        }
    }

    fn flush(&mut self) {
        while let Some(message) = self.machine.next_message() {
            self.out.push_back(message);
        }
        assert!(!self.machine.is_pending());
    }

    /// The program writes so many bytes, or sends a message of so many.
    fn write(&mut self, len: usize) {
        self.flush();
        let (number, start) = match self.mode {
            Mode::Stream => (0, self.sent[0]),
            Mode::Messages => (self.sent.len(), 0),
        };
        if self.mode == Mode::Messages && self.machine.begin_message(len).is_err() {
            return;
        }
        let bytes: Vec<u8> = (start..start + len).map(|place| byte(number, place)).collect();
        let mut left = &bytes[..];
        loop {
            match self.machine.data(left) {
                Ok(Some(piece)) => {
                    self.out.push_back([piece.header(), piece.body()].concat());
                    left = &left[piece.body().len()..];
                }
                Ok(None) => break,
                // Not yet, or not any more; or the message is complete.
                Err(error) => {
                    assert!([Error::WrongState, Error::Aborted, Error::Closed].contains(&error), "{error:?}");
                    break;
                }
            }
        }
        let taken = len - left.len();
        match self.mode {
            Mode::Stream => self.sent[0] += taken,
            Mode::Messages => {
                assert!(left.is_empty(), "a message that was begun can be sent");
                self.sent.push(len);
            }
        }
    }

    fn take(&mut self, message: &[u8]) {
        let (number, offset, total, bytes) = match self.machine.receive(message) {
            Ok(Event::Bytes(bytes)) => (0, self.came[0].0, 0, bytes),
            Ok(Event::Message(bytes)) => {
                self.came.push((0, bytes.len()));
                (self.came.len() - 1, 0, bytes.len(), bytes)
            }
            Ok(Event::Part { total, offset, bytes }) => {
                if offset == 0 {
                    self.came.push((0, total as usize));
                }
                (self.came.len() - 1, offset as usize, total as usize, bytes)
            }
            Ok(_) => return,
            Err(error) => panic!("{error:?} of {:?}", &message[..message.len().min(20)]),
        };
        let (came, of) = &mut self.came[number];
        assert_eq!((offset, total), (*came, *of));
        for (i, b) in bytes.iter().enumerate() {
            assert_eq!(*b, byte(number, offset + i));
        }
        *came += bytes.len();
    }

    /// Whether all that the peer has sent has come, whole.
    fn has_all_of(&self, peer: &End) -> bool {
        let came: Vec<usize> = self.came.iter().map(|(came, _)| *came).collect();
        let whole = self.came.iter().all(|(came, of)| self.mode == Mode::Stream || came == of);
        whole && came == peer.sent
    }
}

#[derive(Clone, Debug)]
enum Act {
    Accept,
    Write(usize),
    Finish,
    Ping([u8; 8]),
    Abort,
    /// Puts what waits on the transport.
    Flush,
    /// The transport brings this many messages.
    Deliver(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let len = prop_oneof![0..20usize, Just(65_502), Just(65_503), 0..200_000usize];
    prop_oneof![
        2 => Just(Act::Accept),
        6 => len.prop_map(Act::Write),
        1 => Just(Act::Finish),
        2 => any::<[u8; 8]>().prop_map(Act::Ping),
        1 => Just(Act::Abort),
        3 => Just(Act::Flush),
        9 => (1..5usize).prop_map(Act::Deliver),
    ]
}

fn pair(mode: Mode) -> [End; 2] {
    let mut options = if mode == Mode::Stream { Options::stream() } else { Options::messages() };
    options.message_max = 150_000;
    [Machine::client(&options), Machine::server(&options)].map(|machine| End::new(machine, mode))
}

/// Does what `side`'s program does, and what the transport does for it.
fn perform(ends: &mut [End; 2], side: usize, act: &Act) {
    let [client, server] = ends;
    let (end, peer) = if side == 0 { (client, server) } else { (server, client) };
    match act {
        // It may be too early, or too late.
        Act::Accept => {
            let _ = end.machine.accept();
        }
        Act::Write(len) => end.write(*len),
        Act::Finish => end.finished |= end.machine.finish().is_ok(),
        Act::Ping(value) => {
            let _ = end.machine.ping(*value);
        }
        Act::Abort => {
            end.machine.abort(AbortCode::GivenUp, "");
            end.aborted = true;
        }
        Act::Flush => end.flush(),
        Act::Deliver(count) => {
            for message in peer.out.drain(..(*count).min(peer.out.len())) {
                end.take(&message);
            }
        }
    }
}

/// Lets the transport bring everything, until nothing moves.
fn settle(ends: &mut [End; 2]) {
    loop {
        ends.iter_mut().for_each(End::flush);
        if ends.iter().all(|end| end.out.is_empty()) {
            return;
        }
        (0..2).for_each(|side| perform(ends, side, &Act::Deliver(usize::MAX)));
    }
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Stream), Just(Mode::Messages)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the programs do and in whatever order, neither end refuses the other. If nobody gives
    /// up, everything arrives, then the ends; if somebody does, both learn of it.
    #[test]
    fn what_was_sent_arrives_before_the_end_is_reported(
        mode in mode(),
        acts in prop::collection::vec((0..2usize, act()), 0..60),
    ) {
        let mut ends = pair(mode);
        for (side, act) in &acts {
            perform(&mut ends, *side, act);
            for (end, peer) in [(0, 1), (1, 0)] {
                if ends[end].machine.received_end() == Ok(true) {
                    prop_assert!(ends[peer].finished && ends[end].has_all_of(&ends[peer]));
                }
            }
        }
        settle(&mut ends);
        perform(&mut ends, 1, &Act::Accept);
        settle(&mut ends);
        for side in 0..2 {
            perform(&mut ends, side, &Act::Finish);
        }
        settle(&mut ends);
        let [client, server] = &ends;
        if !client.aborted && !server.aborted {
            prop_assert!(client.machine.is_finished() && server.machine.is_finished());
            prop_assert!(client.has_all_of(server) && server.has_all_of(client));
        }
        for (end, peer) in [(client, server), (server, client)] {
            match end.machine.received_end() {
                Ok(ended) => prop_assert!(ended && end.has_all_of(peer)),
                Err(Error::Aborted) => prop_assert!(peer.aborted),
                Err(error) => prop_assert!(error == Error::Closed && end.aborted),
            }
        }
    }

    /// Whoever cuts the transport, in either direction and after whichever message, makes nobody
    /// believe that it has everything: an end is reported only where it came, after all before it.
    #[test]
    fn a_cut_is_no_end(
        mode in mode(),
        acts in prop::collection::vec((0..2usize, act()), 0..60),
        kept in [0..8usize, 0..8usize],
    ) {
        let mut ends = pair(mode);
        for (side, act) in &acts {
            perform(&mut ends, *side, act);
        }
        ends.iter_mut().for_each(End::flush);
        for (end, peer) in [(0, 1), (1, 0)] {
            let mut peer_out = std::mem::take(&mut ends[peer].out);
            peer_out.truncate(kept[end]);
            peer_out.iter().for_each(|message| ends[end].take(message));
        }
        ends.iter_mut().for_each(|end| end.machine.transport_ended());
        let [client, server] = &ends;
        for (end, peer) in [(client, server), (server, client)] {
            match end.machine.received_end() {
                Ok(ended) => prop_assert!(ended && peer.finished && end.has_all_of(peer)),
                Err(Error::Aborted) => prop_assert!(peer.aborted),
                Err(Error::Closed) => prop_assert!(end.aborted),
                Err(error) => prop_assert_eq!(error, Error::Truncated),
            }
            if !end.machine.is_finished() {
                prop_assert!(end.machine.check_send().is_err());
            }
        }
    }
}
