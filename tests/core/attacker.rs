//! Whatever an attacker on the wire does to several connections, each end delivers a prefix of what its peer sent on
//! that very connection, in order, and moves along the original's chains of states only.

use crate::support;
use crate::support::{World, message, recv_all};
use curve_tun::connection::{Connection, ConnectionState, Role};
use proptest::prelude::*;

/// One end, and what has passed through it.
struct End {
    connection: Connection,
    state: ConnectionState,
    sent: Vec<Vec<u8>>,
    received: Vec<Vec<u8>>,
    /// Frames that it has sent and that the attacker has not handled yet.
    waiting: Vec<Vec<u8>>,
}

impl End {
    fn new(connection: Connection) -> End {
        let state = connection.state();
        End { connection, state, sent: Vec::new(), received: Vec::new(), waiting: Vec::new() }
    }

    /// Returns the position of a state in the chain of this end's role.
    fn place(&self, state: ConnectionState) -> usize {
        let middle = match self.connection.role() {
            Role::Client => ConnectionState::Initiating,
            Role::Server => ConnectionState::Accepting,
        };
        let chain = [ConnectionState::Ready, middle, ConnectionState::Connected, ConnectionState::Closed];
        chain.iter().position(|s| *s == state).expect("a state of this role")
    }

    /// Records everything that the last action led to.
    fn observe(&mut self) {
        let bytes = support::take(&mut self.connection);
        let mut rest = &bytes[..];
        while let Some(field) = rest.first_chunk() {
            let (frame, after) = rest.split_at(2 + usize::from(u16::from_be_bytes(*field)));
            self.waiting.push(frame.to_vec());
            rest = after;
        }
        self.received.extend(recv_all(&mut self.connection));
        let now = self.connection.state();
        assert!(self.place(now) >= self.place(self.state), "{:?} to {now:?}", self.state);
        self.state = now;
    }
}

/// One action of the attacker or an honest user. Numbers are taken modulo the number of candidates.
#[derive(Clone, Debug)]
enum Action {
    /// An end's user sends a message of this size.
    Send {
        end: usize,
        size: usize,
    },
    /// The oldest waiting frame of an end reaches the other end of its connection.
    Deliver {
        end: usize,
    },
    /// The same with only its first bytes, or with one bit changed.
    Truncate {
        end: usize,
        keep: usize,
    },
    Flip {
        end: usize,
        bit: usize,
    },
    /// The oldest waiting frame is lost, or moves behind the next one.
    Drop {
        end: usize,
    },
    Reorder {
        end: usize,
    },
    /// Any frame ever sent reaches any end.
    Replay {
        frame: usize,
        end: usize,
    },
    /// Made-up bytes, or a made-up frame that begins like a real one, reach an end.
    Invent {
        end: usize,
        bytes: Vec<u8>,
    },
    Imitate {
        frame: usize,
        end: usize,
        keep: usize,
        bytes: Vec<u8>,
    },
    /// The transport of an end is cut.
    Cut {
        end: usize,
        orderly: bool,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let end = || 0usize..6;
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        12 => (end(), prop_oneof![0usize..100, 0usize..5000]).prop_map(|(end, size)| Action::Send { end, size }),
        24 => end().prop_map(|end| Action::Deliver { end }),
        1 => (end(), any::<usize>()).prop_map(|(end, keep)| Action::Truncate { end, keep }),
        1 => (end(), any::<usize>()).prop_map(|(end, bit)| Action::Flip { end, bit }),
        1 => end().prop_map(|end| Action::Drop { end }),
        1 => end().prop_map(|end| Action::Reorder { end }),
        2 => (any::<usize>(), end()).prop_map(|(frame, end)| Action::Replay { frame, end }),
        1 => (end(), bytes()).prop_map(|(end, bytes)| Action::Invent { end, bytes }),
        1 => (any::<usize>(), end(), any::<usize>(), bytes())
            .prop_map(|(frame, end, keep, bytes)| Action::Imitate { frame, end, keep, bytes }),
        1 => (end(), any::<bool>()).prop_map(|(end, orderly)| Action::Cut { end, orderly }),
    ]
}

