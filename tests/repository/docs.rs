//! The documents agree with the source: numbers, paths, names, and the bytes of the packets.

use crate::support;
use crate::support::World;
use curve_tun::connection::{Connection, Options};
use curve_tun::{KEY_BYTES, KEY_TEXT_LEN, MINUTE_MS, protocol::MESSAGE_MAX};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub const DOCUMENTS: [&str; 15] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/PROTOCOL.md",
    "docs/ARCHITECTURE.md",
    "docs/PERFORMANCE.md",
    "docs/VAULTS.md",
    "docs/REGISTRIES.md",
    "docs/OPERATIONS.md",
    "docs/TOOL.md",
    "docs/ASSURANCE.md",
    "docs/COVERAGE.md",
    "docs/UNSAFE.md",
    "docs/UPSTREAM.md",
];

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The cells of each row of the tables in `text`.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.split(" | ").map(str::trim).collect())
}

/// The section of `text` under the heading that begins with `heading`, up to the next heading of
/// its level or above.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.find(&format!("\n{heading}")).unwrap_or_else(|| panic!("no section {heading}")) + 1;
    let level = heading.find(' ').unwrap();
    let next = text[start..].match_indices("\n#").find(|(at, _)| {
        let marks = text[start + at + 1..].bytes().take_while(|b| *b == b'#').count();
        marks <= level
    });
    &text[start..next.map_or(text.len(), |(at, _)| start + at)]
}

#[test]
fn the_table_of_numbers_is_the_sources() {
    let options = Options::default();
    let expected: [(&str, u64); 15] = [
        ("length field", 2),
        ("hello", 128),
        ("cookie", 168),
        ("initiate", 224),
        ("message packet, beyond its message", 32),
        ("largest message", MESSAGE_MAX as u64),
        ("key", KEY_BYTES as u64),
        ("key as text", KEY_TEXT_LEN as u64),
        ("minute key is current for", MINUTE_MS),
        ("minute key is accepted for, after that", MINUTE_MS),
        ("first message's counter", 2),
        ("handshake's deadline, by default", options.handshake_timeout.as_millis() as u64),
        ("handshakes in flight, by default", options.handshakes_max.into()),
        ("receive high-water mark, by default", options.receive_high_water as u64),
        ("send high-water mark, by default", options.send_high_water as u64),
    ];
    let protocol = read("docs/PROTOCOL.md");
    let table: Vec<(String, u64)> = rows(section(&protocol, "## 12. Numbers"))
        .filter_map(|row| Some((row[0].to_owned(), row[1].replace(',', "").parse().ok()?)))
        .collect();
    let expected: Vec<_> = expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(table, expected);
}

/// Returns the four packets of a connection as sent, without their length fields.
fn packets() -> [Vec<u8>; 4] {
    let world = World::new();
    let (mut client, mut server) = world.pair();
    fn said(from: &mut Connection, to: &mut Connection) -> Vec<u8> {
        let frame = from.send_buffer().to_vec();
        support::carry(from, to).unwrap();
        let (length, packet) = frame.split_first_chunk().unwrap();
        assert_eq!(usize::from(u16::from_be_bytes(*length)), packet.len());
        packet.to_vec()
    }
    let hello = said(&mut client, &mut server);
    let cookie = said(&mut server, &mut client);
    let initiate = said(&mut client, &mut server);
    client.send(b"").unwrap();
    [hello, cookie, initiate, said(&mut client, &mut server)]
}

