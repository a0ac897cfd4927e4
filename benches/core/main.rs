//! What the core costs without sockets: handshakes beside the operations that they are made of, handshakes as the work
//! around them grows, threads that share one server, the memory of idle connections.
//!
//! Prints rows `SYSTEM,METRIC,SIZE,VALUE,UNIT`; `make bench` collects them. Arguments choose from the parts: idle,
//! handshake, growth, threads. Things that are compared take turns within one run, so that a busy machine slows all
//! alike.

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

/// How often per second `work` can be done, from at least `time` of it.
fn rate(time: Duration, mut work: impl FnMut()) -> f64 {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < time {
        (0..8).for_each(|_| work());
        count += 8;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// The median rate of each of these, which take turns of `time` each in `rounds` rounds.
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
    // `cargo test` runs benches too, to see that they work: once, and briefly.
    let measured = arguments.iter().any(|argument| argument == "--bench");
    let extent = if measured { Extent::FULL } else { Extent::BRIEF };
    // The memory of idle connections first, since what others have given back would count as free.
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
    /// Of each turn.
    time: Duration,
    /// By what counts of connections and entries are divided.
    divisor: usize,
}

impl Extent {
    const FULL: Extent = Extent { rounds: 15, time: Duration::from_millis(60), divisor: 1 };
    const BRIEF: Extent = Extent { rounds: 1, time: Duration::ZERO, divisor: 100 };
}
