//! Handshakes in flight are shared fairly among their sources.

use crate::support::{World, carry, settle};
use curve_tun::Error;
use curve_tun::connection::{Connection, ConnectionState, Options};
use proptest::prelude::*;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn limited(handshakes_max: u32, handshakes_per_source: u32) -> World {
    World::with(
        Options::default().handshakes_max(handshakes_max).handshakes_per_source(handshakes_per_source),
    )
}

/// A handshake that can be evicted, and how often it was told so.
struct Shaking {
    connection: Connection,
    told: Arc<AtomicU32>,
}

impl Shaking {
    fn new(world: &World, from: &str) -> Result<Shaking, Error> {
        let mut connection = Connection::server(&world.server, from.parse().unwrap())?;
        let told = Arc::new(AtomicU32::new(0));
        let count = told.clone();
        connection.on_evict(move || _ = count.fetch_add(1, Ordering::Relaxed))?;
        Ok(Shaking { connection, told })
    }

    fn gave_way(&self) -> bool {
        match self.told.load(Ordering::Relaxed) {
            0 => false,
            1 => true,
            often => panic!("told {often} times"),
        }
    }
}

fn who_gave_way(all: &[Shaking]) -> Vec<usize> {
    (0..all.len()).filter(|&i| all[i].gave_way()).collect()
}

#[test]
fn whoever_floods_from_one_address_gives_way_to_himself() {
    let world = limited(4, 0);
    let honest = Shaking::new(&world, "192.0.2.1").unwrap();
    let flood: Vec<_> = (0..100).map(|_| Shaking::new(&world, "192.0.2.2").unwrap()).collect();
    assert!(!honest.gave_way());
    assert_eq!(who_gave_way(&flood), (0..97).collect::<Vec<_>>(), "the oldest first");
    // A new handshake from elsewhere gets a permit at once.
    let newcomer = Shaking::new(&world, "192.0.2.3").unwrap();
    assert_eq!((newcomer.gave_way(), honest.gave_way()), (false, false));
    assert_eq!(who_gave_way(&flood).len(), 98);
    assert_eq!(world.server.handshakes_in_flight(), 4);
}

#[test]
fn among_many_addresses_the_oldest_gives_way() {
    let world = limited(10, 0);
    let flood: Vec<_> = (0..30).map(|i| Shaking::new(&world, &format!("127.0.{i}.1")).unwrap()).collect();
    assert_eq!(who_gave_way(&flood), (0..20).collect::<Vec<_>>());
}

#[test]
fn one_source_has_no_more_than_its_share_also_when_there_is_room() {
    let world = limited(100, 2);
    // An IPv4-mapped IPv6 address, and a /64.
    for of_one_source in [
        ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"],
        ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:1"],
    ] {
        let all = of_one_source.map(|from| Shaking::new(&world, from).unwrap());
        assert_eq!(who_gave_way(&all), [0]);
    }
    let apart = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8:0:1::1", "2001:db8:0:2::1"];
    let all = apart.map(|from| Shaking::new(&world, from).unwrap());
    assert!(who_gave_way(&all).is_empty());
}

#[test]
fn what_cannot_give_way_stays_and_the_newcomer_is_refused() {
    let world = limited(2, 0);
    let plain = |from: &str| Connection::server(&world.server, from.parse().unwrap());
    let stays = plain("192.0.2.1").unwrap();
    let gives_way = Shaking::new(&world, "192.0.2.2").unwrap();
    // The source of the new handshake holds most, and its handshakes cannot be evicted.
    assert_eq!(plain("192.0.2.1").err(), Some(Error::TooManyHandshakes));
    assert!(!gives_way.gave_way());
    let third = plain("192.0.2.3").unwrap();
    assert!(gives_way.gave_way());
    assert_eq!(plain("192.0.2.4").err(), Some(Error::TooManyHandshakes));
    drop((stays, third));
    assert_eq!(world.server.handshakes_in_flight(), 0);
}

