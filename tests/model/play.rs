//! The world of the model, played with real connections.
//!
//! Two clients, A and B, and one server S, which knows both. The attacker holds every packet and
//! A's secret key, which is used by a third client, E, and by a server of the attacker, F. Every
//! packet goes to the attacker, who may give it, as often as they like, to any end. A state is the
//! list of the steps that lead to it; the connections are made again from it, since they cannot be
//! copied.

use crate::chance;
use curve_tun::connection::{Connection, ConnectionState, Options, Server};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{MINUTE_MS, PublicKey};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// An end of a connection: its index in [`View::ends`].
pub type EndId = usize;
pub const A: EndId = 0;
pub const B: EndId = 1;
/// The attacker's client, with A's key.
pub const E: EndId = 2;
/// The attacker's server, with A's key.
pub const F: EndId = 3;
/// The ends of the server start here.
pub const S: EndId = 4;
const ENDS: usize = S + 3;

/// A packet, identified by its author and how many the author had made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId {
    pub from: EndId,
    pub number: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The attacker gives an end a packet, with its last bit changed or not.
    Give { packet: PacketId, to: EndId, changed: bool },
    /// An end sends its next message.
    Send(EndId),
    /// A minute passes.
    Minute,
    /// The server restarts with the same key; its connections are gone.
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Hello,
    Cookie,
    Initiate,
    Message(u64),
}

/// The observable state of an end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndView {
    pub state: u8,
    /// The peer's key, as one of A, B and S; `None` if none is proven.
    pub peer: Option<EndId>,
    /// The packets that it was given and accepted, in order.
    pub took: Vec<PacketId>,
    /// The messages that it delivered: the sender, and which of its messages.
    pub delivered: Vec<(EndId, usize)>,
    pub sent: usize,
    /// The packets it sent.
    pub said: Vec<Kind>,
}

/// The observable state of the world. Two lists of steps that lead to the same view are one state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    pub ends: Vec<EndView>,
    pub minutes: usize,
    pub restarts: usize,
    /// A rule that the play itself found broken.
    pub broken: Option<&'static str>,
    /// The last step was refused and its end is closed. Anything that could follow could also
    /// follow without that step.
    pub refused: bool,
}

struct End {
    /// Made on first use; gone when the server that it belongs to is.
    connection: Option<Connection>,
    view: EndView,
    packets: Vec<Vec<u8>>,
}

struct Play {
    ends: Vec<End>,
    /// The server of S since its last restart.
    server: Option<Arc<Server>>,
    view: View,
}

/// A message names its sender and its number; the rest makes it long enough to search for.
fn message(from: EndId, number: usize) -> Vec<u8> {
    let mut message = b"a message that nobody else may read".to_vec();
    message.extend([from as u8, number as u8]);
    message
}

fn kind(packet: &[u8]) -> Kind {
    match packet.len() {
        128 => Kind::Hello,
        168 => Kind::Cookie,
        224 => Kind::Initiate,
        _ => Kind::Message(u64::from_be_bytes(packet[8..16].try_into().unwrap())),
    }
}

/// Returns the long-term secret keys of A, B and S.
fn secret(of: EndId) -> [u8; 32] {
    std::array::from_fn(|i| (i as u8).wrapping_mul(37) ^ of as u8)
}

fn vault(of: EndId) -> Arc<MemoryVault> {
    Arc::new(MemoryVault::from_secret(&secret(of)).unwrap())
}

/// Returns the public keys of A, B and S.
fn keys() -> &'static [(PublicKey, EndId); 3] {
    static KEYS: OnceLock<[(PublicKey, EndId); 3]> = OnceLock::new();
    KEYS.get_or_init(|| [A, B, S].map(|id| (vault(id).public_key(), id)))
}

fn server(secret_of: EndId, life: u64) -> Arc<Server> {
    chance::turn(1000 + 10 * secret_of as u64 + life);
    let registry = Arc::new(MemoryRegistry::new());
    keys()[..2].iter().for_each(|(key, _)| registry.add_anywhere(*key));
    Server::new(vault(secret_of), registry, Options::default(), 0).unwrap()
}

impl Play {
    fn begin() -> Play {
        chance::begin();
        let end = |id: EndId| {
            let said = if matches!(id, A | B | E) { vec![Kind::Hello] } else { Vec::new() };
            let state = u8::from(!said.is_empty());
            let (took, delivered) = (Vec::new(), Vec::new());
            let view = EndView { state, peer: None, took, delivered, sent: 0, said };
            End { connection: None, view, packets: Vec::new() }
        };
        let ends = (0..ENDS).map(end).collect();
        Play { ends, server: None, view: View::default() }
    }

    /// Returns the server S, at the minute that the world has reached.
    fn server(&mut self) -> Arc<Server> {
        let life = self.view.restarts as u64;
        self.server.get_or_insert_with(|| server(S, life)).clone()
    }

    /// Makes an end that has not been used before.
    fn wake(&mut self, id: EndId) {
        if self.ends[id].connection.is_some() || self.ends[id].view.state == ConnectionState::Closed as u8 {
            return;
        }
        let connection = match id {
            A | B | E => {
                let vault = vault(if id == B { B } else { A });
                chance::turn(id as u64);
                Connection::client(vault, keys()[2].0, &Options::default())
            }
            F => Connection::server(&server(A, 0), HOME),
            _ => Connection::server(&self.server(), HOME),
        };
        self.ends[id].connection = Some(connection.unwrap());
        if matches!(id, A | B | E) {
            self.ends[id].view.said.clear();
            self.look(id);
        }
    }

