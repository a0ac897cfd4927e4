//! A process that forwards until it is told to end: its threads, its signals, its log.

use super::super::failure::{Failure, Outcome, print};
use super::super::{notify, signals};
use super::address::{Address, Listen};
use super::front::{End, Front, Places, Shared};
use super::listen::{Listening, listen};
use super::metrics;
use super::worker::{Listeners, Mailbox, Told, Worker};
use super::{FORCED, ProcessArgs};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::time::UtcTime;

/// Descriptors that are not for pairs: standard ones, the vault's, the registry's, a resolver's.
const RESERVED: u64 = 64;
/// How long they have when a second signal has come.
const HURRY: Duration = Duration::from_millis(200);
/// How long farewells have after the time to drain is over.
const FAREWELL: Duration = Duration::from_secs(2);

impl ProcessArgs {
    /// Has the log go to standard error.
    pub fn begin_log(&self) {
        let level = if self.verbose { tracing::Level::DEBUG } else { tracing::Level::INFO };
        let log = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_target(false)
            .with_ansi(false)
            .with_timer(UtcTime::rfc_3339())
            .with_writer(io::stderr);
        if self.json { log.json().flatten_event(true).init() } else { log.init() }
    }
}

/// Raises the limit of descriptors as far as it goes, and says how many pairs that is.
pub fn places() -> Arc<Places> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let pairs = limit.saturating_sub(RESERVED.min(limit / 2) + 2 * threads) / 2;
    Places::new(usize::try_from(pairs).unwrap_or(usize::MAX).max(1))
}

/// The threads of a process, and how they are told to end.
struct Workers {
    mailboxes: Vec<Arc<Mailbox>>,
    /// Ends when all of them have.
    ended: UnixStream,
}

impl Workers {
    fn start(shared: &Arc<Shared>, listeners: &Arc<Listeners>) -> io::Result<Workers> {
        let (ended, theirs) = UnixStream::pair()?;
        let mut mailboxes = Vec::new();
        for n in 0..thread::available_parallelism().map_or(1, usize::from) {
            let worker = Worker::new(shared.clone(), Some(listeners.clone()))?;
            mailboxes.push(worker.mailbox().clone());
            let theirs = theirs.try_clone()?;
            thread::Builder::new().name(format!("forwarder {n}")).spawn(move || {
                if let Err(error) = worker.run() {
                    tracing::error!("a thread cannot wait for events: {error}");
                }
                drop(theirs);
            })?;
        }
        Ok(Workers { mailboxes, ended })
    }

    fn tell(&self, what: impl Fn() -> Told) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.tell(what()));
    }
}

/// A process that forwards.
pub struct Process {
    pub shared: Arc<Shared>,
    /// Where connections come in.
    pub fronts: Vec<(Listen, Arc<Front>)>,
    pub drain: Duration,
    /// Where its metrics can be read.
    pub metrics: Option<Address>,
}

/// What SIGHUP has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// Nothing that concerns connections that are there.
    Quietly,
    /// Those that may not have their service any more are to end.
    Recheck,
}