#[test]
fn sizes_kinds_and_counters_of_the_packets_are_those_on_the_wire() {
    let protocol = read("docs/PROTOCOL.md");
    let headings = ["### 5.1 Hello", "### 5.2 Cookie", "### 5.3 Initiate", "### 5.4 Message"];
    for (heading, packet) in headings.into_iter().zip(packets()) {
        let text = section(&protocol, heading);
        let title = text.lines().next().unwrap();
        let size = format!("{} bytes", packet.len());
        assert!(title.contains(&size), "{title}: it has {size}");
        let fields: Vec<Vec<&str>> = rows(text).filter(|row| row[0].parse::<usize>().is_ok()).collect();
        let kind: Vec<String> = packet[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(fields[0], ["0", "8", &format!("`{}`", kind.join(" "))], "{heading}");
        let mut end = 0;
        for field in &fields {
            // A second table, of the cookie's contents, begins at 0 again.
            let offset: usize = field[0].parse().unwrap();
            if offset == 0 && end > 0 {
                break;
            }
            assert_eq!(offset, end, "{heading}: {field:?}");
            end += field[1].trim_end_matches(" + m").parse::<usize>().unwrap();
            if let Some(counter) = field[2].strip_prefix("counter, ") {
                let sent = u64::from_be_bytes(packet[offset..offset + 8].try_into().unwrap());
                assert_eq!(counter.parse::<u64>().unwrap(), sent, "{heading}");
            }
        }
        assert_eq!(end, packet.len(), "{heading}");
    }
}

#[test]
fn every_nonce_prefix_is_described() {
    let protocol = read("docs/PROTOCOL.md");
    let source = read("src/protocol/nonce.rs");
    let prefixes: Vec<&str> = source.split("b\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(prefixes.len(), 7);
    for prefix in prefixes {
        let named = format!("\"{prefix}\"");
        assert!(
            section(&protocol, "## 6. Nonces").contains(&named),
            "{prefix} is not in the table of nonces"
        );
        assert!(section(&protocol, "## 5. Packets").contains(&named), "{prefix} is not in the packets");
    }
}

/// Returns the text in back quotes in `text`, and the text without it; code blocks aside.
pub fn quoted(text: &str) -> (Vec<String>, String) {
    let outside: String = text.split("```").step_by(2).collect();
    let parts: Vec<&str> = outside.split('`').collect();
    (
        parts.iter().skip(1).step_by(2).map(|part| part.to_string()).collect(),
        parts.into_iter().step_by(2).collect(),
    )
}

#[test]
fn paths_and_links_lead_somewhere() {
    for document in DOCUMENTS {
        let text = read(document);
        let folder = root().join(Path::new(document).parent().unwrap());
        let (names, prose) = quoted(&text);
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if path.starts_with("https://") {
                continue;
            }
            let target = if path.is_empty() { root().join(document) } else { folder.join(path) };
            assert!(target.exists(), "{document}: {link} is not there");
            if !anchor.is_empty() {
                let headings = fs::read_to_string(&target).unwrap();
                assert!(
                    headings.lines().any(|line| slug(line) == anchor),
                    "{document}: no heading for {link}"
                );
            }
        }
        let starts = ["src/", "tests/", "docs/", "scripts/", "include/", "c-examples/", "benches/", ".ci/"];
        for path in names.iter().filter(|name| starts.iter().any(|start| name.starts_with(start))) {
            let path = path.split_whitespace().next().unwrap_or(path);
            assert!(root().join(path).exists(), "{document}: {path} is not there");
        }
    }
}

/// The anchor of a heading: lower case, spaces as hyphens, punctuation dropped.
fn slug(line: &str) -> String {
    let Some(heading) = line.strip_prefix('#') else { return String::new() };
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Returns the identifiers in `text` that begin with `prefix` and are longer.
fn names<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.len() > prefix.len() && word.starts_with(prefix) && !word.ends_with('_'))
        .collect()
}

#[test]
fn every_c_name_is_in_the_header_and_every_erlang_module_there() {
    let header = read("include/curve_tun.h");
    let (functions, constants) = (names(&header, "curve_tun_"), names(&header, "CURVE_TUN_"));
    let metrics = read("src/bin/curve-tun/forward/metrics.rs");
    for document in DOCUMENTS {
        let text = read(document);
        for name in names(&text, "curve_tun_") {
            // Prometheus puts the unit and the kind behind the name that is registered.
            let metric = name.trim_start_matches("curve_tun_").trim_end_matches("_total");
            let metric = metric.trim_end_matches("_bytes");
            if metrics.contains(&format!("(\"{metric}\"")) {
                continue;
            }
            let of_erlang = ["erlang/src", "erlang/test"]
                .iter()
                .any(|folder| root().join(folder).join(name).with_extension("erl").exists());
            assert!(functions.contains(name) || of_erlang, "{document}: there is no {name}");
        }
        for name in names(&text, "CURVE_TUN_") {
            assert!(constants.contains(name), "{document}: {name} is not in the header");
        }
    }
}

