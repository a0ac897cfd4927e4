//! What the core costs without sockets: handshakes beside the operations in them, handshakes as the
//! work around them grows, threads that share one server, the memory of idle connections.
//!
//! Prints rows `SYSTEM,METRIC,SIZE,VALUE,UNIT`, which `make bench` collects. Arguments select
//! parts: idle, handshake, growth, threads. Compared measurements take turns within one run, so
//! that a busy machine slows all alike.

#[path = "../../tests/support/mod.rs"]
mod support;

mod growth;
mod handshake;
mod idle;
mod threads;

use std::time::{Duration, Instant};

/// Prints a row.
fn row(system: &str, metric: &str, size: usize, value: f64, unit: &str) {
    println!("{system},{metric},{size},{value:.2},{unit}");
}

/// Returns how often per second `work` can be done, over at least `time`.
fn rate(time: Duration, mut work: impl FnMut()) -> f64 {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < time {
        (0..8).for_each(|_| work());
        count += 8;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// Returns the median rate of each, with turns of `time` each in `rounds` rounds.
fn rates(rounds: usize, time: Duration, work: &mut [&mut dyn FnMut()]) -> Vec<f64> {
    let mut all = vec![Vec::with_capacity(rounds); work.len()];
    for _ in 0..rounds {
        for (rates, work) in all.iter_mut().zip(work.iter_mut()) {
            rates.push(rate(time, work));
        }
    }
    all.into_iter().map(median).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A part's name, and what it measures.
type Part = (&'static str, fn(Extent));

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test` runs benches too, to check that they work: once, and briefly.
    let measured = arguments.iter().any(|argument| argument == "--bench");
    let extent = if measured { Extent::FULL } else { Extent::BRIEF };
    // Idle connections come first, since memory given back by the other parts would count as free.
    let parts: [Part; 4] = [
        ("idle", idle::run),
        ("handshake", handshake::run),
        ("growth", growth::run),
        ("threads", threads::run),
    ];
    let chosen = |name| arguments.iter().any(|argument| argument == name);
    let all = !parts.iter().any(|(name, _)| chosen(name));
    for (_, run) in parts.iter().filter(|(name, _)| all || chosen(name)) {
        run(extent);
    }
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Extent {
    rounds: usize,
    /// The time of each turn.
    time: Duration,
    /// Divides the counts of connections and entries.
    divisor: usize,
}

impl Extent {
    const FULL: Extent = Extent { rounds: 15, time: Duration::from_millis(60), divisor: 1 };
    const BRIEF: Extent = Extent { rounds: 1, time: Duration::ZERO, divisor: 100 };
}
