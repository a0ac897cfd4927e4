//! A model checker in the role of the attacker: it tries every order of a number of steps, over the
//! real connections without I/O.
//!
//! Claims have the numbers of docs/PROTOCOL.md. `MODEL_STEPS` sets another number of steps.

mod chance;
mod play;

#[path = "../support/mod.rs"]
mod support;

use play::{A, B, E, EndId, EndView, F, Kind, PacketId, S, Step, View, play};
use stateright::{Checker, Model, Property};

/// Steps from each start; a refusal ends a path.
const STEPS: usize = 4;
const MINUTES_MAX: usize = 2;
const RESTARTS_MAX: usize = 1;
const MESSAGES_MAX: usize = 2;

const CONNECTED: u8 = 3;
const CLOSED: u8 = 4;

#[derive(Clone, Debug)]
struct State {
    steps: Vec<Step>,
    /// How many more steps may follow.
    left: usize,
    view: View,
}

// The steps lead to a state, but are not part of it.
impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.view == other.view
    }
}

impl Eq for State {}

impl std::hash::Hash for State {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        self.view.hash(hasher);
    }
}

struct Attacked {
    steps: usize,
}

fn is_client(id: EndId) -> bool {
    matches!(id, A | B | E)
}

/// Says whether an end could accept a packet of this kind in its state.
fn could_want(id: EndId, end: &EndView, kind: Kind) -> bool {
    match kind {
        Kind::Hello => !is_client(id) && end.state == 0,
        Kind::Cookie => is_client(id) && end.state == 1,
        Kind::Initiate => !is_client(id) && end.state == 2,
        Kind::Message(_) => end.state == CONNECTED,
    }
}

/// Returns the end of S with which a client shares its connection: the one whose cookie it took.
fn partner(view: &View, id: EndId) -> Option<EndId> {
    let first = view.ends[id].took.first()?;
    if is_client(id) {
        return Some(first.from);
    }
    view.ends[id].took.get(1).map(|initiate| initiate.from)
}

/// Returns the ends that are or were connected.
fn connected(view: &View) -> impl Iterator<Item = (EndId, &EndView)> {
    view.ends.iter().enumerate().filter(|(_, end)| end.peer.is_some())
}

