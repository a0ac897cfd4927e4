//! Signals that end or stop the tool: one thread takes them, and puts the terminal right before
//! they have their effect.
//!
//! All threads block them, those of a PKCS #11 module too, since the thread is there before any
//! other. What was ignored when the tool was started (`nohup`) stays ignored.

use super::failure::Failure;
use super::terminal;
use nix::sys::signal::{SigSet, Signal, raise};
use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Signals that end a process which does nothing about them, and that come from outside.
const ENDING: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGALRM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGXCPU,
    #[cfg(target_os = "linux")]
    Signal::SIGIO,
    #[cfg(target_os = "linux")]
    Signal::SIGPWR,
    #[cfg(target_os = "linux")]
    Signal::SIGSTKFLT,
];
/// Those of them at which what serves ends in order.
const ORDERLY: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// What an orderly end takes.
enum Work {
    /// Nothing: the process may be ended.
    Any,
    /// To drop this.
    Serves(UnixStream),
    /// To write the number of each such signal here, as one byte.
    Told(UnixStream),
    /// Nothing more: it is under way.
    Ends,
}

static WORK: Mutex<Work> = Mutex::new(Work::Any);

/// Takes the signals from here on. To be called before there is a second thread.
pub fn watch() -> Result<(), Failure> {
    // A write at the limit of a file's size is to fail as any other does.
    SigSet::from(Signal::SIGXFSZ).thread_block().map_err(failed)?;
    let ignored = ignored();
    let watched = ENDING.iter().copied().chain([Signal::SIGTSTP, Signal::SIGCONT]);
    let watched = SigSet::from_iter(watched.filter(|signal| !ignored(*signal)));
    watched.thread_block().map_err(failed)?;
    let take_all = move || {
        // It may put the terminal right also when another process group has it.
        let _ = SigSet::from(Signal::SIGTTOU).thread_block();
        loop {
            if let Ok(signal) = watched.wait() {
                take(signal);
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(take_all).map_err(failed)?;
    Ok(())
}

/// Has SIGTERM, SIGINT and SIGHUP bring what this gives to its end, from here on, rather than the
/// process.
#[cfg(target_os = "linux")]
pub fn stop() -> Result<UnixStream, Failure> {
    let (ours, given) = UnixStream::pair().map_err(failed)?;
    *WORK.lock().unwrap_or_else(PoisonError::into_inner) = Work::Serves(ours);
    Ok(given)
}

/// Has the number of each SIGTERM, SIGINT and SIGHUP come out of what this gives, as one byte, from
/// here on, rather than end the process.
#[cfg(target_os = "linux")]
pub fn control() -> Result<UnixStream, Failure> {
    let (ours, given) = UnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    *WORK.lock().unwrap_or_else(PoisonError::into_inner) = Work::Told(ours);
    Ok(given)
}

pub fn failed(error: impl Display) -> Failure {
    Failure::new(format_args!("cannot wait for signals: {error}"))
        .hint("The user may have no more processes and threads: see \"ulimit -u\".")
}

fn take(signal: Signal) {
    match signal {
        Signal::SIGCONT => terminal::resume(),
        Signal::SIGTSTP => {
            terminal::yield_to_shell();
            have_its_effect(signal);
        }
        _ => {
            let mut work = WORK.lock().unwrap_or_else(PoisonError::into_inner);
            if !ORDERLY.contains(&signal) || matches!(*work, Work::Any) {
                terminal::yield_to_shell();
                have_its_effect(signal);
            } else if let Work::Told(to) = &*work {
                // Where it is full, more of them wait than anybody sends on purpose.
                let _ = (&mut &*to).write_all(&[signal as i32 as u8]);
            } else if let Work::Serves(stop) = std::mem::replace(&mut *work, Work::Ends) {
                drop(stop);
            }
        }
    }
}

/// What the signal does to a process that did not block it; so the shell sees what has ended it.
fn have_its_effect(signal: Signal) {
    let set = SigSet::from(signal);
    // None of the three can fail for a signal that there is.
    let _ = set.thread_unblock().and_then(|()| raise(signal)).and_then(|()| set.thread_block());
}

/// Tells which signals are ignored, as Linux says it; elsewhere, and where there is no /proc, none
/// is taken to be.
fn ignored() -> impl Fn(Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    move |signal| mask >> (signal as i32 - 1) & 1 == 1
}
