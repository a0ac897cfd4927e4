//! No crash repeats a counter: processes that hand out nonces are killed at random times and in
//! each of their system calls, and system calls fail.

use crate::nonce_giver;
use crate::support::agent;
use crate::support::agent::AgentProcess;
use curve_tun::vault::{AgentVault, Cost, FileVault, Purpose, STEP, Vault};
use curve_tun::{Error, PublicKey};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const KILLS: u64 = 500;

/// A file vault, and the nonces that processes have drawn from it.
struct Ledger {
    folder: TempDir,
    path: PathBuf,
    given: Vec<[u8; 16]>,
}

impl Ledger {
    fn new() -> Ledger {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault");
        FileVault::create(&path, None, Cost::default()).unwrap();
        Ledger { folder, path, given: Vec::new() }
    }

    fn note(&mut self, bytes: &[u8]) {
        self.given.extend(bytes.chunks_exact(16).map(|nonce| <[u8; 16]>::try_from(nonce).unwrap()));
    }

    /// A run without accident.
    fn run(&mut self) {
        let output = output(&mut nonce_giver::command(None, &self.path, Some("1")));
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 48));
        self.note(&output.stdout);
    }

    /// A run under strace, whose output is returned.
    fn run_with(&mut self, strace: &[&str], rounds: &str) -> Output {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq"]).args(strace);
        let output = output(&mut nonce_giver::command(Some(command), &self.path, Some(rounds)));
        self.note(&output.stdout);
        output
    }

    /// Waits until no process has the vault open: a killed one may take a moment to end.
    fn wait_until_free(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        while FileVault::open(&self.path, None).err() == Some(Error::VaultInUse) {
            assert!(Instant::now() < end, "a process that was killed has the vault open");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns the counters drawn; each differs from all others.
    fn check(&self) -> Vec<u64> {
        let vault = FileVault::open(&self.path, None).unwrap();
        let counters: Vec<u64> = self.given.iter().map(|nonce| vault.counter_in(nonce)).collect();
        let mut sorted = counters.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]), "a counter was given twice");
        // The next one is above all of them.
        let mut sealed = [0; 16];
        let next = vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut sealed).unwrap();
        assert!(sorted.last().is_none_or(|last| vault.counter_in(&next) > *last));
        counters
    }
}

/// Returns the output of a process that draws nonces: its standard output holds only these.
fn output(giver: &mut Command) -> Output {
    let mut output = giver.output().expect("strace, from the package of that name");
    output.stdout = nonce_giver::nonces(&output.stdout).to_vec();
    output
}

/// A moment that differs from round to round.
fn moment(round: u64) -> Duration {
    Duration::from_micros(round * 7919 % 15_000)
}

#[test]
fn a_file_vaults_process_killed_five_hundred_times_repeats_no_counter() {
    let mut ledger = Ledger::new();
    for round in 0..KILLS {
        let mut giver = nonce_giver::command(None, &ledger.path, None);
        let mut giver = giver.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (mut stdout, mut said) = (giver.stdout.take().unwrap(), Vec::new());
        // Every other one is killed at its start, or where it got to on a busy machine.
        while round % 2 == 1 && nonce_giver::nonces(&said).len() < 16 {
            let mut piece = [0; 512];
            let count = stdout.read(&mut piece).unwrap();
            assert!(count > 0, "it ended before it gave anything");
            said.extend_from_slice(&piece[..count]);
        }
        thread::sleep(moment(round));
        giver.kill().unwrap();
        stdout.read_to_end(&mut said).unwrap();
        assert_eq!(giver.wait().unwrap().code(), None, "it ran until it was killed");
        ledger.note(nonce_giver::nonces(&said));
    }
    let counters = ledger.check();
    assert!(counters.len() as u64 >= KILLS / 2, "{} nonces are too few to tell", counters.len());
    let steps = counters.iter().max().unwrap() / STEP;
    println!("{} nonces over {steps} bounds, none twice", counters.len());
}

