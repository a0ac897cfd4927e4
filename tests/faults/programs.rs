//! The programs whose system calls fail: each does everything that its part of the crate does with
//! the system. Every failure is reported, and the call made again; in the second round nothing
//! fails.

use super::strace::{BEGIN, END, SAYS, wait_for_strace};
use crate::support::providers::LaterVault;
use curve_tun::connection::Options;
use curve_tun::net::{Connector, Listener, Socket, TimedServer, Timeout};
use curve_tun::registry::{
    Candidate, DnsOptions, DnsRegistry, Entry, FileRegistry, MemoryRegistry, Place, Registry, Subject,
};
use curve_tun::vault::{Agent, AgentVault, Cost, FileVault, MemoryVault, Purpose, Vault};
use curve_tun::{Error, PublicKey, Result};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fs::ReadDir;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const SOON: Timeout = Some(PATIENCE);
/// After this time a registry's unchanged file is not read again.
const SETTLED: Duration = Duration::from_millis(60);
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const KEY: PublicKey = PublicKey([9; 32]);
/// The long-term secrets of the two ends.
pub const SERVER: [u8; 32] = [1; 32];
pub const CLIENT: [u8; 32] = [2; 32];

/// Whether system calls currently count.
static COUNTING: AtomicBool = AtomicBool::new(false);

fn count(counting: bool) {
    COUNTING.store(counting, Ordering::Relaxed);
    // A marker among the system calls.
    assert!(!Path::new(if counting { BEGIN } else { END }).exists());
}

/// Does work of the test program itself, whose system calls do not count: on an unwatched thread.
fn aside<T: Send>(own: impl FnOnce() -> T + Send) -> T {
    let counting = COUNTING.load(Ordering::Relaxed);
    if counting {
        count(false);
    }
    let done = std::thread::scope(|scope| scope.spawn(own).join().unwrap());
    if counting {
        count(true);
    }
    done
}

