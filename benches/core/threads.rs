//! Threads that share one server, its vault, minute keys and registry: what one does beside another.

use super::support::World;
use super::{Extent, median, rate, row};
use std::hint::black_box;
use std::sync::Barrier;

const SIZE: usize = 1024;

/// The rates of `threads` threads together.
fn together<F: FnMut()>(threads: usize, extent: Extent, make: impl Fn() -> F + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        let run = || {
            let work = make();
            barrier.wait();
            rate(extent.time, work)
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

pub fn run(extent: Extent) {
    let world = World::new();
    let handshake = || || drop(black_box(world.connected()));
    let message = || {
        let (mut client, mut server) = world.connected();
        let message = [7; SIZE];
        move || {
            for _ in 0..64 {
                client.send(black_box(&message)).unwrap();
                let count = server.read(client.pending()).unwrap();
                client.written(count);
                server.consume();
            }
        }
    };
    let mut rates = [const { Vec::new() }; 4];
    for _ in 0..extent.rounds {
        for threads in [1, 2] {
            rates[threads - 1].push(together(threads, extent, handshake));
            rates[threads + 1].push(together(threads, extent, message));
        }
    }
    let [handshakes_1, handshakes_2, messages_1, messages_2] = rates.map(median);
    row("curve_tun", "handshakes_by_threads", 1, handshakes_1, "1/s");
    row("curve_tun", "handshakes_by_threads", 2, handshakes_2, "1/s");
    row("curve_tun", "messages_by_threads", 1, 64.0 * messages_1, "1/s");
    row("curve_tun", "messages_by_threads", 2, 64.0 * messages_2, "1/s");
}
