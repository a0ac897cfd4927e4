//! Each system call of the file vault, the agent and its clients, the registries in a file and in
//! DNS, and `net` fails once in each place: the error names the failure, nothing is lost or left
//! behind, and the same call made again succeeds.
//!
//! The tests run themselves again, as programs under strace.
#![cfg(target_os = "linux")]

mod programs;
mod strace;

#[path = "../support/mod.rs"]
mod support;

use curve_tun::Error;
use curve_tun::net::Listener;
use curve_tun::vault::{Agent, AgentVault, MemoryVault};
use programs::{PATIENCE, SOON};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use strace::{FOLDER, Place, Program, errnos, places, wait_for_strace};
use support::knot::{Knot, Signed, Zone};

/// Returns the errors by which a failure with this errno may be reported.
fn meaning(errno: &str) -> &'static [Error] {
    match errno {
        "EMFILE" => &[Error::TooManyFiles],
        "EACCES" => &[Error::PermissionDenied],
        "ENOSPC" => &[Error::DiskFull],
        "ECONNRESET" => &[Error::Closed],
        "EAGAIN" => &[Error::TooManyThreads],
        "ENOBUFS" | "ENOMEM" => &[Error::NoBuffers],
        "EIO" => &[Error::Io],
        // An interrupted call is restarted, and not reported.
        "EINTR" => &[],
        _ => unreachable!("{errno}"),
    }
}

/// How many programs run at once; they mostly wait.
const AT_ONCE: usize = 4;

/// Prints the injected failure if its test fails.
struct Case<'a>(&'a str);

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("when {}", self.0);
        }
    }
}

/// The outcomes of the faults.
#[derive(Default)]
struct Seen {
    /// How many were met, by system call.
    met: BTreeMap<String, usize>,
    /// Faults whose system call was not made in that run.
    missed: Vec<String>,
    /// Faults that did harm, or were reported as something else.
    wrong: Vec<String>,
}

impl Seen {
    fn and(mut self, other: Seen) -> Seen {
        for (name, count) in other.met {
            *self.met.entry(name).or_insert(0) += count;
        }
        self.missed.extend(other.missed);
        self.wrong.extend(other.wrong);
        self
    }
}

/// Runs the other end beside the program that it starts with the given function, and returns that
/// program.
trait Beside: Fn(&Path, &mut dyn FnMut() -> Program) -> Program + Sync {}

impl<F: Fn(&Path, &mut dyn FnMut() -> Program) -> Program + Sync> Beside for F {}

/// Runs `test` as `program` in the process under strace; otherwise makes each place fail in turn.
///
/// `beside` is the other end while the program runs, in a new folder each time.
fn faults(test: &str, program: fn(&Path), beside: impl Beside) {
    let program = |folder: &Path| {
        wait_for_strace(nix::unistd::gettid());
        program(folder);
    };
    faults_meaning(meaning, test, program, beside);
}

/// The same, with failures reported as `meaning` says; the program itself waits for strace.
fn faults_meaning(
    meaning: fn(&str) -> &'static [Error],
    test: &str,
    program: impl Fn(&Path),
    beside: impl Beside,
) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return program(Path::new(&folder));
    }
    let run = |inject: Option<(&Place, &str)>, what: &str| {
        let (folder, _case) = (tempfile::tempdir().unwrap(), Case(what));
        let program = beside(folder.path(), &mut || Program::start(test, folder.path(), inject));
        (program.end().map_err(|error| format!("{what}: {error}")), folder)
    };
    let (whole, folder) = run(None, "without a fault");
    let whole = whole.unwrap();
    let failures = |said: &[String]| said.iter().filter(|line| line.contains(": ")).count();
    assert_eq!(failures(&whole.said), 0, "{:?}", whole.said);
    let faults: Vec<_> = places(&folder.path().join("strace"))
        .into_iter()
        .flat_map(|place| errnos(&place.name).iter().map(move |errno| (place.clone(), *errno)))
        .collect();
    let left = Mutex::new(faults.iter());
    let worker = || {
        let mut seen = Seen::default();
        loop {
            // The lock is not held while the program runs.
            let Some((place, errno)) = left.lock().unwrap().next() else { return seen };
            let what = format!("{} {} fails with {errno}", place.name, place.number);
            let ended = match run(Some((place, errno)), &what).0 {
                Ok(ended) if ended.injected => ended,
                Ok(_) => {
                    seen.missed.push(what);
                    continue;
                }
                Err(error) => {
                    seen.wrong.push(error);
                    continue;
                }
            };
            let told = ended.said.iter().filter_map(|line| line.split_once(": "));
            let odd = |(_, name): (&str, &str)| meaning(errno).iter().all(|error| error.name() != name);
            if told.clone().any(odd) {
                seen.wrong.push(format!("{what}: {:?}", ended.said));
            }
            *seen.met.entry(place.name.clone()).or_insert(0) += 1;
        }
    };
    let Seen { met, missed, wrong } = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().fold(Seen::default(), |all, worker| match worker.join() {
            Ok(seen) => all.and(seen),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    });
    println!("{test}: {met:?}; not met again: {missed:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let count: usize = met.values().sum();
    assert!(missed.len() * 10 <= count, "{count} faults met, but not {missed:?}");
}