/// Sends a line to the test.
fn say(line: &str) {
    aside(|| println!("\n{SAYS}{line}"));
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Fails unless there are as many descriptors as before, once ending threads have given theirs
/// back: a thread that has answered a question holds its listener's for a moment longer.
fn assert_descriptors(before: usize) {
    let end = Instant::now() + PATIENCE;
    while descriptors() != before {
        assert!(Instant::now() < end, "{} descriptors, and {before} before", descriptors());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `round` twice, the first time with its system calls counted; it must give back every
/// descriptor.
pub fn rounds(mut round: impl FnMut(usize)) {
    // Objects made once in a process are made before.
    drop(MemoryVault::generate().unwrap());
    let before = descriptors();
    count(true);
    round(0);
    count(false);
    assert_descriptors(before);
    round(1);
    assert_descriptors(before);
}

/// Returns the result of `call`, repeated if the first try fails.
fn once_more<T>(name: &str, mut call: impl FnMut() -> Result<T>) -> T {
    call().unwrap_or_else(|error| {
        say(&format!("{name}: {}", error.name()));
        call().unwrap_or_else(|error| panic!("{name}, again: {error}"))
    })
}

pub fn seal(vault: &dyn Vault) -> Result<[u8; 16]> {
    vault.box_seal(Purpose::Vouch, &KEY, &[0; 32], &mut [0; 48])
}

pub fn file_vault(folder: &Path) {
    rounds(|round| {
        let path = folder.join(format!("vault-{round}"));
        let made = once_more("create", || {
            let made = FileVault::create(&path, None, Cost::default());
            assert_eq!(aside(|| path.exists()), made.is_ok(), "half a vault is left");
            made
        });
        let key = made.public_key();
        drop(made);
        let mut counters = Vec::new();
        for _ in 0..2 {
            let vault = once_more("open", || FileVault::open(&path, None));
            for _ in 0..2 {
                let nonce = once_more("seal", || seal(&vault));
                counters.push(vault.counter_in(&nonce));
            }
            assert_eq!(once_more("inspect", || FileVault::inspect(&path)).public_key, key);
            assert_eq!(vault.public_key(), key);
        }
        assert!(counters.is_sorted_by(|a, b| a < b), "a counter twice: {counters:?}");
    });
}

pub fn agent(folder: &Path) {
    let socket = folder.join("socket");
    let vault = Arc::new(MemoryVault::from_secret(&SERVER).unwrap());
    rounds(|round| {
        let agent = once_more("bind", || Agent::bind(&socket, vault.clone()));
        say(&format!("round {round}"));
        // A byte arrives at the end of each round.
        once_more("run", || agent.run(std::io::stdin().as_fd()));
        aside(|| std::io::stdin().read_exact(&mut [0]).unwrap());
        drop(agent);
        // A socket that could not be removed does no harm.
        aside(|| assert!(!socket.exists() || round == 0, "the socket is left"));
    });
}

pub fn agent_vault(folder: &Path) {
    let socket = folder.join("socket");
    rounds(|_| {
        let vault = once_more("open", || AgentVault::open_with_timeout(&socket, PATIENCE));
        let mut nonces = Vec::new();
        for _ in 0..3 {
            nonces.push(once_more("seal", || seal(&vault)));
        }
        nonces.sort_unstable();
        nonces.dedup();
        assert_eq!(nonces.len(), 3);
    });
}

pub fn registry_file(folder: &Path) {
    changes_of_a_registry_file(folder, false);
}

/// A file with a second name cannot be replaced.
pub fn registry_file_in_place(folder: &Path) {
    changes_of_a_registry_file(folder, true);
}

fn changes_of_a_registry_file(folder: &Path, linked: bool) {
    let entry = |n| Entry {
        subject: Subject::Client(Place::Anywhere),
        key: PublicKey([n; 32]),
        comment: String::new(),
    };
    rounds(|round| {
        let path = folder.join(format!("registry-{round}"));
        let registry = once_more("open", || FileRegistry::open_or_create(&path).map_err(|e| e.error()));
        if linked {
            aside(|| std::fs::hard_link(&path, path.with_extension("other")).unwrap());
        }
        once_more("add", || registry.add(&entry(1)).map_err(|e| e.error()));
        let admits = |n| registry.verify(&Candidate::new(HOME, PublicKey([n; 32]))).unwrap();
        let check = |expected: &[u8]| {
            // A file that could not be checked counts as it was at the last check; the next check
            // sees its current state.
            if COUNTING.load(Ordering::Relaxed) {
                std::thread::sleep(SETTLED);
            }
            admits(0);
            aside(|| {
                let admitted: Vec<u8> = (0..4).filter(|n| admits(*n)).collect();
                assert_eq!(admitted, expected);
                assert_eq!(registry.problem(), None);
            });
        };
        check(&[1]);
        // Another writer, which writes in place.
        aside(|| std::fs::write(&path, format!("{}\n{}\n", entry(1), entry(2))).unwrap());
        check(&[1, 2]);
        let gone = |error| {
            let there = aside(|| std::fs::read_to_string(&path).unwrap().contains(&entry(1).to_string()));
            if there { Err(error) } else { Ok(()) }
        };
        once_more("remove", || {
            registry.remove(&entry(1).subject, &entry(1).key).map_err(|e| e.error()).or_else(|error| {
                say(&format!("remove: {}", error.name()));
                gone(error)
            })
        });
        check(&[2]);
        if linked {
            let [one, other] = [&path, &path.with_extension("other")];
            aside(|| assert_eq!(std::fs::read(one).unwrap(), std::fs::read(other).unwrap()));
        }
        let others = ["strace", "registry-0", "registry-0.lock", "registry-1", "registry-1.lock"];
        let others =
            others.into_iter().chain(["registry-0.other", "registry-1.other"].into_iter().filter(|_| linked));
        let names = |entries: ReadDir| entries.map(|entry| entry.unwrap().file_name()).collect();
        let left: Vec<OsString> = aside(|| names(std::fs::read_dir(folder).unwrap()));
        let odd: Vec<_> = left.iter().filter(|name| others.clone().all(|other| *name != other)).collect();
        assert!(odd.is_empty(), "left behind: {odd:?}");
    });
}

/// The entry of HOME in the zone.
pub fn dns_record() -> String {
    format!("7.2.0.192.in-addr TXT \"v=ct1; k={KEY}\"\n")
}

/// Questions to DNS: the failing system calls are those of the registry's own thread.
pub fn dns_registry(folder: &Path) {
    let file = |name| std::fs::read_to_string(folder.join(name)).unwrap();
    let options = DnsOptions::default()
        .servers(vec![file("server").parse().unwrap()])
        .trust_anchors(Some(file("anchors")))
        .timeout(Duration::from_millis(3_000))
        .cache_max(0);
    let before = descriptors();
    let registry = DnsRegistry::open("test", &options).unwrap();
    wait_for_strace(thread_named("curve_tun-dns"));
    for _ in 0..2 {
        let admits = |key| registry.verify(&Candidate::new(HOME, key));
        assert!(once_more("verify", || admits(KEY)), "the key that is there");
        assert!(!once_more("verify", || admits(PublicKey([1; 32]))), "another one");
    }
    drop(registry);
    assert_descriptors(before);
}

fn thread_named(name: &str) -> Pid {
    // The thread sets its name a moment after it has started.
    loop {
        for task in std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap()) {
            if std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name) {
                return Pid::from_raw(task.file_name().to_str().unwrap().parse().unwrap());
            }
        }
    }
}

/// Returns the messages of a conversation: each is sent, and echoed.
fn messages() -> Vec<Vec<u8>> {
    vec![b"one".to_vec(), vec![2; 60_000], Vec::new(), vec![4; 65_503]]
}

/// The client's part, with a vault that answers later, like the server's. Returns which call
/// failed, if any did.
pub fn converse(port: u16) -> std::result::Result<(), (&'static str, Error)> {
    let at = |name| move |error| (name, error);
    let vault = Arc::new(LaterVault(MemoryVault::from_secret(&CLIENT).unwrap()));
    let server_key = MemoryVault::from_secret(&SERVER).unwrap().public_key();
    let socket = Connector::new(vault).server_key(server_key).timeout(SOON).connect("localhost", port);
    let socket = socket.map_err(at("connect"))?;
    for message in messages() {
        socket.send(&message, SOON).map_err(at("send"))?;
        let mut echo = vec![0; 65_503];
        let len = socket.recv(&mut echo, SOON).map_err(at("recv"))?;
        assert!(echo[..len] == message[..], "another message than was sent");
    }
    Ok(())
}

pub fn server() -> Result<Arc<TimedServer>> {
    let registry = Arc::new(MemoryRegistry::new());
    registry.add_anywhere(MemoryVault::from_secret(&CLIENT)?.public_key());
    let vault = Arc::new(LaterVault(MemoryVault::from_secret(&SERVER)?));
    TimedServer::new(vault, registry, Options::default())
}

/// The server's part on one connection. Returns whether it was a whole conversation, and which call
/// failed, if any did.
pub fn echo(socket: &Socket) -> (bool, Option<(&'static str, Error)>) {
    let mut buffer = vec![0; 65_503];
    for message in messages() {
        match socket.recv(&mut buffer, SOON) {
            Ok(len) => assert!(buffer[..len] == message[..], "another message than was sent"),
            Err(error) => return (false, Some(("recv", error))),
        }
        if let Err(error) = socket.send(&message, SOON) {
            return (false, Some(("send", error)));
        }
    }
    match socket.recv(&mut buffer, SOON) {
        Err(Error::Closed) => (true, None),
        Err(error) => (true, Some(("recv", error))),
        Ok(_) => panic!("a message that was not sent"),
    }
}

pub fn client(folder: &Path) {
    let port = std::fs::read_to_string(folder.join("port")).unwrap().parse().unwrap();
    rounds(|_| {
        let Err((name, error)) = converse(port) else { return };
        say(&format!("{name}: {}", error.name()));
        converse(port).unwrap_or_else(|(name, error)| panic!("{name}, again: {error}"));
    });
}

pub fn listener(_: &Path) {
    rounds(|_| {
        let server = once_more("server", server);
        let listener = once_more("bind", || Listener::bind("127.0.0.1", 0, server.clone()));
        say(&format!("port {}", listener.port()));
        let mut whole = false;
        while !whole {
            let socket = once_more("accept", || listener.accept(SOON));
            let failure;
            (whole, failure) = echo(&socket);
            if let Some((name, error)) = failure {
                say(&format!("{name}: {}", error.name()));
            }
        }
    });
}
