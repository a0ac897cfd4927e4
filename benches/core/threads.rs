//! Threads that share one server, its vault, minute keys and registry: what several threads achieve
//! compared with one. Handshakes are measured beside their scalar multiplications alone, and
//! messages beside their boxes alone: those share nothing, so they show what the machine's
//! processors can give at the time.

use super::handshake::{AGREEMENTS_AGAIN, operations};
use super::support::World;
use super::support::sodium::{BoxKey, NONCE_BYTES, TAG_BYTES, keypair};
use super::{Extent, median, rate, row};
use curve_tun::connection::Connection;
use std::hint::black_box;
use std::sync::Barrier;

/// Bytes of a message that is sent and sent back.
const SIZE: usize = 1024;
/// The number of echoes in one turn.
const ECHOES: usize = 64;

/// Returns the combined rate of `threads` threads.
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
    let boxes = || {
        let (key, nonce) = (BoxKey::random(), [3; NONCE_BYTES]);
        let (mut message, mut sealed) = ([7; SIZE], [0; SIZE + TAG_BYTES]);
        move || {
            for _ in 0..2 * ECHOES {
                key.seal(&nonce, black_box(&message), &mut sealed);
                assert!(key.open(&nonce, black_box(&sealed), &mut message));
            }
        }
    };
    let mut rates = [const { [const { Vec::new() }; 4] }; 2];
    for _ in 0..extent.rounds {
        for (threads, rates) in (1..).zip(&mut rates) {
            rates[0].push(together(threads, extent, handshake));
            rates[1].push(together(threads, extent, apart));
            rates[2].push(together(threads, extent, echo));
            rates[3].push(together(threads, extent, boxes));
        }
    }
    for (threads, rates) in (1..).zip(rates) {
        let [handshakes, apart, echoes, boxes] = rates.map(median);
        row("curve_tun", "handshakes_by_threads", threads, handshakes, "1/s");
        row("libsodium", "handshakes_by_threads", threads, apart, "1/s");
        row("curve_tun", "echoes_by_threads", threads, ECHOES as f64 * echoes, "1/s");
        row("libsodium", "echoes_by_threads", threads, ECHOES as f64 * boxes, "1/s");
    }
}

/// Passes one message from end to end.
fn pass(from: &mut Connection, to: &mut Connection, message: &mut [u8]) {
    from.send(message).unwrap();
    let count = to.feed(from.send_buffer()).unwrap();
    from.sent(count);
    to.recv(message).unwrap();
}
