//! What the project has set itself: bounds of ratios between figures of one run.

use super::Figures;

/// A bound of one figure divided by another.
struct Goal {
    metric: &'static str,
    sizes: &'static [usize],
    bound: Bound,
    /// The system whose figure it is divided by, and the size of that figure if it is another one.
    by: (&'static str, Option<usize>),
    name: &'static str,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

const ALL: &[usize] = &[64, 256, 1024, 4096, 16384, 65503];

const fn goal(
    metric: &'static str,
    sizes: &'static [usize],
    bound: Bound,
    system: &'static str,
    name: &'static str,
) -> Goal {
    Goal { metric, sizes, bound, by: (system, None), name }
}

/// Beside another figure of our own.
const fn own(
    metric: &'static str,
    sizes: &'static [usize],
    bound: Bound,
    size: usize,
    name: &'static str,
) -> Goal {
    Goal { metric, sizes, bound, by: ("curve_tun", Some(size)), name }
}

const GOALS: &[Goal] = &[
    goal("seal", &[64], Bound::AtMost(0.72), "libsodium", "libsodium"),
    goal("seal", &[1024], Bound::AtMost(0.93), "libsodium", "libsodium"),
    goal("seal", &[16384, 65503], Bound::AtMost(0.98), "libsodium", "libsodium"),
    goal("open", &[64], Bound::AtMost(0.72), "libsodium", "libsodium"),
    goal("open", &[1024], Bound::AtMost(0.93), "libsodium", "libsodium"),
    goal("open", &[16384, 65503], Bound::AtMost(0.98), "libsodium", "libsodium"),
    goal("handshake_first", &[0], Bound::AtLeast(0.85), "libsodium", "libsodium"),
    goal("handshake_again", &[0], Bound::AtLeast(0.85), "libsodium", "libsodium"),
    goal("single", &[64, 1024], Bound::AtLeast(0.9), "tcp", "TCP"),
    goal("batched", ALL, Bound::AtLeast(1.0), "libsodium", "libsodium"),
    own("stream", &[65503], Bound::AtLeast(0.9), 0, "sealing alone"),
    goal("setup", &[0], Bound::AtLeast(4.0), "zmq", "libzmq"),
    goal("setup", &[0], Bound::AtLeast(4.0), "tls", "OpenSSL"),
    goal("setup", &[0], Bound::AtLeast(4.0), "ssl", "ssl"),
    goal("echo_p50", &[64], Bound::AtMost(1.35), "tcp", "TCP"),
    own("setup_beside_idle", &[1000, 9000], Bound::AtLeast(0.9), 0, "none idle"),
    own("handshake_beside_idle", &[1000, 20_000], Bound::AtLeast(0.9), 0, "none idle"),
    own("handshake_by_entries", &[1_000_000], Bound::AtLeast(0.9), 1, "one entry"),
    own("handshakes_by_threads", &[2], Bound::AtLeast(1.8), 1, "one thread"),
    own("messages_by_threads", &[2], Bound::AtLeast(1.8), 1, "one thread"),
];

/// The goals in Erlang, whose own figures have a system of their own.
const ERLANG_GOALS: &[Goal] = &[
    goal("single", &[64, 1024], Bound::AtLeast(0.5), "gen_tcp", "gen_tcp"),
    goal("single", &[16384, 65503], Bound::AtLeast(0.4), "gen_tcp", "gen_tcp"),
];

/// What is wanted of a figure of `system`, and whether it is met; empty if nothing is.
pub fn verdict(figures: &Figures, system: &str, metric: &str, size: usize) -> String {
    let goals = if system == "curve_tun" { GOALS } else { ERLANG_GOALS };
    let fitting = goals.iter().filter(|goal| goal.metric == metric && goal.sizes.contains(&size));
    let verdicts = fitting.filter_map(|goal| {
        let (by, by_size) = goal.by;
        let divisor = figures.median(by, metric, by_size.unwrap_or(size))?;
        let ratio = figures.median(system, metric, size)? / divisor;
        let (sign, bound, met) = match goal.bound {
            Bound::AtLeast(bound) => ("≥", bound, ratio >= bound),
            Bound::AtMost(bound) => ("≤", bound, ratio <= bound),
        };
        let met = if met { "met" } else { "missed" };
        Some(format!("{sign} {bound} of {}: {met}, {ratio:.2}", goal.name))
    });
    verdicts.collect::<Vec<_>>().join("; ")
}
