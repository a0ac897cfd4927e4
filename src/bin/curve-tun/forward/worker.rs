//! A thread that drives pairs: one epoll, its share of the connections, and their deadlines.

use super::dial::{Resolved, is_shortage};
use super::front::{Front, Place, Shared};
use super::pair::{Context, Pair, PairId, Report, Turn};
use curve_tun::connection::Answer;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use socket2::Socket;
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How many events are taken at once.
const BATCH: usize = 256;
/// How many connections are accepted before the others have their turn.
const ACCEPT_MAX: usize = 64;
/// How long accepting pauses when descriptors or memory have run out.
const PAUSE: Duration = Duration::from_millis(100);
/// How often that is said, in milliseconds.
const SAY_EVERY: u64 = 60_000;
/// The bytes that one read of a local side may give, and room for what the layer puts before them.
const SCRATCH: usize = 64 << 10;

const MAILBOX: u64 = u64::MAX;
const LISTENERS: u64 = u64::MAX - 1024;

/// The side of a pair that a socket is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Tunnel,
    Local,
}

/// What pairs wait with.
pub struct Poller(Epoll);

impl Poller {
    /// Reports every change of a socket's readiness, until it is closed.
    pub fn add(&self, socket: &Socket, index: usize, side: Side) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        let token = (index as u64) << 1 | u64::from(side == Side::Local);
        match self.0.add(socket, EpollEvent::new(flags, token)) {
            // It was added while it was being connected.
            Ok(()) | Err(nix::Error::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What other threads tell a worker.
pub enum Told {
    /// A pair is to be looked at.
    Wake(usize),
    Resolved(usize, Resolved),
    /// What a vault or a registry has answered to this pair.
    Answered(usize, PairId, Answer),
    /// Nothing new is taken; what has no stream yet ends.
    Drain,
    /// Everything ends.
    ShutDown,
    /// Who may have what has changed.
    Recheck,
    /// The local side of every pair has failed.
    LocalFailed,
    /// A local socket of this process's own.
    Forward(Socket, Arc<Front>, mpsc::Sender<Report>),
}

/// Where other threads tell a worker something.
pub struct Mailbox {
    told: Mutex<Vec<Told>>,
    event: EventFd,
}

impl Mailbox {
    fn new() -> io::Result<Arc<Mailbox>> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Arc::new(Mailbox { told: Mutex::default(), event }))
    }

    pub fn tell(&self, what: Told) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        // It fails only where it has been told so often that it wakes up anyway.
        let _ = self.event.write(1);
    }

    pub fn wake(&self, index: usize) {
        self.tell(Told::Wake(index));
    }

    pub fn resolved(&self, index: usize, resolved: Resolved) {
        self.tell(Told::Resolved(index, resolved));
    }

    pub fn answered(&self, index: usize, id: PairId, answer: Answer) {
        self.tell(Told::Answered(index, id, answer));
    }

