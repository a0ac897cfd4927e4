//! Connections of one server with an attacker in between, who holds every packet: delivers, drops,
//! repeats, reorders, splices, changes, invents, and moves packets between connections.
#![no_main]

use arbitrary::Arbitrary;
use curve_tun::connection::{ConnectionState, Options};
use curve_tun_fuzz::{Watched, repeatable, world::World};
use std::collections::HashSet;

/// Connections at most; each has two ends.
const PAIRS: usize = 4;

#[derive(Arbitrary, Debug)]
enum Step {
    /// A client connects, known to the server or not.
    Connect {
        known: bool,
    },
    /// A message from one of the ends.
    Send {
        end: u8,
        len: u8,
    },
    /// The next packet of an end goes to its peer, whole or in two pieces.
    Deliver {
        end: u8,
        cut: u8,
    },
    /// Both ends of a pair exchange everything pending.
    Settle {
        pair: u8,
    },
    /// The next packet of an end is lost.
    Drop {
        end: u8,
    },
    /// Any earlier packet goes to any end.
    Repeat {
        packet: u8,
        end: u8,
    },
    /// With a bit changed.
    Change {
        packet: u8,
        end: u8,
        at: u16,
        bit: u8,
    },
    /// The head of one packet and the tail of another.
    Splice {
        head: u8,
        tail: u8,
        at: u16,
        end: u8,
    },
    /// Made-up bytes.
    Invent {
        end: u8,
        bytes: Vec<u8>,
    },
    /// The server's clock advances.
    Wait {
        seconds: u8,
    },
    End {
        end: u8,
    },
}

struct End {
    watched: Watched,
    /// The peer it is connected with: an attacker may carry a client's packets to any connection of
    /// the server.
    peer: Option<usize>,
    /// Packets produced and not yet sent on.
    outgoing: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    received: usize,
    /// The last counter that it sealed under.
    counter: u64,
}

#[derive(Default)]
struct Run {
    /// Two for each connection: client, server.
    ends: Vec<End>,
    /// All packets produced, and by which end.
    packets: Vec<(usize, Vec<u8>)>,
    /// Kinds and keys that must never occur twice: hellos, cookies and initiates.
    unique: HashSet<Vec<u8>>,
}

impl Run {
    fn connect(&mut self, world: &World, known: bool) {
        let client = if known { &world.known } else { &world.stranger };
        let (client, server) = world.pair(client);
        for connection in [client, server] {
            let watched = Watched::new(connection);
            let (outgoing, sent) = (Vec::new(), Vec::new());
            self.ends.push(End { watched, peer: None, outgoing, sent, received: 0, counter: 1 });
            self.collect(self.ends.len() - 1);
        }
    }

    fn end(&self, end: u8) -> Option<usize> {
        (!self.ends.is_empty()).then(|| usize::from(end) % self.ends.len())
    }

    fn packet(&self, packet: u8) -> Option<&Vec<u8>> {
        (!self.packets.is_empty()).then(|| &self.packets[usize::from(packet) % self.packets.len()].1)
    }

    /// Collects the output of an end, checking that no nonce is used twice.
    fn collect(&mut self, at: usize) {
        let end = &mut self.ends[at];
        let mut pending = end.watched.connection.send_buffer();
        while let Some((length, rest)) = pending.split_first_chunk() {
            let (packet, rest) = rest.split_at(u16::from_be_bytes(*length).into());
            if packet.starts_with(b"\x6d\x1b\x39\xcb") {
                let counter = u64::from_be_bytes(packet[8..16].try_into().unwrap());
                assert_eq!(counter, end.counter + 1, "a counter twice, or left out");
                end.counter = counter;
            } else {
                // `EC`, `SN` or `K` with what follows: never the same twice.
                assert!(
                    self.unique.insert(packet[..40].to_vec()),
                    "a short-term key or long-term nonce twice"
                );
            }
            self.packets.push((at, packet.to_vec()));
            end.outgoing.push(packet.to_vec());
            pending = rest;
        }
        let count = end.watched.connection.send_buffer().len();
        end.watched.connection.sent(count);
        end.watched.check();
    }