impl Model for Attacked {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        // Nothing has been given to any end; and B is connected.
        let give = |from, number, to| Step::Give { packet: PacketId { from, number }, to, changed: false };
        let connected = vec![give(B, 0, S), give(S, 0, B), give(B, 1, S)];
        let starts = [Vec::new(), connected];
        starts.map(|steps| State { view: play(&steps), left: self.steps, steps }).into()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        let view = &state.view;
        if state.left == 0 || view.refused || view.broken.is_some() {
            return;
        }
        let mut fresh = false;
        for (to, end) in view.ends.iter().enumerate() {
            // Ends of S that were given nothing yet are equivalent: the first of them stands for
            // all.
            let untouched = to >= S && end.state == 0;
            if end.state == CLOSED || (untouched && fresh) {
                continue;
            }
            fresh |= untouched;
            let said = view.ends.iter().enumerate().flat_map(|(from, speaker)| {
                speaker.said.iter().enumerate().map(move |(number, kind)| (PacketId { from, number }, *kind))
            });
            let mut wanted = said.filter(|(_, kind)| could_want(to, end, *kind)).map(|(packet, _)| packet);
            actions.extend(wanted.clone().map(|packet| Step::Give { packet, to, changed: false }));
            // The last of them stands for all that could be changed.
            actions.extend(wanted.next_back().map(|packet| Step::Give { packet, to, changed: true }));
            if end.state == CONNECTED && end.sent < MESSAGES_MAX {
                actions.push(Step::Send(to));
            }
        }
        // One packet that an end cannot accept in its state stands for all of them.
        let packet = PacketId { from: A, number: 0 };
        let odd = view.ends.iter().position(|end| end.state == CONNECTED);
        actions.extend(odd.map(|to| Step::Give { packet, to, changed: false }));
        if view.minutes < MINUTES_MAX {
            actions.push(Step::Minute);
        }
        if view.restarts < RESTARTS_MAX {
            actions.push(Step::Restart);
        }
    }

    fn next_state(&self, last: &State, action: Step) -> Option<State> {
        let mut steps = last.steps.clone();
        steps.push(action);
        let view = play(&steps);
        Some(State { steps, left: last.left - 1, view })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "no rule is broken: states, secrets (C3), nonces (C9), closed ends",
                |_, state: &State| state.view.broken.is_none(),
            ),
            Property::always(
                "C1: a connected client reached S, who answered this very hello",
                |_, state: &State| {
                    connected(&state.view).filter(|(id, _)| is_client(*id)).all(|(id, end)| {
                        let answered = partner(&state.view, id).filter(|partner| *partner >= S);
                        let hello = PacketId { from: id, number: 0 };
                        end.peer == Some(S)
                            && answered
                                .is_some_and(|partner| state.view.ends[partner].took.first() == Some(&hello))
                    })
                },
            ),
            Property::always(
                "C2: whom S lets in, said this hello and this initiate, under its own key",
                |_, state: &State| {
                    connected(&state.view).filter(|(id, _)| *id >= S).all(|(id, end)| {
                        let Some(client) = partner(&state.view, id) else { return false };
                        let said = [0, 1].map(|number| PacketId { from: client, number });
                        // E has A's key, so to S it is A (C11).
                        let key = if client == E { A } else { client };
                        end.took.starts_with(&said) && end.peer == Some(key) && is_client(client)
                    })
                },
            ),
            Property::always(
                "C4: what is delivered is a prefix of what this very peer sent",
                |_, state: &State| {
                    state.view.ends.iter().enumerate().all(|(id, end)| {
                        let peer = partner(&state.view, id);
                        let in_order = end.delivered.iter().enumerate();
                        in_order.clone().all(|(at, (from, number))| Some(*from) == peer && *number == at)
                            && peer.is_none_or(|peer| end.delivered.len() <= state.view.ends[peer].sent)
                    })
                },
            ),
            Property::always("C5: no two ends share one connection of their peer", |_, state: &State| {
                let mut partners: Vec<_> =
                    connected(&state.view).map(|(id, _)| (is_client(id), partner(&state.view, id))).collect();
                let count = partners.len();
                partners.sort();
                partners.dedup();
                partners.len() == count
            }),
            Property::always("C9: counters go up by one from 2", |_, state: &State| {
                state.view.ends.iter().all(|end| {
                    let messages = end.said.iter().filter_map(|kind| match *kind {
                        Kind::Message(counter) => Some(counter),
                        _ => None,
                    });
                    messages.eq(2..2 + end.sent as u64)
                })
            }),
            Property::always("C11: with A's key nobody is a server, nor B", |_, state: &State| {
                let ends = &state.view.ends;
                ends[F].said.is_empty()
                    && ends[S..].iter().all(|end| end.peer != Some(B) || end.took[0].from == B)
            }),
            Property::sometimes("B talks to S, both ways", |_, state: &State| {
                let ends = &state.view.ends;
                !ends[B].delivered.is_empty()
                    && ends[S..].iter().any(|end| end.peer == Some(B) && !end.delivered.is_empty())
            }),
            Property::sometimes("with A's key, E is A to S", |_, state: &State| {
                state.view.ends[S..].iter().any(|end| end.peer == Some(A) && end.took[0].from == E)
            }),
            Property::sometimes("two clients at once", |_, state: &State| {
                connected(&state.view).filter(|(id, _)| *id >= S).count() == 2
            }),
            Property::sometimes("a handshake that a minute went by in", |_, state: &State| {
                state.view.minutes == 1 && connected(&state.view).any(|(id, _)| id >= S)
            }),
            Property::sometimes("a connection after a restart", |_, state: &State| {
                state.view.restarts == 1
                    && connected(&state.view).any(|(id, end)| id >= S && end.state == CONNECTED)
            }),
            Property::sometimes("something is refused", |_, state: &State| state.view.refused),
        ]
    }
}

#[test]
fn the_claims_hold_in_every_order_of_steps() {
    let steps = std::env::var("MODEL_STEPS").map_or(STEPS, |steps| steps.parse().unwrap());
    let checker = Attacked { steps }.checker().spawn_bfs().join();
    println!("{steps} steps: {} states, {} different", checker.state_count(), checker.unique_state_count());
    checker.assert_properties();
}
