//! Threads that share one server, its vault, minute keys and registry: what one does beside another. Beside handshakes,
//! their scalar multiplications alone, which share nothing: what the machine's processors give.

use super::handshake::{AGREEMENTS_AGAIN, operations};
use super::support::World;
use super::support::sodium::keypair;
use super::{Extent, median, rate, row};
use curve_tun::connection::Connection;
use std::hint::black_box;
use std::sync::Barrier;

/// Bytes of a message that is sent and sent back.
const SIZE: usize = 1024;
/// How many of them make one turn.
const ECHOES: usize = 64;

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
    let (secret, public) = (keypair().1, keypair().0);
    let handshake = || || drop(black_box(world.connected()));
    let apart = || || operations(AGREEMENTS_AGAIN, &secret, &public);
    let echo = || {
        let (mut client, mut server) = world.connected();
        let mut message = [7; SIZE];
        move || {
            for _ in 0..ECHOES {
                pass(&mut client, &mut server, &mut message);
                pass(&mut server, &mut client, &mut message);
            }
        }
    };
    let mut rates = [const { Vec::new() }; 6];
    for _ in 0..extent.rounds {
        for threads in [1, 2] {
            rates[threads - 1].push(together(threads, extent, handshake));
            rates[threads + 1].push(together(threads, extent, apart));
            rates[threads + 3].push(together(threads, extent, echo));
        }
    }
    let [handshakes_1, handshakes_2, apart_1, apart_2, echoes_1, echoes_2] = rates.map(median);
    for (threads, handshakes, apart, echoes) in
        [(1, handshakes_1, apart_1, echoes_1), (2, handshakes_2, apart_2, echoes_2)]
    {
        row("curve_tun", "handshakes_by_threads", threads, handshakes, "1/s");
        row("libsodium", "handshakes_by_threads", threads, apart, "1/s");
        row("curve_tun", "echoes_by_threads", threads, ECHOES as f64 * echoes, "1/s");
    }
}

/// One message from end to end.
fn pass(from: &mut Connection, to: &mut Connection, message: &mut [u8]) {
    from.send(message).unwrap();
    let count = to.read(from.pending()).unwrap();
    from.written(count);
    to.recv(message).unwrap();
}
