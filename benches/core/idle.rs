//! A hundred thousand idle connections in this process.

use super::support::World;
use super::{Extent, row};

const CONNECTIONS: usize = 100_000;
/// Bytes in a page, on the machines that this is measured on.
const PAGE: f64 = 4096.0;

/// Returns the bytes of memory that this process has from the system, by /proc/self/statm; `None`
/// where there is no such file.
fn resident() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * PAGE)
}

pub fn run(extent: Extent) {
    let world = World::new();
    let count = CONNECTIONS / extent.divisor;
    // Allocated before, so that the list itself is not counted.
    let mut pairs = Vec::with_capacity(count / 2);
    let before = resident();
    for _ in 0..count / 2 {
        let (client, server) = world.connected();
        let mut pair = (Box::new(client), Box::new(server));
        for connection in [&mut pair.0, &mut pair.1] {
            connection.tick(0).unwrap();
            connection.tick(1000).unwrap();
        }
        pairs.push(pair);
    }
    if let (Some(before), Some(after)) = (before, resident()) {
        let list = (pairs.len() * size_of_val(&pairs[0])) as f64;
        let bytes = after - before - list;
        row("curve_tun", "idle_connections", count, bytes / 1e6, "MB");
        row("curve_tun", "idle_connection", 0, bytes / count as f64, "bytes");
    }
    // They all still work.
    for (client, server) in &mut pairs {
        client.send(b"awake").unwrap();
        let count = server.feed(client.send_buffer()).unwrap();
        client.sent(count);
        assert_eq!(server.peek(), Ok(&b"awake"[..]));
    }
}