impl Process {
    /// Listens, and forwards until a signal ends it. `reload` is called at SIGHUP.
    pub fn run(self, reload: impl Fn() -> Reloaded) -> Outcome {
        let mut control = signals::control()?;
        let (mut sockets, mut shown, mut bound) = (Vec::new(), Vec::new(), Vec::new());
        for (address, front) in &self.fronts {
            let (listening, path) = listen(address)?;
            bound.extend(path);
            for Listening { socket, at } in listening {
                sockets.push((socket, front.clone()));
                shown.push(at);
            }
        }
        let page = self.metrics.as_ref().map(|at| metrics::serve(at, &self.shared.metrics)).transpose()?;
        let listeners = Arc::new(Listeners { sockets, said: AtomicU64::new(0) });
        let workers = Workers::start(&self.shared, &listeners).map_err(|error| {
            Failure::new(format_args!("cannot start the threads: {error}")).hint(
                "The user may have no more processes, threads or files: see \"ulimit -u\" and \"ulimit -n\".",
            )
        })?;
        // Those of the threads are the last: they close when it drains.
        drop(listeners);
        for at in shown {
            // Nobody has to read it for the process to serve.
            let _ = print(format_args!("listening on {at}"));
        }
        for at in page.iter().flat_map(|page| &page.shown) {
            let _ = print(format_args!("metrics on {at}"));
        }
        notify::ready()?;
        let watchdog = notify::watchdog();
        let mut end = Stopping::default();
        loop {
            let now = Instant::now();
            let tick = self.tick(now);
            let mut next = end.until.map_or(tick, |until| until.min(tick));
            if let Some(interval) = watchdog {
                // This thread is alive, and tells so twice in each interval.
                notify::alive(format_args!("{} connections", self.shared.metrics.open.get()));
                next = next.min(now + interval / 2);
            }
            let event = await_event(&control, &workers.ended, next.saturating_duration_since(now))?;
            if event.ended {
                if end.until.is_none() {
                    return Err(Failure::new("no thread can wait for events any more")
                        .hint("The log says why. Start it again."));
                }
                break;
            }
            if event.signalled {
                let mut number = [0];
                control.read_exact(&mut number).map_err(signals::failed)?;
                if i32::from(number[0]) == Signal::SIGHUP as i32 {
                    if reload() == Reloaded::Recheck {
                        workers.tell(|| Told::Recheck);
                    }
                } else if end.until.is_some() {
                    // What is there is told so, as at the end of the time to drain, but is not
                    // waited for.
                    tracing::warn!("ended by force");
                    (end.forced, end.until) = (true, Some(Instant::now() + HURRY));
                    workers.tell(|| Told::ShutDown);
                } else {
                    let open = self.shared.metrics.open.get();
                    let left = self.drain.as_secs();
                    tracing::info!("stopping: no new connections; {open} open ones have {left} s to end");
                    notify::stopping();
                    end.until = Some(Instant::now() + self.drain);
                    workers.tell(|| Told::Drain);
                }
            }
            if end.until.is_some_and(|until| until <= Instant::now()) {
                if end.forced {
                    break;
                }
                end.forced = true;
                end.until = Some(Instant::now() + FAREWELL + Duration::from_secs(1));
                workers.tell(|| Told::ShutDown);
            }
        }
        drop((bound, page));
        tracing::info!("stopped: {}", self.shared.metrics);
        Ok(if end.forced { ExitCode::from(FORCED) } else { ExitCode::SUCCESS })
    }

    /// Rotates the minute keys of servers; says when to call it next.
    fn tick(&self, now: Instant) -> Instant {
        let mut next = now + Duration::from_secs(60);
        for (_, front) in &self.fronts {
            let End::Serve(server, _) = &front.end else { continue };
            let due = match server.tick(self.shared.millis(now)) {
                Ok(due) => self.shared.origin + Duration::from_millis(due),
                Err(error) => {
                    tracing::error!("the minute keys cannot be renewed: {error}");
                    now + Duration::from_secs(1)
                }
            };
            next = next.min(due);
        }
        next
    }
}

/// How far the end of a process has come.
#[derive(Default)]
struct Stopping {
    until: Option<Instant>,
    /// What was still there was told to end.
    forced: bool,
}

#[derive(Default)]
struct Awaited {
    signalled: bool,
    ended: bool,
}

fn await_event(control: &UnixStream, ended: &UnixStream, wait: Duration) -> Result<Awaited, Failure> {
    let mut waited =
        [PollFd::new(control.as_fd(), PollFlags::POLLIN), PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
    // Rounded up, as a time that is not over yet would have it look again at once.
    let millis = i32::try_from(wait.as_millis() + 1).unwrap_or(i32::MAX);
    match poll(&mut waited, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
        Ok(_) => {
            let [signalled, ended] = waited.map(|fd| fd.any().unwrap_or(false));
            Ok(Awaited { signalled, ended })
        }
        Err(nix::Error::EINTR) => Ok(Awaited::default()),
        Err(error) => Err(signals::failed(error)),
    }
}