/// Three connections, ends 0 and 1, 2 and 3, 4 and 5, client first.
struct Wire {
    ends: Vec<End>,
    /// Every frame ever sent.
    said: Vec<Vec<u8>>,
    /// Whether the attacker has left a connection alone.
    honest: [bool; 3],
    salt: usize,
}

impl Wire {
    fn new(world: &World, established: usize) -> Wire {
        let mut ends = Vec::new();
        for _ in 0..3 {
            let (client, server) = world.pair();
            ends.extend([End::new(client), End::new(server)]);
        }
        let mut wire = Wire { ends, said: Vec::new(), honest: [true; 3], salt: 0 };
        wire.observe();
        wire.flush(2 * established);
        wire
    }

    fn observe(&mut self) {
        for end in &mut self.ends {
            let known = end.waiting.len();
            end.observe();
            self.said.extend_from_slice(&end.waiting[known..]);
        }
        for n in 0..6 {
            assert!(self.ends[n ^ 1].sent.starts_with(&self.ends[n].received), "end {n}");
        }
    }

    fn give(&mut self, end: usize, bytes: &[u8]) {
        // An attacker may well be refused; the invariants are checked after each action.
        let _ = self.ends[end].connection.feed(bytes);
    }

    fn oldest(&mut self, end: usize) -> Option<Vec<u8>> {
        let waiting = &mut self.ends[end].waiting;
        (!waiting.is_empty()).then(|| waiting.remove(0))
    }

    fn said(&self, frame: usize) -> Vec<u8> {
        self.said[frame % self.said.len()].clone()
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { end, size } => {
                self.salt += 1;
                let message = message(size, self.salt);
                if self.ends[end].connection.send(&message).is_ok() {
                    self.ends[end].sent.push(message);
                }
            }
            Action::Deliver { end } => {
                if let Some(frame) = self.oldest(end) {
                    self.give(end ^ 1, &frame);
                }
            }
            Action::Truncate { end, keep } => {
                if let Some(frame) = self.oldest(end) {
                    self.honest[end / 2] = false;
                    self.give(end ^ 1, &frame[..keep % frame.len()]);
                }
            }
            Action::Flip { end, bit } => {
                if let Some(mut frame) = self.oldest(end) {
                    self.honest[end / 2] = false;
                    let bit = bit % (8 * frame.len());
                    frame[bit / 8] ^= 1 << (bit % 8);
                    self.give(end ^ 1, &frame);
                }
            }
            Action::Drop { end } => self.honest[end / 2] &= self.oldest(end).is_none(),
            Action::Reorder { end } => {
                if self.ends[end].waiting.len() > 1 {
                    self.honest[end / 2] = false;
                    self.ends[end].waiting.swap(0, 1);
                }
            }
            Action::Replay { frame, end } => {
                self.honest[end / 2] = false;
                self.give(end, &self.said(frame));
            }
            Action::Invent { end, bytes } => {
                self.honest[end / 2] &= bytes.is_empty();
                self.give(end, &bytes);
            }
            Action::Imitate { frame, end, keep, bytes } => {
                self.honest[end / 2] = false;
                let frame = self.said(frame);
                self.give(end, &[&frame[..keep % frame.len()], &bytes].concat());
            }
            Action::Cut { end, orderly } => {
                self.honest[end / 2] = false;
                let connection = &mut self.ends[end].connection;
                if orderly {
                    connection.transport_ended();
                } else {
                    connection.close();
                }
            }
        }
        self.observe();
    }

    /// Delivers everything waiting at the first ends, in order.
    fn flush(&mut self, ends: usize) {
        while let Some(end) = (0..ends).find(|n| !self.ends[*n].waiting.is_empty()) {
            self.act(Action::Deliver { end });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_end_delivers_a_prefix_of_what_its_peer_sent(
        established in 0usize..=3,
        actions in prop::collection::vec(action(), 1..120),
    ) {
        let mut wire = Wire::new(&World::new(), established);
        for action in actions {
            wire.act(action);
        }
        wire.flush(6);
        for n in 0..6 {
            if wire.honest[n / 2] {
                prop_assert_eq!(wire.ends[n].state, ConnectionState::Connected);
                prop_assert!(wire.ends[n].received == wire.ends[n ^ 1].sent, "all arrives where nobody interferes");
            }
        }
    }
}
