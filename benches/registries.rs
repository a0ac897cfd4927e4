//! A million entries: how long it takes to load them, to decide by them, and to change them. Prints
//! a table.

use curve_tun::PublicKey;
use curve_tun::registry::{Candidate, Entry, FileRegistry, MemoryRegistry, Place, Registry, Subject};
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

const ENTRIES: u32 = 1_000_000;
const DECISIONS: u32 = 1_000_000;

/// Scatters numbers, so that entries come in no order.
fn mix(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_761)
}

fn key(number: u32) -> PublicKey {
    let mut bytes = [0; 32];
    bytes.chunks_exact_mut(4).for_each(|part| part.copy_from_slice(&mix(number).to_be_bytes()));
    PublicKey(bytes)
}

/// Returns mostly addresses, with an occasional network of some length.
fn entry(number: u32) -> (Place, PublicKey) {
    let address = Ipv4Addr::from(mix(number) >> 1);
    let place = match number % 16 {
        0 => format!("{}/24", Ipv4Addr::from(address.to_bits() & !0xff)).parse().unwrap(),
        1 => format!("{}/20", Ipv4Addr::from(address.to_bits() & !0xfff)).parse().unwrap(),
        _ => IpAddr::V4(address).into(),
    };
    (place, key(number))
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = run();
    print_row(what, begin.elapsed());
    result
}

fn print_row(what: &str, time: Duration) {
    println!("{what:<44} {time:>12.3?}");
}

fn decide(what: &str, registry: &dyn Registry, candidate: impl Fn(u32) -> Candidate) {
    let begin = Instant::now();
    for number in 0..DECISIONS {
        black_box(registry.verify(&candidate(number)).unwrap());
    }
    print_row(what, begin.elapsed() / DECISIONS);
}

fn known(number: u32) -> Candidate {
    Candidate::new(IpAddr::V4(Ipv4Addr::from(mix(number) >> 1)), key(number))
}

fn unknown(number: u32) -> Candidate {
    Candidate::new(IpAddr::V4(Ipv4Addr::from(mix(number) | 1 << 31)), key(number))
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peers");
    let mut file = BufWriter::new(std::fs::File::create(&path).unwrap());
    for (place, key) in (0..ENTRIES).map(entry) {
        writeln!(file, "{place} {key} a comment").unwrap();
    }
    drop(file);
    println!("{ENTRIES} entries");
    let memory: MemoryRegistry = timed("memory: built at once", || (0..ENTRIES).map(entry).collect());
    drop(memory);
    let memory = MemoryRegistry::new();
    timed("memory: added one by one", || {
        (0..ENTRIES).map(entry).for_each(|(place, key)| memory.add(place, key))
    });
    decide("memory: a decision, address known", &memory, known);
    decide("memory: a decision, address unknown", &memory, unknown);
    drop(memory);
    let registry = timed("file: opened", || FileRegistry::open(&path).unwrap());
    std::thread::sleep(Duration::from_millis(100));
    registry.reload().unwrap();
    decide("file: a decision, address known", &registry, known);
    decide("file: a decision, address unknown", &registry, unknown);
    let (place, key) = (Place::Anywhere, key(ENTRIES));
    let entry = Entry { subject: Subject::Client(place), key, comment: String::new() };
    timed("file: an entry added, written and read", || registry.add(&entry).unwrap());
}