#[test]
fn an_agent_killed_five_hundred_times_repeats_no_counter_and_its_clients_see_no_error() {
    let mut ledger = Ledger::new();
    let socket = ledger.folder.path().join("socket");
    let first = AgentProcess::start(&ledger.path, &socket);
    let vault = AgentVault::open_with_timeout(&socket, Duration::from_secs(60)).unwrap();
    let (done, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let draw = || {
        let mut drawn = Vec::new();
        while !done.load(Ordering::Relaxed) {
            drawn.push(vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16]).unwrap());
            count.fetch_add(1, Ordering::Relaxed);
        }
        drawn
    };
    let drawn = thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(draw));
        first.kill();
        for round in 0..KILLS {
            let before = count.load(Ordering::Relaxed);
            let agent = AgentProcess::spawn(&ledger.path, &socket);
            let end = Instant::now() + Duration::from_secs(60);
            // Those between are killed at their start, or where they got to on a busy machine.
            while round % 10 == 1 && count.load(Ordering::Relaxed) == before {
                assert!(Instant::now() < end, "nobody gets anything from an agent that runs");
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(moment(round));
            agent.kill();
        }
        let _last = AgentProcess::start(&ledger.path, &socket);
        done.store(true, Ordering::Relaxed);
        threads.map(|thread| thread.join().unwrap()).concat()
    });
    ledger.given.extend(drawn);
    let counters = ledger.check();
    assert!(counters.len() as u64 >= KILLS / 10, "{} nonces are too few to tell", counters.len());
    println!("{} nonces, none twice", counters.len());
}

/// Returns the system calls of a run, in order, from the opening of the vault on: each with its
/// index among those of its name.
fn system_calls(ledger: &mut Ledger) -> Vec<(String, usize)> {
    let log = ledger.folder.path().join("log");
    let traced = ledger.run_with(&["-o", log.to_str().unwrap()], "1");
    assert_eq!((traced.status.code(), traced.stdout.len()), (Some(0), 48));
    calls_in(&log)
}

/// The same from strace's log.
fn calls_in(log: &Path) -> Vec<(String, usize)> {
    let log = fs::read_to_string(log).unwrap();
    let mut seen = HashMap::new();
    let mut calls = Vec::new();
    let mut of_vault = false;
    for line in log.lines() {
        // "PID name(arguments) = result"
        let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
        let Some((name, arguments)) = call.split_once('(') else { continue };
        let number = seen.entry(name.to_owned()).and_modify(|n| *n += 1).or_insert(1);
        of_vault |= name == "openat" && arguments.contains("/vault\"");
        if of_vault {
            calls.push((name.to_owned(), *number));
        }
    }
    calls
}

#[test]
fn a_process_killed_in_each_of_its_system_calls_repeats_no_counter() {
    let mut ledger = Ledger::new();
    let calls = system_calls(&mut ledger);
    let of_bound = |name: &str| calls.iter().filter(|(call, _)| call == name).count();
    assert!(of_bound("pwrite64") == 2 && of_bound("fdatasync") == 2 && of_bound("write") == 3, "{calls:?}");
    for (name, number) in &calls {
        let inject = format!("inject={name}:signal=KILL:when={number}");
        ledger.run_with(&["-o", "/dev/null", "-e", &inject], "1");
        ledger.run();
    }
    assert!(ledger.check().len() >= 3 * calls.len());
}

/// An agent under strace, in a process group of its own; killed when dropped.
struct TracedAgent {
    strace: Child,
    listens: bool,
}

impl TracedAgent {
    /// Starts it; returns once it listens or has ended.
    fn start(ledger: &Ledger, socket: &Path, strace: &[&str]) -> TracedAgent {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq"]).args(strace).arg(agent::TOOL).args(["agent", "--vault"]);
        command.arg(&ledger.path).arg("--socket").arg(socket).process_group(0);
        let mut strace = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(strace.stdout.take().unwrap());
        while !line.starts_with("listening on ") {
            line.clear();
            if out.read_line(&mut line).unwrap() == 0 {
                return TracedAgent { strace, listens: false };
            }
        }
        TracedAgent { strace, listens: true }
    }