/// Without another end.
fn alone(_: &Path, start: &mut dyn FnMut() -> Program) -> Program {
    start()
}

#[test]
fn file_vault() {
    faults("file_vault", programs::file_vault, alone);
}

#[test]
fn registry_file() {
    faults("registry_file", programs::registry_file, alone);
}

#[test]
fn registry_file_in_place() {
    faults("registry_file_in_place", programs::registry_file_in_place, alone);
}

/// A question to DNS is asked again, or has failed, or its proof could not be obtained. Its sockets
/// do not block, so nothing interrupts them; an interruption would count as any other failure.
fn meaning_of_dns(_: &str) -> &'static [Error] {
    &[Error::RegistryFailed, Error::NotValidated]
}

#[test]
fn dns_registry() {
    let knot = OnceLock::new();
    faults_meaning(meaning_of_dns, "dns_registry", programs::dns_registry, |folder, start| {
        let knot = knot.get_or_init(|| {
            Knot::start(&[Zone { name: "test", text: programs::dns_record(), signed: Signed::Nsec }])
        });
        std::fs::write(folder.join("server"), knot.address().to_string()).unwrap();
        std::fs::write(folder.join("anchors"), knot.trust_anchors("test")).unwrap();
        start()
    });
}

#[test]
fn agent() {
    faults("agent", programs::agent, |folder, start| {
        let (mut program, socket) = (start(), folder.join("socket"));
        while let Some(said) = program.hear() {
            if !said.starts_with("round") {
                continue;
            }
            // A client whose greeting is not answered connects again; later its vault does that.
            let open = || AgentVault::open_with_timeout(&socket, PATIENCE);
            let vault = open().or_else(|error| {
                assert_eq!(error, Error::Closed);
                open()
            });
            let vault = vault.unwrap();
            for _ in 0..2 {
                programs::seal(&vault).unwrap();
            }
            program.tell(b"x");
        }
        program
    });
}

#[test]
fn agent_vault() {
    faults("agent_vault", programs::agent_vault, |folder, start| {
        let agent = Agent::bind(&folder.join("socket"), Arc::new(MemoryVault::generate().unwrap())).unwrap();
        let (stop, stopping) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| agent.run(stopping.as_fd()).unwrap());
            let mut program = start();
            while program.hear().is_some() {}
            drop(stop);
            program
        })
    });
}

#[test]
fn client() {
    faults("client", programs::client, |folder, start| {
        let listener = Listener::bind("127.0.0.1", 0, programs::server().unwrap()).unwrap();
        std::fs::write(folder.join("port"), listener.port().to_string()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while let Ok(socket) = listener.accept(SOON) {
                    programs::echo(&socket);
                }
            });
            let mut program = start();
            while program.hear().is_some() {}
            listener.shutdown();
            program
        })
    });
}

#[test]
fn listener() {
    faults("listener", programs::listener, |_, start| {
        let mut program = start();
        while let Some(said) = program.hear() {
            let Some(port) = said.strip_prefix("port ") else { continue };
            let port = port.parse().unwrap();
            // A client that loses its connection connects again.
            programs::converse(port).or_else(|(_, _)| programs::converse(port)).unwrap();
        }
        program
    });
}
