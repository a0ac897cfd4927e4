//! A registry file of any content: errors are reported where they are, and a change keeps every
//! other line.
#![no_main]

use curve_tun::PublicKey;
use curve_tun::registry::{
    Candidate, Entry, FileRegistry, MemoryRegistry, Place, Registry, RegistryFileError, ServerKeys, Subject,
};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

const KEY: PublicKey = PublicKey([7; 32]);
const LINE_MAX: usize = 4096;

/// Returns the entries of the file, or what is wrong with it.
fn entries(path: &Path) -> Result<Vec<Entry>, RegistryFileError> {
    let mut entries = Vec::new();
    FileRegistry::each_entry(path, |entry| entries.push(entry)).map(|()| entries)
}

/// Returns the lines of the file without their ends, as the grammar of docs/REGISTRIES.md counts
/// them.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    lines.pop_if(|last| last.is_empty());
    lines
}

fn joined(lines: &[&[u8]]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect()
}

/// Checks that the file decides like a registry in memory with the same entries.
fn decisions(registry: &FileRegistry, entries: &[Entry]) {
    let memory = MemoryRegistry::new();
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))];
    for entry in entries {
        if let Subject::Client(place) = entry.subject {
            memory.add(place, entry.key);
            if let Place::Network(network) = place {
                let text = network.to_string();
                let (address, _) = text.split_once('/').unwrap_or((&text, ""));
                addresses.push(address.parse().unwrap());
            }
        }
    }
    addresses.truncate(16);
    for address in addresses {
        let (mut ours, mut theirs) = (registry.lookup(address), memory.lookup(address));
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs);
        for key in entries.iter().take(16).map(|entry| entry.key).chain([KEY]) {
            let candidate = Candidate::new(address, key);
            assert_eq!(registry.verify(&candidate), memory.verify(&candidate));
        }
    }
    for entry in entries.iter().take(16) {
        let Subject::Server(name) = &entry.subject else { continue };
        let denied = |key: &PublicKey| {
            entries.iter().any(|entry| entry.subject == Subject::Client(Place::Nowhere) && entry.key == *key)
        };
        let of_server = entries.iter().filter(|other| other.subject == entry.subject).map(|other| other.key);
        let expected: Vec<_> = of_server.filter(|key| !denied(key)).collect();
        assert_eq!(registry.server_keys(name, None).unwrap_or_default(), expected);
    }
}

/// Adds and removes an entry of each kind.
fn changes(path: &Path, registry: &FileRegistry, entries: &[Entry], text: &[u8]) {
    let subject = entries.first().map_or(Subject::Client(Place::Anywhere), |entry| entry.subject.clone());
    let new = Entry { subject, key: KEY, comment: "added".into() };
    let there = entries.iter().any(|entry| entry.subject == new.subject && entry.key == new.key);
    assert_eq!(registry.add(&new), Ok(!there));
    let kept =
        if there { text.to_vec() } else { [joined(&lines(text)), format!("{new}\n").into_bytes()].concat() };
    assert!(fs::read(path).unwrap() == kept, "another line has changed");
    assert_eq!(registry.add(&new), Ok(false));

    registry.remove(&new.subject, &new.key).unwrap();
    let others: Vec<_> = entries
        .iter()
        .filter(|entry| (&entry.subject, entry.key) != (&new.subject, new.key))
        .cloned()
        .collect();
    assert_eq!(self::entries(path).unwrap(), others);
    if !there {
        assert!(fs::read(path).unwrap() == joined(&lines(text)));
    }
    registry.remove(&new.subject, &new.key).unwrap_err();
    assert_eq!(registry.problem(), None);
}

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("registry");
    fs::write(&path, text).unwrap();
    let found = entries(&path);
    match (FileRegistry::open(&path), found) {
        (Ok(registry), Ok(entries)) => {
            decisions(&registry, &entries);
            changes(&path, &registry, &entries, text);
            // An entry as written is read back as the same entry.
            let written: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
            fs::write(&path, written).unwrap();
            assert_eq!(self::entries(&path), Ok(entries));
        }
        (Err(error), Err(again)) => {
            assert_eq!(error, again);
            let RegistryFileError::Malformed(place) = error else { panic!("{error}") };
            let (lines, number) = (lines(text), place.line as usize);
            let line = lines[number - 1];
            assert!((1..=line.len().min(LINE_MAX) as u64 + 1).contains(&place.column), "{place}");
            // The lines before it are valid, and it is invalid by itself.
            fs::write(&path, joined(&lines[..number - 1])).unwrap();
            assert!(self::entries(&path).is_ok(), "{place}");
            fs::write(&path, line).unwrap();
            let Err(RegistryFileError::Malformed(alone)) = self::entries(&path) else { panic!("{place}") };
            assert_eq!((alone.line, alone.column, alone.problem), (1, place.column, place.problem));
        }
        (opened, read) => panic!("{:?} opened, {read:?} read", opened.map(drop)),
    }
});