    /// Draws a nonce, if it lives long enough.
    fn draw(&self, socket: &Path, timeout: Duration) -> Option<[u8; 16]> {
        let vault = self.listens.then(|| AgentVault::open_with_timeout(socket, timeout).ok()).flatten()?;
        vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16]).ok()
    }
}

impl Drop for TracedAgent {
    fn drop(&mut self) {
        // Both may have ended already.
        let group = Pid::from_raw(i32::try_from(self.strace.id()).unwrap());
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.strace.wait();
    }
}

#[test]
fn an_agent_killed_in_each_of_its_system_calls_repeats_no_counter() {
    let mut ledger = Ledger::new();
    let (socket, log) = (ledger.folder.path().join("socket"), ledger.folder.path().join("log"));
    let patient = Duration::from_secs(60);
    let first = TracedAgent::start(&ledger, &socket, &["-o", log.to_str().unwrap()]);
    ledger.given.push(first.draw(&socket, patient).unwrap());
    drop(first);
    ledger.wait_until_free();
    let calls = calls_in(&log);
    let of_bound = |name: &str| calls.iter().filter(|(call, _)| call == name).count();
    assert!(of_bound("pwrite64") == 2 && of_bound("fdatasync") == 2, "{calls:?}");
    for (name, number) in &calls {
        let inject = format!("inject={name}:signal=KILL:when={number}");
        let killed = TracedAgent::start(&ledger, &socket, &["-o", "/dev/null", "-e", &inject]);
        ledger.given.extend(killed.draw(&socket, Duration::from_millis(300)));
        drop(killed);
        ledger.wait_until_free();
        let agent = AgentProcess::start(&ledger.path, &socket);
        let vault = AgentVault::open_with_timeout(&socket, patient).unwrap();
        let sealed = vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16]);
        ledger.given.push(sealed.unwrap());
        agent.kill();
        ledger.wait_until_free();
    }
    assert!(ledger.check().len() > calls.len());
}

#[test]
fn a_bound_that_does_not_reach_the_disk_gives_no_nonce() {
    let mut ledger = Ledger::new();
    for (call, errno, error) in [
        ("pwrite64", "ENOSPC", Error::DiskFull),
        ("pwrite64", "EDQUOT", Error::DiskFull),
        ("pwrite64", "EROFS", Error::ReadOnly),
        ("pwrite64", "EIO", Error::Io),
        ("fdatasync", "ENOSPC", Error::DiskFull),
        ("fdatasync", "EIO", Error::Io),
    ] {
        let always = format!("inject={call}:error={errno}");
        let output = ledger.run_with(&["-o", "/dev/null", "-e", &always], "1");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(error.code()), 0), "{call}: {errno}");
        // Only once: the same vault continues when the disk does.
        let once = format!("{always}:when=1");
        let output = ledger.run_with(&["-o", "/dev/null", "-e", &once], "2");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(error.code()), 80), "{call}: {errno}");
        ledger.run();
    }
    ledger.check();
}

#[test]
fn a_write_of_the_bound_that_never_happened_is_no_bound() {
    let mut ledger = Ledger::new();
    for _ in 0..3 {
        // The system claims that all or part was written, and loses it.
        for lie in ["pwrite64:retval=4096", "pwrite64:retval=7:when=1", "fdatasync:retval=0"] {
            ledger.run_with(&["-o", "/dev/null", "-e", &format!("inject={lie}:signal=KILL:when=1")], "1");
            ledger.run();
        }
    }
    ledger.check();
}

#[test]
fn a_file_system_that_turned_read_only_is_said_so() {
    let mut ledger = Ledger::new();
    let path = ledger.path.to_str().unwrap().to_owned();
    let output = ledger.run_with(&["-o", "/dev/null", "-P", &path, "-e", "inject=openat:error=EROFS"], "1");
    assert_eq!(output.status.code(), Some(Error::ReadOnly.code()));
    ledger.run();
    ledger.check();
}