#[test]
fn who_gave_way_is_over_and_says_so_once() {
    let touches: [fn(&mut Connection) -> Error; 4] = [
        |connection| connection.feed(&[0]).unwrap_err(),
        |connection| connection.tick(5).unwrap_err(),
        |connection| connection.transport_ended(),
        |connection| {
            connection.recv_buffer().unwrap()[0] = 0;
            connection.received(1).unwrap_err()
        },
    ];
    for touch in touches {
        let world = limited(1, 0);
        let mut first = Shaking::new(&world, "192.0.2.1").unwrap();
        let _second = Shaking::new(&world, "192.0.2.2").unwrap();
        assert_eq!(touch(&mut first.connection), Error::TooManyHandshakes);
        assert_eq!(first.connection.state(), ConnectionState::Closed);
        assert_eq!(first.connection.tick(6), Err(Error::Closed));
        assert!(!first.connection.wants_write());
        drop(first);
        assert_eq!(world.server.handshakes_in_flight(), 1, "the place is the newcomer's");
    }
}

#[test]
fn it_gives_way_in_each_state_before_connected_and_never_after() {
    let world = limited(1, 0);
    for packets in 0..4 {
        let (mut client, mut server) = world.pair();
        let told = Arc::new(AtomicU32::new(0));
        let count = told.clone();
        server.on_evict(move || _ = count.fetch_add(1, Ordering::Relaxed)).unwrap();
        for packet in 0..packets {
            let (from, to) =
                if packet % 2 == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
            carry(from, to).unwrap();
        }
        let newcomer = world.accept();
        let connected = packets == 3;
        assert_eq!(told.load(Ordering::Relaxed), u32::from(!connected), "after {packets} packets");
        let went_on = settle(&mut client, &mut server);
        assert_eq!(went_on.is_ok(), connected);
        assert_eq!(server.on_evict(|| ()), Err(Error::WrongState), "the handshake is over");
        assert_eq!(client.on_evict(|| ()), Err(Error::WrongState));
        drop(newcomer);
    }
}

/// The rule above, as a linear search.
fn gives_way(held: &[(usize, u8)], newcomer: u8, most: usize, share: usize) -> Option<usize> {
    let of = |source: u8| held.iter().filter(|(_, s)| *s == source).count() + usize::from(source == newcomer);
    let full = of(newcomer) > share;
    if !full && held.len() < most {
        return None;
    }
    let candidates = held.iter().filter(|(_, source)| !full || *source == newcomer);
    candidates
        .max_by_key(|(number, source)| (of(*source), std::cmp::Reverse(*number)))
        .map(|(number, _)| *number)
}

proptest! {
    #[test]
    fn places_go_as_a_plain_search_says(
        most in 1u32..8,
        share in 0u32..4,
        steps in prop::collection::vec((0u8..5, any::<bool>(), any::<prop::sample::Index>()), 1..60),
    ) {
        let world = limited(most, share);
        let share = if share == 0 { most } else { share };
        let mut all: Vec<Option<Shaking>> = Vec::new();
        let mut held: Vec<(usize, u8)> = Vec::new();
        for (source, leaves, which) in steps {
            if leaves && !held.is_empty() {
                let (number, _) = held.remove(which.index(held.len()));
                all[number] = None;
                continue;
            }
            let expected = gives_way(&held, source, most as usize, share as usize);
            let address = IpAddr::from([10, 0, 0, source]).to_string();
            held.retain(|(number, _)| Some(*number) != expected);
            held.push((all.len(), source));
            all.push(Some(Shaking::new(&world, &address).unwrap()));
            for (number, shaking) in all.iter().enumerate() {
                let in_place = held.iter().any(|(n, _)| *n == number);
                prop_assert!(shaking.as_ref().is_none_or(|s| s.gave_way() != in_place));
            }
            prop_assert_eq!(world.server.handshakes_in_flight(), held.len());
        }
    }
}