#[test]
fn the_first_client_in_c_has_twenty_lines_at_most() {
    let readme = read("README.md");
    let client = readme.split("```c hello.c\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(client.contains("int main(") && client.lines().count() <= 20, "{}", client.lines().count());
}

#[test]
fn every_target_of_make_exists() {
    let makefile = read("Makefile");
    for document in DOCUMENTS {
        for command in quoted(&read(document)).0.iter().filter_map(|name| name.strip_prefix("make ")) {
            let target = command.split_whitespace().next().unwrap();
            assert!(makefile.contains(&format!("\n{target}:")), "{document}: there is no target {target}");
        }
    }
}

/// Checks the subcommand and the options of each command that is named, such as
/// `curve-tun renew --vault FILE`.
#[test]
fn every_command_of_the_tool_is_one() {
    let mut seen = 0;
    for document in DOCUMENTS.into_iter().chain(["erlang/README.md"]) {
        for command in quoted(&read(document)).0.iter().filter_map(|name| name.strip_prefix("curve-tun ")) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let lower = |word: &&&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
            let subcommand: Vec<&str> = words.iter().take_while(lower).copied().collect();
            let mut tool = std::process::Command::new(env!("CARGO_BIN_EXE_curve-tun"));
            let output = tool.args(&subcommand).arg("--help").output().unwrap();
            let help = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{document}: curve-tun {command}");
            for option in words.iter().filter(|word| word.starts_with("--") && word.len() > 2) {
                let known = help.split_whitespace().any(|word| word.trim_matches([',', '[', ']']) == *option);
                assert!(known, "{document}: curve-tun {command}: there is no {option}");
            }
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

/// Each step of the walks is `N. [FILE](../FILE) `function` what it does`.
#[test]
fn every_hop_of_the_walks_is_a_function_in_its_file() {
    let architecture = read("docs/ARCHITECTURE.md");
    let mut hops = 0;
    for line in section(&architecture, "## Two walks").lines() {
        let Some((_, hop)) = line.split_once(". [").filter(|(n, _)| n.parse::<u32>().is_ok()) else {
            continue;
        };
        let (file, rest) = hop.split_once("](../").unwrap();
        let function = rest.split('`').nth(1).unwrap();
        let defines = |line: &str| match file.rsplit_once('.').unwrap().1 {
            "rs" => line.contains(&format!("fn {function}(")) || line.contains(&format!("fn {function}<")),
            "erl" => line.starts_with(&format!("{function}(")),
            "c" => !line.starts_with([' ', '\t']) && line.contains(&format!("{function}(")),
            other => panic!("{other}: a hop of the walks in another language"),
        };
        assert!(read(file).lines().any(defines), "{file} has no {function}");
        hops += 1;
    }
    assert!(hops > 20, "{hops} hops were found");
}

#[test]
fn versions_are_the_manifests() {
    let manifest = read("Cargo.toml");
    let value = |key: &str| {
        let line = manifest.lines().find_map(|line| line.strip_prefix(&format!("{key} = \""))).unwrap();
        line.trim_end_matches('"').to_owned()
    };
    assert!(
        read("README.md").contains(&format!("Rust {} ", value("rust-version"))),
        "README.md: the Rust version"
    );
    let version = value("version");
    assert!(read("CHANGELOG.md").contains(&version), "CHANGELOG.md: {version}");
    let minor = version.rsplit_once('.').unwrap().0;
    assert!(read("SECURITY.md").contains(&format!("| {minor} ")), "SECURITY.md: {minor}");
}
