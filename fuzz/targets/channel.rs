//! An established connection whose bytes come in pieces, with faults among them, to a slow
//! receiver.
#![no_main]

use arbitrary::Arbitrary;
use curve_tun::Error;
use curve_tun::connection::{Connection, ConnectionState, Options};
use curve_tun::protocol::MESSAGE_MAX;
use curve_tun_fuzz::{Watched, repeatable, world::World};
use std::collections::VecDeque;

#[derive(Arbitrary, Debug)]
struct Input {
    receive_high_water: u16,
    send_high_water: u16,
    server_sends: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Send(u8),
    SendLong(u16),
    SendTooLong,
    /// A number of bytes arrive, copied or read in place.
    Arrive {
        count: u16,
        in_place: bool,
    },
    ArriveAll,
    /// A bit of the data in flight changes.
    Flip {
        at: u16,
        bit: u8,
    },
    Cut {
        at: u16,
        count: u8,
    },
    Insert {
        at: u16,
        bytes: Vec<u8>,
    },
    Take(u8),
    TakeAll,
    /// Into a buffer that may be too small.
    Receive(u16),
    Tick {
        sender: bool,
        after: u16,
    },
    Counters(u8),
    End,
}

/// Returns message number `number`.
fn message(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + number) as u8).collect()
}

struct Run {
    sender: Watched,
    receiver: Watched,
    /// Sent, and not received yet.
    sent: VecDeque<Vec<u8>>,
    count: usize,
    way: Vec<u8>,
    /// Whether all bytes so far are those of the sender, in order.
    intact: bool,
    now: u64,
}

impl Run {
    fn send(&mut self, len: usize) {
        let message = message(self.count, len);
        match self.sender.connection.send(&message) {
            Ok(()) => {
                self.count += 1;
                self.sent.push_back(message);
            }
            Err(Error::TooLarge) => assert!(len > MESSAGE_MAX),
            Err(Error::WouldBlock) => assert!(self.sender.connection.wants_write()),
            Err(Error::CounterExhausted) => {
                assert_eq!(self.sender.connection.state(), ConnectionState::Closed)
            }
            Err(Error::Closed) => assert_eq!(self.sender.connection.state(), ConnectionState::Closed),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Puts the sender's output in flight.
    fn leave(&mut self) {
        self.way.extend_from_slice(self.sender.connection.send_buffer());
        let count = self.sender.connection.send_buffer().len();
        self.sender.connection.sent(count);
    }

    fn arrive(&mut self, count: usize, in_place: bool) {
        let piece = &self.way[..count.min(self.way.len())];
        let (taken, result) = if in_place {
            match self.receiver.connection.recv_buffer() {
                Ok(room) => {
                    let count = room.len().min(piece.len());
                    room[..count].copy_from_slice(&piece[..count]);
                    (count, self.receiver.connection.received(count))
                }
                Err(error) => (piece.len(), Err(error)),
            }
        } else {
            match self.receiver.connection.feed(piece) {
                Ok(taken) => (taken, Ok(())),
                Err(error) => (piece.len(), Err(error)),
            }
        };
        let closed = self.receiver.connection.state() == ConnectionState::Closed;
        assert!(taken == piece.len() || closed || !self.receiver.connection.wants_read() || in_place);
        self.way.drain(..taken);
        match result {
            Ok(()) => {}
            Err(Error::Closed) => assert!(closed),
            Err(Error::BadPacket) => assert!(closed && !self.intact, "refused what the peer sent"),
            Err(Error::CounterExhausted) => assert!(closed),
            Err(error) => panic!("{error:?}"),
        }
    }

    fn take(&mut self) -> bool {
        let Ok(message) = self.receiver.connection.peek() else { return false };
        assert_eq!(Some(message), self.sent.pop_front().as_deref(), "not the next message that was sent");
        self.receiver.connection.consume();
        true
    }

    fn step(&mut self, step: Step) {
        let len = self.way.len();
        match step {
            Step::Send(len) => self.send(len.into()),
            Step::SendLong(len) => self.send(len.into()),
            Step::SendTooLong => self.send(MESSAGE_MAX + 1),
            Step::Arrive { count, in_place } => self.arrive(count.into(), in_place),
            Step::ArriveAll => self.arrive(usize::MAX, false),
            Step::Flip { at, bit } if len > 0 => {
                self.way[usize::from(at) % len] ^= 1 << (bit % 8);
                self.intact = false;
            }
            Step::Cut { at, count } if len > 0 => {
                let at = usize::from(at) % len;
                self.intact &= count == 0;
                self.way.drain(at..(at + usize::from(count)).min(len));
            }
            Step::Insert { at, bytes } => {
                let at = usize::from(at).min(len);
                self.intact &= bytes.is_empty();
                self.way.splice(at..at, bytes);
            }
            Step::Flip { .. } | Step::Cut { .. } => {}
            Step::Take(count) => {
                for _ in 0..count {
                    self.take();
                }
            }
            Step::TakeAll => while self.take() {},
            Step::Receive(capacity) => {
                let next = self.receiver.connection.peek().map(<[u8]>::len);
                let mut buffer = vec![0; capacity.into()];
                match (next, self.receiver.connection.recv(&mut buffer)) {
                    (Ok(len), Ok(count)) => {
                        assert_eq!(len, count);
                        assert_eq!(Some(&buffer[..len]), self.sent.pop_front().as_deref());
                    }
                    (Ok(len), Err(Error::TooSmall)) => assert!(len > buffer.len()),
                    (Err(error), result) => assert_eq!(result, Err(error)),
                    (Ok(_), result) => panic!("{result:?}"),
                }
            }
            Step::Tick { sender, after } => {
                self.now += u64::from(after);
                let end = if sender { &mut self.sender } else { &mut self.receiver };
                if let Ok(Some(next)) = end.connection.tick(self.now) {
                    assert!(next > self.now, "asks to be called at once, for ever");
                }
            }
            // Both ends at once, with nothing in flight: close to the last counter.
            Step::Counters(left) if len == 0 && self.sent.is_empty() && self.intact => {
                let counter = u64::MAX - u64::from(left % 4);
                self.sender.connection.set_counters(counter, 2);
                self.receiver.connection.set_counters(2, counter);
            }
            Step::Counters(_) => {}
            Step::End => assert_eq!(self.receiver.connection.transport_ended(), Error::Closed),
        }
        self.leave();
        self.sender.check();
        self.receiver.check();
    }
}

fn ends(connections: (Connection, Connection)) -> (Watched, Watched) {
    // They are connected already; watching continues from there.
    (Watched::connected(connections.0), Watched::connected(connections.1))
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    repeatable();
    let options = Options::default().receive_high_water(usize::from(input.receive_high_water) + 1).send_high_water(usize::from(input.send_high_water) * 4 + 1);
    let (client, server) = ends(World::new(options).connected());
    let (sender, receiver) = if input.server_sends { (server, client) } else { (client, server) };
    let (sent, way) = (VecDeque::new(), Vec::new());
    let mut run = Run { sender, receiver, sent, count: 0, way, intact: true, now: 0 };
    for step in input.steps.into_iter().take(200) {
        run.step(step);
    }
    // If nothing interfered and the connection was not ended, everything sent arrives.
    while !run.way.is_empty() && run.receiver.connection.state() == ConnectionState::Connected {
        run.arrive(usize::MAX, false);
        while run.take() {}
    }
    while run.take() {}
    let open = run.receiver.connection.state() == ConnectionState::Connected;
    assert!(!open || !run.intact || run.sent.is_empty(), "something was lost");
});