    fn take(&self) -> Vec<Told> {
        let _ = self.event.read();
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the listeners of a process have in common.
pub struct Listeners {
    pub sockets: Vec<(Socket, Arc<Front>)>,
    /// When it was last said that none can be accepted, in milliseconds; 0 for never.
    pub said: AtomicU64,
}

pub struct Worker {
    poller: Poller,
    mailbox: Arc<Mailbox>,
    shared: Arc<Shared>,
    /// `None` while the process ends.
    listeners: Option<Arc<Listeners>>,
    /// Until when none is accepted.
    paused: Option<Instant>,
    pairs: Vec<Option<Box<Pair>>>,
    free: Vec<usize>,
    timers: BTreeSet<(Instant, usize)>,
    /// The timer of each pair, as it stands in `timers`.
    due: Vec<Option<Instant>>,
    ready: Vec<usize>,
    scratch: Box<[u8]>,
    /// Whether it ends when there is no pair.
    ends: bool,
}

impl Worker {
    pub fn new(shared: Arc<Shared>, listeners: Option<Arc<Listeners>>) -> io::Result<Worker> {
        let (epoll, mailbox) = (Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, Mailbox::new()?);
        epoll.add(&mailbox.event, EpollEvent::new(EpollFlags::EPOLLIN, MAILBOX))?;
        let mut worker = Worker {
            poller: Poller(epoll),
            mailbox,
            shared,
            listeners,
            paused: None,
            pairs: Vec::new(),
            free: Vec::new(),
            timers: BTreeSet::new(),
            due: Vec::new(),
            ready: Vec::new(),
            scratch: vec![0; SCRATCH].into(),
            ends: false,
        };
        worker.listen()?;
        Ok(worker)
    }

    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    fn listen(&mut self) -> io::Result<()> {
        let Some(listeners) = &self.listeners else { return Ok(()) };
        for (n, (socket, _)) in listeners.sockets.iter().enumerate() {
            // One of the threads is woken for each connection, not all of them.
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
            self.poller.0.add(socket, EpollEvent::new(flags, LISTENERS + n as u64))?;
        }
        Ok(())
    }

    fn stop_listening(&self) {
        for (socket, _) in self.listeners.iter().flat_map(|listeners| &listeners.sockets) {
            let _ = self.poller.0.delete(socket);
        }
    }

    /// Drives pairs until it is told to end, and has none.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = vec![EpollEvent::empty(); BATCH];
        loop {
            if self.ends && self.free.len() == self.pairs.len() {
                return Ok(());
            }
            let count = match self.poller.0.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(nix::Error::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            let mut freed = Vec::new();
            for event in &events[..count] {
                match event.data() {
                    MAILBOX => self.read_mailbox(now, &mut freed),
                    token if token >= LISTENERS => {
                        self.accept(usize::try_from(token - LISTENERS).unwrap_or(0), now)
                    }
                    token => {
                        let index = usize::try_from(token >> 1).unwrap_or(usize::MAX);
                        let side = if token & 1 == 1 { Side::Local } else { Side::Tunnel };
                        if let Some(Some(pair)) = self.pairs.get_mut(index) {
                            pair.ready(side, event.events().bits());
                            self.ready.push(index);
                        }
                    }
                }
            }
            self.drive_all(now, &mut freed);
            // Only now: an event of this batch may name the pair that was there.
            self.free.append(&mut freed);
        }
    }

    fn timeout(&self) -> EpollTimeout {
        if !self.ready.is_empty() {
            return EpollTimeout::ZERO;
        }
        let next = self.timers.first().map(|(at, _)| *at).into_iter().chain(self.paused).min();
        let Some(next) = next else { return EpollTimeout::NONE };
        // Rounded up: a timer that is not due yet would have it look again at once.
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        let left = u16::try_from(left.as_millis()).unwrap_or(u16::MAX);
        EpollTimeout::from(left)
    }

    fn drive_all(&mut self, now: Instant, freed: &mut Vec<usize>) {
        while let Some((at, index)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            self.due[index] = None;
            self.ready.push(index);
        }
        let mut ready = std::mem::take(&mut self.ready);
        ready.sort_unstable();
        ready.dedup();
        for index in ready {
            self.with_pair(index, now, freed, |_, _| {});
        }
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
            if self.listen().is_err() {
                self.stop_listening();
                self.paused = Some(now + PAUSE);
            }
        }
    }

    /// Has a pair do something, and then all that it can.
    fn with_pair(
        &mut self,
        index: usize,
        now: Instant,
        freed: &mut Vec<usize>,
        first: impl FnOnce(&mut Pair, &mut Context),
    ) {
        let Some(mut pair) = self.pairs.get_mut(index).and_then(Option::take) else { return };
        let mut ctx = Context {
            now,
            shared: &self.shared,
            poller: &self.poller,
            mailbox: &self.mailbox,
            index,
            scratch: &mut self.scratch,
        };
        first(&mut pair, &mut ctx);
        let turn = pair.drive(&mut ctx);
        let wanted = if turn == Turn::Over { None } else { pair.deadline() };
        if self.due[index] != wanted {
            if let Some(at) = self.due[index] {
                self.timers.remove(&(at, index));
            }
            self.timers.extend(wanted.map(|at| (at, index)));
            self.due[index] = wanted;
        }
        match turn {
            Turn::Over => freed.push(index),
            Turn::Again => {
                self.ready.push(index);
                self.pairs[index] = Some(pair);
            }
            Turn::Wait => self.pairs[index] = Some(pair),
        }
    }

    fn read_mailbox(&mut self, now: Instant, freed: &mut Vec<usize>) {
        for told in self.mailbox.take() {
            match told {
                Told::Wake(index) => self.with_pair(index, now, freed, Pair::look),
                Told::Resolved(index, resolved) => {
                    self.with_pair(index, now, freed, |pair, ctx| pair.resolved(&resolved, ctx));
                }
                Told::Answered(index, id, answer) => {
                    self.with_pair(index, now, freed, |pair, ctx| pair.answered(id, answer, ctx));
                }
                Told::Drain => {
                    self.stop_listening();
                    (self.listeners, self.paused, self.ends) = (None, None, true);
                    self.each(now, freed, Pair::drain);
                }
                Told::Recheck => self.each(now, freed, Pair::recheck),
                Told::ShutDown => self.each(now, freed, Pair::shut_down),
                Told::LocalFailed => self.each(now, freed, Pair::local_failed),
                Told::Forward(socket, front, report) => {
                    self.ends = true;
                    if let Some(place) = self.shared.places.take() {
                        self.begin(now, |ctx| Pair::of_process(socket, &front, place, report, ctx));
                    }
                }
            }
        }
    }

    fn each(&mut self, now: Instant, freed: &mut Vec<usize>, what: impl Fn(&mut Pair, &mut Context)) {
        for index in 0..self.pairs.len() {
            self.with_pair(index, now, freed, &what);
        }
    }

    /// Accepts what waits at a listener.
    fn accept(&mut self, n: usize, now: Instant) {
        let Some(listeners) = self.listeners.clone() else { return };
        let Some((listener, front)) = listeners.sockets.get(n) else { return };
        for _ in 0..ACCEPT_MAX {
            let Some(place) = self.shared.places.take() else {
                let most = self.shared.places.most();
                return self.pause(
                    &listeners,
                    now,
                    format_args!("there are {most} connections, as many as ulimit -n allows"),
                );
            };
            match listener.accept() {
                Ok((socket, from)) => self.accepted(socket, &from, front, place, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_shortage(&error) => {
                    return self.pause(&listeners, now, format_args!("{error}"));
                }
                // The connection was gone before it was accepted, or a signal came.
                Err(_) => {}
            }
        }
    }

    fn accepted(
        &mut self,
        socket: Socket,
        from: &socket2::SockAddr,
        front: &Arc<Front>,
        place: Place,
        now: Instant,
    ) {
        self.shared.metrics.accepted.inc();
        self.begin(now, |ctx| Pair::accepted(socket, from, front, place, ctx));
    }

    fn begin(&mut self, now: Instant, make: impl FnOnce(&mut Context) -> Option<Pair>) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.due.push(None);
            self.pairs.len() - 1
        });
        let mut ctx = Context {
            now,
            shared: &self.shared,
            poller: &self.poller,
            mailbox: &self.mailbox,
            index,
            scratch: &mut self.scratch,
        };
        match make(&mut ctx) {
            Some(pair) => {
                self.pairs[index] = Some(Box::new(pair));
                self.ready.push(index);
            }
            None => self.free.push(index),
        }
    }

    /// Accepts none for a while, cuts nobody, and says so once a minute.
    fn pause(&mut self, listeners: &Listeners, now: Instant, why: std::fmt::Arguments) {
        self.stop_listening();
        self.paused = Some(now + PAUSE);
        let millis = self.shared.millis(now).max(1);
        let said = listeners.said.load(Ordering::Relaxed);
        if (said == 0 || millis - said.min(millis) >= SAY_EVERY)
            && listeners.said.compare_exchange(said, millis, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            tracing::warn!("new connections wait: {why}");
        }
    }
}
