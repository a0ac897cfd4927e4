//! Signals that end or stop the tool. One thread takes them, and restores the terminal before they
//! have their effect.
//!
//! All threads block these signals, including those of a PKCS #11 module, because the signals are
//! blocked before any other thread starts. A signal that was ignored when the tool was started
//! (`nohup`) stays ignored.

use super::failure::Failure;
use super::terminal;
use nix::sys::signal::{SigSet, Signal, raise};
use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Signals that come from outside, and that end a process which does not handle them.
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
/// The signals on which a server ends in an orderly way.
const ORDERLY: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// What an orderly end has to do.
enum Work {
    /// Nothing: the process may end at once.
    Any,
    /// Drop this stream.
    Serves(UnixStream),
    /// Write the number of each such signal to this stream, as one byte.
    Told(UnixStream),
    /// Nothing more: the end is under way.
    Ends,
}

static WORK: Mutex<Work> = Mutex::new(Work::Any);

/// Takes the signals from now on. Must be called before there is a second thread.
pub fn watch() -> Result<(), Failure> {
    // Writing beyond the limit of a file's size should fail like any other write.
    SigSet::from(Signal::SIGXFSZ).thread_block().map_err(failed)?;
    let ignored = ignored();
    let watched = ENDING.iter().copied().chain([Signal::SIGTSTP, Signal::SIGCONT]);
    let watched = SigSet::from_iter(watched.filter(|signal| !ignored(*signal)));
    watched.thread_block().map_err(failed)?;
    let take_all = move || {
        // This thread may restore the terminal even while another process group has it.
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

/// Makes SIGTERM, SIGINT and SIGHUP close the other end of the stream that this returns, from now
/// on, instead of ending the process.
#[cfg(target_os = "linux")]
pub fn stop() -> Result<UnixStream, Failure> {
    let (ours, given) = UnixStream::pair().map_err(failed)?;
    *WORK.lock().unwrap_or_else(PoisonError::into_inner) = Work::Serves(ours);
    Ok(given)
}

/// Makes each SIGTERM, SIGINT and SIGHUP send its number, as one byte, on the stream that this
/// returns, from now on, instead of ending the process.
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
                // If the stream is full, more signals are waiting than anybody sends on purpose.
                let _ = (&mut &*to).write_all(&[signal as i32 as u8]);
            } else if let Work::Serves(stop) = std::mem::replace(&mut *work, Work::Ends) {
                drop(stop);
            }
        }
    }
}

/// Lets the signal do what it does to a process that did not block it. So the shell sees what ended
/// the process.
fn have_its_effect(signal: Signal) {
    let set = SigSet::from(signal);
    // None of these three calls can fail for a signal that exists.
    let _ = set.thread_unblock().and_then(|()| raise(signal)).and_then(|()| set.thread_block());
}

/// Returns a function that says whether a signal is ignored, as Linux reports it. On other systems,
/// and without /proc, no signal counts as ignored.
fn ignored() -> impl Fn(Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    move |signal| mask >> (signal as i32 - 1) & 1 == 1
}
