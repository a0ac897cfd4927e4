//! A wall clock that jumps a day forward and back changes nothing: a server, its minute keys and
//! its tunnels use only the monotonic clock.
//!
//! The test runs itself again with a replaced clock of the C library (`support/wrong_clock.c`).
#![cfg(target_os = "linux")]

use crate::support::full_name;
use curve_tun::connection::Options;
use curve_tun::net::{Connector, Listener, TimedServer, Timeout};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{MemoryVault, Vault};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

/// Set in the process whose clock jumps.
const LEAPING: &str = "CURVE_TUN_LEAPING";
const SOON: Timeout = Some(Duration::from_secs(60));
const DAY: Duration = Duration::from_secs(86_400);

/// Returns how often this process has read the wall clock.
fn looks() -> u32 {
    // SAFETY: the name ends with a zero.
    let looks = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"wall_clock_looks".as_ptr()) };
    assert!(!looks.is_null(), "the clock is the system's");
    // SAFETY: support/wrong_clock.c defines this function under that name.
    let looks: extern "C" fn() -> u32 = unsafe { std::mem::transmute(looks) };
    looks()
}

fn tunnels() {
    let (vault, client) =
        (Arc::new(MemoryVault::generate().unwrap()), Arc::new(MemoryVault::generate().unwrap()));
    let registry = Arc::new(MemoryRegistry::new());
    registry.add_anywhere(client.public_key());
    let server = TimedServer::new(vault.clone(), registry, Options::default()).unwrap();
    let listener = Listener::bind("127.0.0.1", 0, server).unwrap();
    for _ in 0..3 {
        let connect = || {
            let (key, options) = (vault.public_key(), Options::default());
            Connector::new(client.clone())
                .server_key(key)
                .options(options.clone())
                .timeout(SOON)
                .connect("127.0.0.1", listener.port())
                .unwrap()
        };
        let (ours, theirs) = thread::scope(|scope| {
            let theirs = scope.spawn(connect);
            (listener.accept(SOON).unwrap(), theirs.join().unwrap())
        });
        theirs.send(b"on time", SOON).unwrap();
        assert_eq!(ours.recv(&mut [0; 16], SOON), Ok(7));
        assert_eq!(theirs.recv(&mut [0; 1], Some(Duration::from_millis(5))), Err(curve_tun::Error::Timeout));
    }
}

#[test]
fn nothing_looks_at_a_wall_clock_that_leaps() {
    if std::env::var_os(LEAPING).is_some() {
        let (ahead, behind) = (SystemTime::now(), SystemTime::now());
        assert!(ahead.duration_since(behind).unwrap() > DAY, "the clock does not leap");
        let before = looks();
        assert!(before >= 2);
        tunnels();
        assert_eq!(looks(), before);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("wrong_clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/wrong_clock.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .arg(&clock)
        .arg(source)
        .status();
    assert!(built.unwrap().success());
    let test = full_name(module_path!(), "nothing_looks_at_a_wall_clock_that_leaps");
    let arguments = ["--exact", &test, "--nocapture", "--test-threads=1"];
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(arguments).env(LEAPING, "1").env("LD_PRELOAD", &clock).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
