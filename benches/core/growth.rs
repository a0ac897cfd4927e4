//! Handshakes per second beside idle connections of the same server, and with a registry of many
//! entries: addresses that each have a key, or keys that may come in from anywhere.

use super::support::{HOME, World};
use super::{Extent, rates, row};
use curve_tun::PublicKey;
use curve_tun::connection::{Connection, Options};
use curve_tun::registry::{MemoryRegistry, Place};
use curve_tun::vault::{MemoryVault, Vault};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const IDLE: [usize; 3] = [0, 1000, 20_000];
const ENTRIES: [usize; 2] = [1, 1_000_000];

/// Makes established connections of `world`; `count` includes both ends.
fn idle(world: &World, count: usize) -> Vec<(Connection, Connection)> {
    let mut pairs: Vec<_> = (0..count / 2).map(|_| world.connected()).collect();
    for connection in pairs.iter_mut().flat_map(|(client, server)| [client, server]) {
        connection.tick(0).unwrap();
        connection.tick(1000).unwrap();
    }
    pairs
}

/// Returns a different address for each.
fn from_home(i: usize) -> Place {
    if i == 0 { HOME.into() } else { IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + i as u32)).into() }
}

fn from_anywhere(_: usize) -> Place {
    Place::Anywhere
}

/// Makes a world whose registry has `entries`; the client's is number 0.
fn world(entries: usize, place: fn(usize) -> Place) -> World {
    let vault = Arc::new(MemoryVault::generate().unwrap());
    let key = |i: usize| {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&i.to_be_bytes());
        if i == 0 { vault.public_key() } else { PublicKey(key) }
    };
    let registry: MemoryRegistry = (0..entries).map(|i| (place(i), key(i))).collect();
    World::of(vault, Arc::new(MemoryVault::generate().unwrap()), Arc::new(registry), Options::default())
}

/// Prints the rate of handshakes in each of these worlds.
fn compare(metric: &str, worlds: &[(usize, World)], extent: Extent) {
    let mut work: Vec<_> =
        worlds.iter().map(|(_, world)| move || drop(black_box(world.connected()))).collect();
    let mut work: Vec<&mut dyn FnMut()> = work.iter_mut().map(|work| work as &mut dyn FnMut()).collect();
    let rates = rates(extent.rounds, extent.time, &mut work);
    for ((size, _), rate) in worlds.iter().zip(rates) {
        row("curve_tun", metric, *size, rate, "1/s");
    }
}

pub fn run(extent: Extent) {
    let worlds = IDLE.map(|count| (count, World::new()));
    let connections: Vec<_> =
        worlds.iter().map(|(count, world)| idle(world, count / extent.divisor)).collect();
    compare("handshake_beside_idle", &worlds, extent);
    drop(connections);
    for (metric, place) in
        [("handshake_by_addresses", from_home as fn(usize) -> Place), ("handshake_by_keys", from_anywhere)]
    {
        let worlds = ENTRIES.map(|count| (count, world(count.div_ceil(extent.divisor), place)));
        compare(metric, &worlds, extent);
    }
}
