//! The one table.

use super::{Figures, goals};

/// The references: their names in the rows, and in the table.
const REFERENCES: [(&str, &str); 7] = [
    ("tcp", "TCP"),
    ("libsodium", "libsodium"),
    ("zmq", "libzmq CURVE"),
    ("tls", "OpenSSL TLS 1.3"),
    ("spiped", "spiped"),
    ("gen_tcp", "gen_tcp"),
    ("ssl", "ssl"),
];

/// One measurement at several sizes.
struct Section {
    /// The system whose figures are ours.
    system: &'static str,
    metric: &'static str,
    title: &'static str,
    /// What the size means.
    size: &'static str,
    references: &'static [&'static str],
}

const fn section(
    system: &'static str,
    metric: &'static str,
    title: &'static str,
    size: &'static str,
    references: &'static [&'static str],
) -> Section {
    Section { system, metric, title, size, references }
}

const C: &[&str] = &["tcp", "libsodium", "zmq", "tls", "spiped"];
const ERLANG: &[&str] = &["gen_tcp", "ssl"];

const SECTIONS: &[Section] = &[
    section("curve_tun", "seal", "seal, ns", "bytes", &["libsodium"]),
    section("curve_tun", "open", "open, ns", "bytes", &["libsodium"]),
    section("curve_tun", "seal_in_c", "seal through the C ABI, ns", "bytes", &["libsodium"]),
    section("curve_tun", "handshake_first", "handshakes of strangers, both ends, /s", "", &["libsodium"]),
    section("curve_tun", "handshake_again", "handshakes of known peers, both ends, /s", "", &["libsodium"]),
    section("curve_tun", "single", "single sends, messages/s", "bytes", C),
    section("curve_tun", "queued", "queued sends, beside single ones, messages/s", "bytes", &["zmq"]),
    section("curve_tun", "batched", "batched sends, messages/s", "bytes", C),
    section("curve_tun", "stream", "one way, or sealing alone (0 bytes), MB/s", "bytes", &[]),
    section("curve_tun", "echo_p50", "echo, median, µs", "bytes", C),
    section("curve_tun", "echo_p99", "echo, 99th percentile, µs", "bytes", C),
    section("curve_tun", "setup", "connections set up, /s", "", C),
    section("curve_tun", "setup_beside_idle", "the same beside idle ones, /s", "idle", &[]),
    section("curve_tun", "handshake_beside_idle", "handshakes beside idle connections, /s", "idle", &[]),
    section(
        "curve_tun",
        "handshake_by_addresses",
        "handshakes by addresses in the registry, /s",
        "entries",
        &[],
    ),
    section(
        "curve_tun",
        "handshake_by_keys",
        "handshakes by keys from anywhere in the registry, /s",
        "entries",
        &[],
    ),
    section(
        "curve_tun",
        "handshakes_by_threads",
        "handshakes by threads, both ends, /s",
        "threads",
        &["libsodium"],
    ),
    section(
        "curve_tun",
        "echoes_by_threads",
        "echoes of 1 KiB by threads, both ends, /s",
        "threads",
        &["libsodium"],
    ),
    section("curve_tun", "memory_vault_first", "vaults in memory: handshakes of strangers, /s", "", &[]),
    section("curve_tun", "memory_vault_again", "vaults in memory: of known peers, /s", "", &[]),
    section("curve_tun", "file_vault_first", "vaults in files: of strangers, /s", "", &[]),
    section("curve_tun", "file_vault_again", "vaults in files: of known peers, /s", "", &[]),
    section("curve_tun", "agent_vault_first", "vaults behind agents: of strangers, /s", "", &[]),
    section("curve_tun", "agent_vault_again", "vaults behind agents: of known peers, /s", "", &[]),
    section("curve_tun", "token_vault_first", "vaults in tokens (SoftHSM): of strangers, /s", "", &[]),
    section("curve_tun", "token_vault_again", "vaults in tokens (SoftHSM): of known peers, /s", "", &[]),
    section("curve_tun", "idle_connections", "memory of idle connections, MB", "idle", &[]),
    section("curve_tun", "idle_connection", "memory of each, bytes", "", &[]),
    section("curve_tun_erlang", "single", "Erlang: single sends, messages/s", "bytes", ERLANG),
    section("curve_tun_erlang", "echo_p50", "Erlang: echo, median, µs", "bytes", ERLANG),
    section("curve_tun_erlang", "setup", "Erlang: connections set up, /s", "", ERLANG),
    section("curve_tun_erlang", "idle_connection", "Erlang: memory of an idle end, bytes", "", ERLANG),
];

/// Returns the table in Markdown: each reference's figure, and in brackets ours divided by it.
pub fn markdown(figures: &Figures) -> String {
    let titles = REFERENCES.map(|(_, title)| title).join(" | ");
    let mut lines = vec![
        format!("| | | curve_tun | {titles} | goal |"),
        format!("| --- | ---: | ---: |{} --- |", " ---: |".repeat(REFERENCES.len())),
    ];
    for section in SECTIONS {
        let systems = [&[section.system], section.references].concat();
        for size in figures.sizes(&systems, section.metric) {
            lines.push(line(figures, section, size));
        }
    }
    lines.join("\n") + "\n"
}

fn line(figures: &Figures, section: &Section, size: usize) -> String {
    let ours = figures.median(section.system, section.metric, size);
    let cell = |(system, _): (&str, &str)| {
        let theirs = figures.median(system, section.metric, size);
        match (ours, theirs.filter(|_| section.references.contains(&system))) {
            (Some(ours), Some(theirs)) => format!("{} ({:.2})", number(theirs), ours / theirs),
            (None, Some(theirs)) => number(theirs),
            _ => String::new(),
        }
    };
    let size_text = if section.size.is_empty() {
        String::new()
    } else {
        format!("{} {}", number(size as f64), section.size)
    };
    format!(
        "| {} | {size_text} | {} | {} | {} |",
        section.title,
        ours.map_or("–".to_owned(), number),
        REFERENCES.map(cell).join(" | "),
        goals::verdict(figures, section.system, section.metric, size),
    )
}

/// Formats a value with at least three significant figures, and separated thousands.
fn number(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}