    /// Takes an end's output, and inspects it from outside.
    fn look(&mut self, id: EndId) {
        let end = &mut self.ends[id];
        let Some(connection) = &mut end.connection else { return };
        let mut pending = connection.send_buffer();
        while let Some((length, rest)) = pending.split_first_chunk() {
            let (packet, rest) = rest.split_at(u16::from_be_bytes(*length).into());
            end.view.said.push(kind(packet));
            end.packets.push(packet.to_vec());
            pending = rest;
        }
        let count = connection.send_buffer().len();
        connection.sent(count);
        while let Ok(message) = connection.peek() {
            let [.., from, number] = message else { unreachable!("an empty message was never sent") };
            end.view.delivered.push((usize::from(*from), usize::from(*number)));
            connection.consume();
        }
        let before = end.view.state;
        end.view.state = connection.state() as u8;
        let peer = connection.peer_key();
        end.view.peer = keys().iter().find(|(key, _)| Some(*key) == peer).map(|(_, id)| *id);
        if peer.is_some() && end.view.peer.is_none() {
            self.view.broken = Some("a peer whom nobody knows");
        }
        // The original's chains: ready, initiating or accepting, connected, closed.
        let rank = |state: u8| [0, 1, 1, 2, 3][usize::from(state)];
        if rank(end.view.state) < rank(before) {
            self.view.broken = Some("a state that went back");
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Give { packet, to, changed } => {
                self.wake(packet.from);
                self.wake(to);
                let mut packet_bytes = self.ends[packet.from].packets[packet.number].clone();
                if changed {
                    *packet_bytes.last_mut().unwrap() ^= 1;
                }
                chance::turn(to as u64);
                let frame = [&(packet_bytes.len() as u16).to_be_bytes()[..], &packet_bytes].concat();
                let delivered = self.ends[to].view.delivered.len();
                let Some(connection) = &mut self.ends[to].connection else { return };
                let result = connection.feed(&frame);
                self.view.refused = result.is_err();
                if result.is_ok() {
                    self.ends[to].view.took.push(packet);
                    if changed {
                        self.view.broken = Some("a changed packet was taken");
                    }
                } else if connection.wants_write() {
                    self.view.broken = Some("something was said about a failure");
                }
                self.look(to);
                if self.view.refused {
                    self.after_refusal(to, &frame, delivered);
                }
            }
            Step::Send(id) => {
                let number = self.ends[id].view.sent;
                if let Some(connection) = &mut self.ends[id].connection {
                    connection.send(&message(id, number)).unwrap();
                    self.ends[id].view.sent += 1;
                }
                self.look(id);
            }
            Step::Minute => {
                let server = self.server();
                self.view.minutes += 1;
                chance::turn(2000 + self.view.minutes as u64);
                server.tick(self.view.minutes as u64 * MINUTE_MS).unwrap();
            }
            Step::Restart => {
                self.view.restarts += 1;
                self.server = None;
                for end in &mut self.ends[S..] {
                    end.connection = None;
                    if end.view.state != ConnectionState::Ready as u8 {
                        end.view.state = ConnectionState::Closed as u8;
                    }
                }
            }
        }
    }

    /// Gives a closed end all packets once more, and checks that it delivers nothing.
    fn after_refusal(&mut self, to: EndId, frame: &[u8], delivered: usize) {
        let Some(connection) = &mut self.ends[to].connection else { return };
        let closed = connection.state() == ConnectionState::Closed;
        let silent = connection.feed(frame).is_err() && connection.peek().is_err();
        if !closed || !silent || self.ends[to].view.delivered.len() != delivered {
            self.view.broken = Some("an end that goes on after a bad packet");
        }
    }

    /// Says whether a packet contains a secret or a plaintext message.
    fn shows_a_secret(&self) -> bool {
        let mut secrets: HashSet<Vec<u8>> = chance::secrets().iter().map(|secret| secret.to_vec()).collect();
        secrets.extend([A, B, S].map(|id| secret(id).to_vec()));
        secrets.insert(message(A, 0)[..32].to_vec());
        let packets = self.ends.iter().flat_map(|end| &end.packets);
        packets.flat_map(|packet| packet.windows(32)).any(|window| secrets.contains(window))
    }

    fn packets(&self) -> usize {
        self.ends.iter().map(|end| end.packets.len()).sum()
    }
}

/// Returns the state of the world after these steps.
pub fn play(steps: &[Step]) -> View {
    let mut play = Play::begin();
    let mut before = 0;
    for step in steps {
        before = play.packets();
        play.step(*step);
    }
    // Earlier packets were searched in earlier states.
    if play.packets() > before && play.shows_a_secret() {
        play.view.broken = Some("a secret in a packet");
    }
    let mut packets: Vec<&Vec<u8>> = play.ends.iter().flat_map(|end| &end.packets).collect();
    let count = packets.len();
    packets.sort();
    packets.dedup();
    if packets.len() != count {
        play.view.broken = Some("the same packet twice: a key or a nonce was used again");
    }
    play.view.ends = play.ends.into_iter().map(|end| end.view).collect();
    play.view
}
