//! Programs under strace: which system calls they make, and what they do when one of them fails.

use nix::unistd::Pid;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Set in the process that strace watches: the folder for its files.
pub const FOLDER: &str = "CURVE_TUN_FAULTS";
/// Paths that a program looks up to mark the beginning and end of counted system calls; no such
/// files exist.
pub const BEGIN: &str = "/curve_tun/begin";
pub const END: &str = "/curve_tun/end";
/// Printed when strace may attach.
const READY: &str = "ready";
/// The prefix of a line that a program sends to its test.
pub const SAYS: &str = "@ ";

/// Seconds that a program may take.
const TIME_MAX: u32 = 150;

/// System calls that do not fail here, with the reason.
const LEFT_OUT: &[(&str, &[&str])] = &[
    (
        "memory: tests/c/memory.c and tests/c/locked.c",
        &["mmap", "munmap", "mprotect", "brk", "madvise", "mremap", "mlock", "munlock"],
    ),
    ("a call that is not made keeps the descriptor, whatever is done about it", &["close"]),
    ("libsodium ends the process rather than go on without randomness", &["getrandom"]),
    (
        "of the C library and its threads, whose failures nobody can answer",
        &[
            "exit",
            "exit_group",
            "futex",
            "gettid",
            "prctl",
            "rseq",
            "rt_sigaction",
            "rt_sigprocmask",
            "rt_sigreturn",
            "sched_getaffinity",
            "sched_yield",
            "set_robust_list",
            "sigaltstack",
        ],
    ),
    ("cannot fail", &["geteuid", "getpid"]),
    ("a wait that is cut short is a short wait", &["clock_nanosleep", "restart_syscall"]),
];

/// The bytes written to an event descriptor to wake a thread; the system has no reason to refuse
/// them.
const WAKE: &str = r#""\1\0\0\0\0\0\0\0", 8"#;

/// The `number`th call of this name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub name: String,
    pub number: usize,
}

/// Returns the errors that a system call is made to fail with.
pub fn errnos(name: &str) -> &'static [&'static str] {
    match name {
        "openat" => &["EMFILE", "EACCES", "EINTR"],
        "socket" | "socketpair" => &["EMFILE"],
        "accept4" => &["EMFILE", "EINTR"],
        "read" | "pread64" => &["EIO", "EINTR"],
        "write" | "pwrite64" | "fsync" | "fdatasync" => &["ENOSPC", "EIO", "EINTR"],
        "sendto" | "recvfrom" => &["ECONNRESET", "ENOBUFS", "EINTR"],
        "poll" | "ppoll" => &["ENOMEM", "EINTR"],
        "clone3" => &["EAGAIN"],
        // Any other error would mean that the descriptor is not the intended one.
        "epoll_wait" => &["EINTR"],
        _ => &["EIO"],
    }
}

/// A started program of this file.
pub struct Program {
    child: Child,
    strace: Child,
    out: BufReader<ChildStdout>,
    log: PathBuf,
    said: Vec<String>,
}

/// How a program ended.
pub struct Ended {
    /// Whether an injected error was met.
    pub injected: bool,
    /// The lines it sent.
    pub said: Vec<String>,
}

/// In the program: waits until strace watches this thread, and only this one.
///
/// Another thread does the waiting, so that this one makes no system call that would count. From
/// here on the process has limited time; a signal ends it after that.
pub fn wait_for_strace(thread: Pid) {
    // SAFETY: no pointer is passed.
    unsafe { libc::alarm(TIME_MAX) };
    // SAFETY: no pointer is passed. Where only a parent may trace a process, this allows all
    // processes of its user to.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
    println!("\n{SAYS}{READY} {thread}");
    std::thread::spawn(|| std::io::stdin().read_exact(&mut [0]).unwrap()).join().unwrap();
}

impl Program {
    /// Starts the test of this name again, as the program under test; a system call fails if
    /// `inject` says so.
    pub fn start(test: &str, folder: &Path, inject: Option<(&Place, &str)>) -> Program {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(FOLDER, folder);
        command.env("RUST_BACKTRACE", "0");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let thread = loop {
            line.clear();
            assert_ne!(out.read_line(&mut line).unwrap(), 0, "it ended before it began");
            if let Some(thread) = line.strip_prefix(SAYS).and_then(|line| line.strip_prefix(READY)) {
                break thread.trim().to_owned();
            }
        };
        let log = folder.join("strace");
        let mut strace = Command::new("strace");
        strace.arg("-o").arg(&log).args(["-p", &thread]);
        if let Some((Place { name, number }, errno)) = inject {
            strace.arg(format!("-etrace={name}")).arg(format!("-einject={name}:error={errno}:when={number}"));
        }
        let mut strace =
            strace.stderr(Stdio::piped()).spawn().expect("strace, from the package of that name");
        let mut attached = BufReader::new(strace.stderr.take().unwrap());
        line.clear();
        attached.read_line(&mut line).unwrap();
        assert!(line.contains(" attached"), "{line}");
        std::thread::spawn(move || std::io::copy(&mut attached, &mut std::io::sink()));
        let mut program = Program { child, strace, out, log, said: Vec::new() };
        program.tell(b"!");
        program
    }

    /// Returns the next line that it sends; `None` once it has ended.
    pub fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.out.read_line(&mut line).unwrap() > 0 {
            if let Some(said) = line.trim_end().strip_prefix(SAYS) {
                self.said.push(said.to_owned());
                return self.said.last().cloned();
            }
            line.clear();
        }
        None
    }

    /// Writes to its standard input.
    pub fn tell(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Reads it to the end; it must exit by itself and have found nothing wrong, otherwise its
    /// output is the error.
    pub fn end(mut self) -> Result<Ended, String> {
        while self.hear().is_some() {}
        let output = self.child.wait_with_output().unwrap();
        self.strace.wait().unwrap();
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}; said {:?}\n{}", output.status, self.said, errors.trim()));
        }
        let log = fs::read_to_string(&self.log).unwrap();
        Ok(Ended { injected: log.contains("(INJECTED)"), said: self.said })
    }
}

/// Returns the calls in the log of strace between the markers, or all if there are none, each with
/// its number.
pub fn places(log: &Path) -> BTreeSet<Place> {
    let left_out: Vec<&str> = LEFT_OUT.iter().flat_map(|(_, names)| *names).copied().collect();
    let log = fs::read_to_string(log).unwrap();
    let (mut seen, mut places, mut counts) = (HashMap::new(), BTreeSet::new(), !log.contains(BEGIN));
    for line in log.lines() {
        // "name(arguments) = result"
        let Some((name, arguments)) = line.split_once('(') else { continue };
        let number = seen.entry(name.to_owned()).and_modify(|n| *n += 1).or_insert(1);
        counts &= !arguments.contains(END);
        if counts && !left_out.contains(&name) && !arguments.contains(WAKE) {
            places.insert(Place { name: name.to_owned(), number: *number });
        }
        counts |= arguments.contains(BEGIN);
    }
    assert!(!places.is_empty(), "no calls in the log");
    places
}