    /// Gives a packet to an end, whoever made it.
    fn give(&mut self, at: usize, packet: &[u8], cut: usize) {
        let before = self.ends[at].watched.connection.state();
        let mut frame = (packet.len() as u16).to_be_bytes().to_vec();
        frame.extend_from_slice(packet);
        let (first, second) = frame.split_at(cut.min(frame.len()));
        for piece in [first, second] {
            let connection = &mut self.ends[at].watched.connection;
            let result = connection.feed(piece);
            let closed = connection.state() == ConnectionState::Closed;
            assert_eq!(result.is_err(), closed);
            assert!(!closed || !connection.wants_write(), "something goes over the wire about a failure");
        }
        self.collect(at);
        let after = self.ends[at].watched.connection.state();
        if before != ConnectionState::Connected && after == ConnectionState::Connected {
            // The author of this packet takes part in this connection, in the other role.
            let author = self.packets.iter().find(|(_, said)| said == packet).map(|(author, _)| *author);
            let peer = author.expect("connected by a packet that nobody said");
            let theirs = &self.ends[peer].watched.connection;
            assert_ne!(theirs.role(), self.ends[at].watched.connection.role(), "connected with its like");
            assert_ne!(theirs.state(), ConnectionState::Ready, "connected with an end that said nothing");
            self.ends[at].peer = Some(peer);
        }
        // Messages are a prefix of what the peer of this very connection sent.
        for message in self.ends[at].watched.take_all() {
            let peer = self.ends[at].peer.expect("a message on no connection");
            let next = self.ends[peer].sent.get(self.ends[at].received);
            assert_eq!(Some(&message), next, "not the next message of this connection");
            self.ends[at].received += 1;
        }
    }

    fn deliver(&mut self, at: usize, cut: u8) -> bool {
        if self.ends[at].outgoing.is_empty() {
            return false;
        }
        let packet = self.ends[at].outgoing.remove(0);
        self.give(at ^ 1, &packet, cut.into());
        true
    }

    fn step(&mut self, world: &World, now: &mut u64, step: Step) -> Option<()> {
        match step {
            Step::Connect { known } if self.ends.len() < 2 * PAIRS => self.connect(world, known),
            Step::Connect { .. } => {}
            Step::Send { end, len } => {
                let at = self.end(end)?;
                // It contains the sender's place and the number, so that no two messages are alike.
                let mut message = vec![at as u8, self.ends[at].sent.len() as u8];
                message.resize(2 + usize::from(len), 0x5a);
                if self.ends[at].watched.connection.send(&message).is_ok() {
                    self.ends[at].sent.push(message);
                }
                self.collect(at);
            }
            Step::Deliver { end, cut } => {
                self.deliver(self.end(end)?, cut);
            }
            Step::Settle { pair } => {
                let client = self.end(pair)? & !1;
                while self.deliver(client, 0) | self.deliver(client + 1, 0) {}
            }
            Step::Drop { end } => {
                let at = self.end(end)?;
                if !self.ends[at].outgoing.is_empty() {
                    self.ends[at].outgoing.remove(0);
                }
            }
            Step::Repeat { packet, end } => {
                let packet = self.packet(packet)?.clone();
                self.give(self.end(end)?, &packet, 0);
            }
            Step::Change { packet, end, at, bit } => {
                let mut packet = self.packet(packet)?.clone();
                let at = usize::from(at) % packet.len();
                packet[at] ^= 1 << (bit % 8);
                self.give(self.end(end)?, &packet, 0);
            }
            Step::Splice { head, tail, at, end } => {
                let (head, tail) = (self.packet(head)?, self.packet(tail)?);
                let at = usize::from(at);
                let packet = [&head[..at.min(head.len())], &tail[at.min(tail.len())..]].concat();
                self.give(self.end(end)?, &packet, 0);
            }
            Step::Invent { end, bytes } => self.give(self.end(end)?, &bytes, 0),
            Step::Wait { seconds } => {
                *now += u64::from(seconds) * 1000;
                world.server.tick(*now).unwrap();
                for end in &mut self.ends {
                    // The deadline may end a handshake.
                    let _ = end.watched.connection.tick(*now);
                    end.watched.check();
                }
            }
            Step::End { end } => {
                let at = self.end(end)?;
                self.ends[at].watched.connection.transport_ended();
                self.ends[at].watched.check();
            }
        }
        Some(())
    }
}

libfuzzer_sys::fuzz_target!(|steps: Vec<Step>| {
    repeatable();
    let world = World::new(Options::default());
    let (mut run, mut now) = (Run::default(), 0);
    for step in steps.into_iter().take(200) {
        run.step(&world, &mut now, step);
    }
    for end in &run.ends {
        // Only clients that the registry knows are ever let in.
        let server = end.watched.connection.role() == curve_tun::connection::Role::Server;
        let peer = end.watched.connection.peer_key();
        assert!(
            !server
                || peer.is_none_or(|peer| {
                    use curve_tun::vault::Vault;
                    peer == world.known.public_key()
                })
        );
    }
    drop(run);
    assert_eq!(world.server.handshakes_in_flight(), 0, "a place was not given back");
});
