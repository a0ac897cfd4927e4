//! Which key of a server is trusted: each row of the table that Rust, C and Erlang share, on real
//! sockets.
#![cfg(feature = "net")]

use curve_tun::connection::Options;
use curve_tun::net::{Connector, Listener, TimedServer, Timeout};
use curve_tun::registry::{FileRegistry, FirstUse, KnownServers, MemoryRegistry, Place, Refusal};
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, PublicKey};
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const SOON: Timeout = Some(Duration::from_secs(60));
const TABLE: &str = include_str!("../data/trust.txt");

/// A row's words.
struct Row([&'static str; 8]);

fn rows() -> Vec<Row> {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| Row(line.split_whitespace().collect::<Vec<_>>().try_into().expect(line))).collect()
}

/// A table with missing rows would prove less than it claims.
#[test]
fn the_table_has_every_combination() {
    let rows = rows();
    let column = |at: usize| rows.iter().map(|row| row.0[at]).collect::<BTreeSet<_>>();
    let sources = |row: &Row| (row.0[0], row.0[1]);
    let held_against = |row: &Row| (row.0[2], row.0[3]);
    let (froms, known): (BTreeSet<_>, BTreeSet<_>) =
        (rows.iter().map(sources).collect(), rows.iter().map(held_against).collect());
    let all: BTreeSet<_> = rows.iter().map(|row| (sources(row), held_against(row))).collect();
    assert_eq!((all.len(), froms.len() * known.len()), (rows.len(), rows.len()));
    assert_eq!(column(0), ["-", "other", "server"].into());
    for named in ["-", "none", "server", "other", "other,server", "server,other", "other,third"] {
        assert!(froms.contains(&("-", named)), "{named}");
    }
    for file in ["none", "server", "other", "other,server", "!server", "server,!server", "!other"] {
        for first_use in ["refuse", "once", "remember"] {
            assert!(known.contains(&(file, first_use)), "{file} {first_use}");
        }
    }
    assert!(known.contains(&("-", "-")));
    let results =
        ["ok", "no_key", "not_found", "wrong_server_key", "key_changed", "key_denied", "unknown_peer"];
    assert_eq!(column(4), results.into());
}

#[test]
fn each_row_is_so() {
    let (client, vault) =
        (Arc::new(MemoryVault::generate().unwrap()), Arc::new(MemoryVault::generate().unwrap()));
    let clients = MemoryRegistry::new();
    clients.add(Place::Anywhere, client.public_key());
    let server_key = vault.public_key();
    let server = TimedServer::new(vault, Arc::new(clients), Options::default()).unwrap();
    let listener = Arc::new(Listener::bind("127.0.0.1", 0, server).unwrap());
    let accept = listener.clone();
    let accepting = thread::spawn(move || while !matches!(accept.accept(None), Err(Error::Closed)) {});
    let port = listener.port();
    let key = |name| match name {
        "server" => server_key,
        "other" => PublicKey([9; 32]),
        "third" => PublicKey([16; 32]),
        _ => panic!("{name}"),
    };
    let entries = |words: &'static str| match words {
        "none" => String::new(),
        _ => words
            .split(',')
            .map(|word| match word.strip_prefix('!') {
                Some(denied) => format!("! {}\n", key(denied)),
                None => format!("[127.0.0.1]:{port} {}\n", key(word)),
            })
            .collect(),
    };
    for Row(words) in rows() {
        let [given, named, known, first_use, result, offered, known_by, written] = words;
        let case = words.join(" ");
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, words: &'static str| {
            let path = folder.path().join(name);
            (words != "-").then(|| fs::write(&path, entries(words)).unwrap())?;
            Some(path)
        };
        let registry = file("registry", named).map(|path| FileRegistry::open(path).unwrap());
        let known_path = file("known", known);
        let known_servers = known_path.as_ref().map(|path| KnownServers::open(path).unwrap());
        let decide = |_: &PublicKey| match first_use {
            "refuse" => FirstUse::Refuse,
            "once" => FirstUse::Once,
            "remember" => FirstUse::Remember,
            _ => panic!("{case}: nobody is to be asked"),
        };
        let mut connector = Connector::new(client.clone()).timeout(SOON);
        if given != "-" {
            connector = connector.server_key(key(given));
        }
        if let Some(registry) = &registry {
            connector = connector.server_keys(registry);
        }
        if let Some(known_servers) = &known_servers {
            connector = connector.known_servers(known_servers, decide);
        }
        let made = connector.connect_known("127.0.0.1", port);
        let expected = match result {
            "ok" => {
                let made = made.as_ref().unwrap_or_else(|refusal| panic!("{case}: {refusal}"));
                assert_eq!(made.socket.peer_key(), Ok(server_key), "{case}");
                assert_eq!(made.remembered, Ok(written != "-"), "{case}");
                None
            }
            "key_changed" => Some(Refusal::Changed { known: key(known_by), offered: key(offered) }),
            "key_denied" => Some(Refusal::Denied { offered: key(offered) }),
            "unknown_peer" => Some(Refusal::Unknown { offered: key(offered) }),
            "no_key" => Some(Refusal::Failed(Error::InvalidArgument)),
            "not_found" => Some(Refusal::Failed(Error::NotFound)),
            "wrong_server_key" => Some(Refusal::Failed(Error::WrongServerKey)),
            _ => panic!("{case}"),
        };
        assert_eq!(made.err(), expected, "{case}");
        if let Some(path) = known_path {
            let added = if written == "-" { String::new() } else { entries(written) };
            assert_eq!(fs::read_to_string(path).unwrap(), entries(known) + &added, "{case}");
        }
    }
    listener.shutdown();
    accepting.join().unwrap();
}
