//! Keys in DNS while the wall clock moves: a signature is checked against the clock at each use.
//!
//! The test runs itself again with a movable clock in place of the C library's
//! (`support/moved_clock.c`).
#![cfg(target_os = "linux")]

use crate::support::dns::{admits, family, middle, options, record, serve};
use crate::support::full_name;
use crate::support::knot::{Knot, Signed};
use crate::support::registry::keys;
use curve_tun::Error;
use curve_tun::registry::DnsRegistry;
use hickory_resolver::proto::rr::{Record, RecordType};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::time::SystemTime;

/// Set in the process whose clock moves.
const MOVING: &str = "CURVE_TUN_MOVING";
const DAY: i64 = 86_400;
const ADDRESS: &str = "192.0.2.7";

fn move_wall_clock(seconds: i64) {
    // SAFETY: the name ends with a zero.
    let it = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"move_wall_clock".as_ptr()) };
    assert!(!it.is_null(), "the clock is the system's");
    // SAFETY: support/moved_clock.c defines this function under that name.
    let it: extern "C" fn(libc::c_long) = unsafe { std::mem::transmute(it) };
    it(0);
    let before = SystemTime::now();
    it(DAY);
    let days = SystemTime::now().duration_since(before).unwrap().as_secs() / DAY.unsigned_abs();
    assert_eq!(days, 1, "the clock does not move");
    it(seconds);
}

/// A registry of `zone` that asks through a proxy which raises every TTL, and answers even after
/// Knot has ended.
fn raised(knot: &Knot, zone: &str, cache_max: usize) -> DnsRegistry {
    let raise = |record: &mut Record| record.ttl = 0x7fff_ffff;
    let server = middle(knot.address(), move |message| {
        message.answers.iter_mut().for_each(raise);
        message.authorities.iter_mut().for_each(raise);
        true
    });
    let options = options(knot).servers(vec![server]).cache_max(cache_max).ttl_max(Duration::MAX);
    DnsRegistry::open(zone, &options).unwrap()
}

/// Runs the test of this name in a process whose clock it can move, and returns whether this is
/// that process.
fn moving(test: &str) -> bool {
    if std::env::var_os(MOVING).is_some() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("moved_clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/moved_clock.c");
    let mut compiler = Command::new("cc");
    let built = compiler.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&clock).arg(source);
    assert!(built.status().unwrap().success());
    let arguments = ["--exact", &full_name(module_path!(), test), "--nocapture", "--test-threads=1"];
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(arguments).env(MOVING, "1").env("LD_PRELOAD", &clock).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    false
}

#[test]
fn a_signature_that_has_ended_or_not_begun_proves_nothing_held_or_asked_anew() {
    if !moving("a_signature_that_has_ended_or_not_begun_proves_nothing_held_or_asked_anew") {
        return;
    }
    let [key] = keys();
    for signed in [Signed::Nsec, Signed::Nsec3] {
        let knot = serve(record("7.2.0.192.in-addr", key) + &record("*.3.0.192.in-addr", key), signed);
        for cache_max in [0, 100] {
            let registry = raised(&knot, "test", cache_max);
            let wildcard = "192.0.3.7";
            let all = [ADDRESS, wildcard].map(|address| (address, Ok(true)));
            let none = [ADDRESS, wildcard].map(|address| (address, Err(Error::NotValidated)));
            // Knot signs for two weeks, and from an hour or so before now.
            let times =
                [(0, all), (13 * DAY, all), (15 * DAY, none), (60 * DAY, none), (-7 * DAY, none), (0, all)];
            for (time, expected) in times {
                move_wall_clock(time);
                for (address, expected) in expected {
                    let verdict = admits(&registry, address, key);
                    assert_eq!(verdict, expected, "{signed:?} {cache_max} {address} {}", time / DAY);
                }
            }
        }
    }
}

#[test]
fn an_answer_ends_with_the_signatures_on_the_way_to_it() {
    if !moving("an_answer_ends_with_the_signatures_on_the_way_to_it") {
        return;
    }
    let [key] = keys();
    // The child's signatures hold for two weeks, while the proof of its keys holds for a day; and
    // the reverse.
    for (parent, child) in [(Signed::Day, Signed::Nsec), (Signed::Nsec3, Signed::Day)] {
        let knot = family("child.test", (String::new(), parent), (record("7.2.0.192.in-addr", key), child));
        for cache_max in [0, 100] {
            let registry = raised(&knot, "child.test", cache_max);
            for (time, expected) in [(0, Ok(true)), (2 * DAY, Err(Error::NotValidated)), (0, Ok(true))] {
                move_wall_clock(time);
                assert_eq!(
                    admits(&registry, ADDRESS, key),
                    expected,
                    "{parent:?} {cache_max} {}",
                    time / DAY
                );
            }
        }
    }
}

#[test]
fn a_held_answer_ends_with_its_ttl_by_the_wall_clock_too() {
    if !moving("a_held_answer_ends_with_its_ttl_by_the_wall_clock_too") {
        return;
    }
    let [key] = keys();
    const HOUR: i64 = 3600;
    let knot = serve(format!("7.2.0.192.in-addr 7200 TXT \"v=ct1; k={key}\"\n"), Signed::Nsec);
    for (ttl_max, ttl) in [(9999, 2 * HOUR), (3600, HOUR)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let server = middle(knot.address(), move |message| {
            counted
                .fetch_add(usize::from(message.queries[0].query_type() == RecordType::TXT), Ordering::SeqCst);
            true
        });
        let options = options(&knot).servers(vec![server]).ttl_max(Duration::from_secs(ttl_max));
        let registry = DnsRegistry::open("test", &options).unwrap();
        // As if the machine had been suspended meanwhile.
        for (time, expected) in [(0, 1), (ttl / 2, 1), (ttl + 1, 2), (ttl + ttl / 2, 2), (3 * ttl, 3)] {
            move_wall_clock(time);
            assert_eq!(admits(&registry, ADDRESS, key), Ok(true));
            assert_eq!(asked.load(Ordering::SeqCst), expected, "{ttl_max} {time}");
        }
    }
}
