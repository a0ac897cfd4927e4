//! The project's goals: bounds of figures, most of them ratios between figures of one run.

use super::Figures;
use Bound::{AtLeast, AtMost};

/// A bound of the ratio of two figures, or of a single figure.
struct Goal {
    metric: &'static str,
    sizes: &'static [usize],
    bound: Bound,
    by: By,
    /// The divisor's name, or the figure's unit.
    name: &'static str,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

enum By {
    /// The figure of this system at the same size.
    System(&'static str),
    /// The same system's figure at this size.
    Size(usize),
    /// The dividend becomes the gain over the same system's figure at this size, and the divisor
    /// that other system's gain in the same run: both get the same share of the processors, even on
    /// a busy machine.
    Gain(&'static str, usize),
    /// One unit.
    One,
}

const ALL: &[usize] = &[64, 256, 1024, 4096, 16384, 65503];

const fn beside(
    system: &'static str,
    metric: &'static str,
    sizes: &'static [usize],
    bound: Bound,
    name: &'static str,
) -> Goal {
    Goal { metric, sizes, bound, by: By::System(system), name }
}

const fn own(
    metric: &'static str,
    sizes: &'static [usize],
    bound: Bound,
    size: usize,
    name: &'static str,
) -> Goal {
    Goal { metric, sizes, bound, by: By::Size(size), name }
}

const fn gain(
    metric: &'static str,
    sizes: &'static [usize],
    bound: Bound,
    system: &'static str,
    size: usize,
    name: &'static str,
) -> Goal {
    Goal { metric, sizes, bound, by: By::Gain(system, size), name }
}

const fn alone(metric: &'static str, bound: Bound, unit: &'static str) -> Goal {
    Goal { metric, sizes: &[0], bound, by: By::One, name: unit }
}

const GOALS: &[Goal] = &[
    beside("libsodium", "seal", &[64], AtMost(0.72), "libsodium"),
    beside("libsodium", "seal", &[1024], AtMost(0.93), "libsodium"),
    beside("libsodium", "seal", &[16384, 65503], AtMost(0.98), "libsodium"),
    beside("libsodium", "open", &[64], AtMost(0.72), "libsodium"),
    beside("libsodium", "open", &[1024], AtMost(0.93), "libsodium"),
    beside("libsodium", "open", &[16384, 65503], AtMost(0.98), "libsodium"),
    beside("libsodium", "handshake_first", &[0], AtLeast(0.85), "libsodium"),
    beside("libsodium", "handshake_again", &[0], AtLeast(0.85), "libsodium"),
    beside("tcp", "single", &[64, 1024], AtLeast(0.9), "TCP"),
    beside("zmq", "queued", &[64], AtLeast(2.0), "libzmq"),
    beside("zmq", "queued", &[1024], AtLeast(1.0), "libzmq"),
    beside("libsodium", "batched", ALL, AtLeast(1.0), "libsodium"),
    own("stream", &[65503], AtLeast(0.9), 0, "sealing alone"),
    beside("zmq", "setup", &[0], AtLeast(4.0), "libzmq"),
    beside("tls", "setup", &[0], AtLeast(4.0), "OpenSSL"),
    beside("ssl", "setup", &[0], AtLeast(4.0), "ssl"),
    beside("spiped", "setup", &[0], AtLeast(4.0), "spiped"),
    beside("tcp", "echo_p50", &[64], AtMost(1.35), "TCP"),
    own("setup_beside_idle", &[1000, 9000], AtLeast(0.9), 0, "none idle"),
    own("handshake_beside_idle", &[1000, 20_000], AtLeast(0.9), 0, "none idle"),
    own("handshake_by_addresses", &[1_000_000], AtLeast(0.9), 1, "one entry"),
    own("handshake_by_keys", &[1_000_000], AtLeast(0.9), 1, "one entry"),
    gain("handshakes_by_threads", &[2], AtLeast(0.9), "libsodium", 1, "libsodium's gain by a second thread"),
    gain("echoes_by_threads", &[2], AtLeast(0.9), "libsodium", 1, "libsodium's gain by a second thread"),
    alone("idle_connection", AtMost(600.0), "bytes"),
];

/// The goals in Erlang, whose figures have a system name of their own.
const ERLANG_GOALS: &[Goal] = &[
    beside("gen_tcp", "single", &[64, 1024], AtLeast(0.5), "gen_tcp"),
    beside("gen_tcp", "single", &[16384, 65503], AtLeast(0.4), "gen_tcp"),
    alone("idle_connection", AtMost(6144.0), "bytes"),
];

/// Returns the goal of a figure of `system`, and whether it is met; empty if there is none.
pub fn verdict(figures: &Figures, system: &str, metric: &str, size: usize) -> String {
    let goals = if system == "curve_tun" { GOALS } else { ERLANG_GOALS };
    let fitting = goals.iter().filter(|goal| goal.metric == metric && goal.sizes.contains(&size));
    let verdicts = fitting.filter_map(|goal| {
        let figure = figures.median(system, metric, size)?;
        let (of, divisor) = match goal.by {
            By::System(by) => ("of ", figures.median(by, metric, size)?),
            By::Size(by) => ("of ", figures.median(system, metric, by)?),
            By::Gain(by, one) => {
                let theirs = figures.median(by, metric, size)? / figures.median(by, metric, one)?;
                ("of ", figures.median(system, metric, one)? * theirs)
            }
            By::One => ("", 1.0),
        };
        let ratio = figure / divisor;
        let (sign, bound, met) = match goal.bound {
            AtLeast(bound) => ("≥", bound, ratio >= bound),
            AtMost(bound) => ("≤", bound, ratio <= bound),
        };
        let met = if met { "met" } else { "missed" };
        let precision = if ratio < 100.0 { 2 } else { 0 };
        Some(format!("{sign} {bound} {of}{}: {met}, {ratio:.precision$}", goal.name))
    });
    verdicts.collect::<Vec<_>>().join("; ")
}
