//! A pair: a tunnel and a local connection, and how far they have come.

mod end;
mod run;
mod setup;

use super::dial::{Dial, set_options};
use super::ending::Ending;
use super::front::{Front, Place, Route, Shared};
use super::pump::Pump;
use super::tunnel::{Ended, Tunnel};
use super::worker::{Mailbox, Poller, Side};
use curve_tun::{Error, PublicKey};
use nix::libc;
use socket2::{SockAddr, Socket};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// What a pair needs of the thread that drives it.
pub struct Context<'a> {
    pub now: Instant,
    pub shared: &'a Arc<Shared>,
    pub poller: &'a Poller,
    pub mailbox: &'a Arc<Mailbox>,
    /// What names the pair in `poller` and `mailbox`.
    pub index: usize,
    pub scratch: &'a mut [u8],
}

/// What is to be done with a pair that was driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It waits for an event, or its deadline.
    Wait,
    /// It has had its share, and can go on.
    Again,
    Over,
}

/// What is told about a pair that has ended, to whoever asked.
#[derive(Debug)]
pub struct Report {
    pub ending: Ending,
    /// The first bytes that came from the other end, before there was a tunnel.
    pub first_bytes: Vec<u8>,
    /// How far it had come.
    pub stage: Stage,
}

/// How far a pair has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Dialing,
    /// The tunnel's transport is there.
    Transport,
    /// The handshake is over.
    Tunnel,
    /// The peer has opened the stream.
    Stream,
}

/// The side of a pair that is no tunnel.
struct Local {
    socket: Socket,
    readable: bool,
    writable: bool,
    /// The system has given it up, read or not.
    failed: bool,
    /// What is to be written before all that comes from the tunnel.
    header: Vec<u8>,
}

impl Local {
    /// Until it ends as it should, whatever ends this process resets the connection: a peer that
    /// sees an end takes it for everything. A Unix socket has no reset.
    fn new(socket: Socket) -> Local {
        let _ = socket.set_linger(Some(Duration::ZERO));
        Local { socket, readable: true, writable: true, failed: false, header: Vec::new() }
    }

    /// Closes it so that its peer sees a reset.
    fn reset(self) {}

    /// Closes it as it should end.
    fn close(self) {
        let _ = self.socket.set_linger(None);
    }
}

enum Phase {
    /// The name of where it leads is being resolved.
    Resolving,
    Dialing(Dial),
    Handshake,
    /// A server awaits the client's OPEN.
    AwaitOpen,
    Running,
    /// The tunnel has failed, and the local side gets the rest of what has come.
    Delivering,
    /// The tunnel says farewell.
    Closing,
    Over,
}

/// Tells pairs apart that had the same index one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairId(u64);

impl PairId {
    fn new() -> PairId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        PairId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

pub struct Pair {
    id: PairId,
    /// Whether an answer of a vault or a registry is awaited.
    asked: bool,
    phase: Phase,
    /// When the phase has taken too long.
    until: Option<Instant>,
    tunnel: Option<Tunnel>,
    local: Option<Local>,
    pump: Pump,
    /// How much was taken of the DATA that is next in the tunnel, its kind included.
    taken: usize,
    tick_at: Option<Instant>,
    /// The other end of what came in.
    from: String,
    peer: Option<SocketAddr>,
    key: Option<PublicKey>,
    up: u64,
    down: u64,
    began: Instant,
    opened_at: Instant,
    moved: Instant,
    /// Whether the peer was asked to say that it has everything.
    awaits_pong: bool,
    stage: Stage,
    /// How it has ended, until that is told, and after.
    ending: Option<Ending>,
    told: Option<Ending>,
    /// Whether both sides were there.
    opened: bool,
    report: Option<mpsc::Sender<Report>>,
    front: Arc<Front>,
    /// Where it leads, once that is known.
    route: Option<Arc<Route>>,
    _place: Place,
}

impl Pair {
    /// Begins with a socket that came in.
    pub fn accepted(
        socket: Socket,
        from: &SockAddr,
        front: &Arc<Front>,
        place: Place,
        ctx: &mut Context,
    ) -> Option<Pair> {
        let peer = from.as_socket();
        let shown = peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
        // The peer may have gone already.
        set_options(&socket).ok()?;
        Pair::begin(socket, peer, shown, front.clone(), place, None, ctx)
    }

    /// Begins with a local socket of this process's own, and tells `report` how it ended.
    pub fn of_process(
        socket: Socket,
        front: &Arc<Front>,
        place: Place,
        report: mpsc::Sender<Report>,
        ctx: &mut Context,
    ) -> Option<Pair> {
        socket.set_nonblocking(true).ok()?;
        Pair::begin(socket, None, "stdin".to_owned(), front.clone(), place, Some(report), ctx)
    }

    fn begin(
        socket: Socket,
        peer: Option<SocketAddr>,
        from: String,
        front: Arc<Front>,
        place: Place,
        report: Option<mpsc::Sender<Report>>,
        ctx: &mut Context,
    ) -> Option<Pair> {
        let mut pair = Pair {
            id: PairId::new(),
            asked: false,
            opened_at: ctx.now,
            awaits_pong: false,
            phase: Phase::Handshake,
            until: None,
            tunnel: None,
            local: None,
            pump: Pump::new(),
            taken: 0,
            tick_at: None,
            from,
            peer,
            key: None,
            up: 0,
            down: 0,
            began: ctx.now,
            moved: ctx.now,
            stage: Stage::Dialing,
            ending: None,
            told: None,
            opened: false,
            report,
            route: front.route(),
            front,
            _place: place,
        };
        if pair.front.serves() {
            pair.shake_hands(socket, ctx);
        } else {
            ctx.poller.add(&socket, ctx.index, Side::Local).ok()?;
            pair.local = Some(Local::new(socket));
            pair.resolve(ctx);
        }
        Some(pair)
    }

    /// Marks what an event of the poller says.
    pub fn ready(&mut self, side: Side, event: libc::c_int) {
        let over = libc::EPOLLHUP | libc::EPOLLERR;
        let readable = event & (libc::EPOLLIN | libc::EPOLLRDHUP | over) != 0;
        let writable = event & (libc::EPOLLOUT | over) != 0;
        match side {
            Side::Tunnel => {
                if let Some(tunnel) = &mut self.tunnel {
                    tunnel.readable |= readable;
                    tunnel.writable |= writable;
                    tunnel.hung_up |= event & (libc::EPOLLRDHUP | over) != 0;
                }
            }
            Side::Local => {
                if let Some(local) = &mut self.local {
                    local.readable |= readable;
                    local.writable |= writable;
                    local.failed |= event & libc::EPOLLERR != 0;
                }
            }
        }
    }

    /// Looks at the connection, which may have been evicted.
    pub fn look(&mut self, ctx: &mut Context) {
        self.tick_at = self.tick_at.map(|_| ctx.now);
    }

    /// Does all that can be done now.
    pub fn drive(&mut self, ctx: &mut Context) -> Turn {
        self.tick(ctx);
        if self.until.is_some_and(|until| until <= ctx.now) {
            self.until = None;
            self.timed_out(ctx);
        }
        loop {
            let before = std::mem::discriminant(&self.phase);
            match &mut self.phase {
                Phase::Resolving => {}
                Phase::Dialing(dial) => {
                    let dialed = dial.go_on(ctx.now);
                    self.dialed(dialed, ctx);
                }
                Phase::Handshake => self.go_on_shaking(ctx),
                Phase::AwaitOpen => self.await_open(ctx),
                Phase::Running => {
                    if self.run(ctx) == Turn::Again {
                        return Turn::Again;
                    }
                }
                Phase::Delivering => self.deliver_rest(ctx),
                Phase::Closing => {
                    if self.close(ctx) == Turn::Again {
                        return Turn::Again;
                    }
                }
                Phase::Over => return Turn::Over,
            }
            if std::mem::discriminant(&self.phase) == before {
                return Turn::Wait;
            }
        }
    }

    /// Returns when to drive it again, if no event comes before.
    pub fn deadline(&self) -> Option<Instant> {
        let dial = if let Phase::Dialing(dial) = &self.phase { dial.deadline() } else { None };
        [self.until, self.tick_at, dial].into_iter().flatten().min()
    }

    /// Tells the connection the time, when that is due.
    fn tick(&mut self, ctx: &Context) {
        let Some(tunnel) = &mut self.tunnel else { return };
        if self.tick_at.is_some_and(|at| at <= ctx.now) {
            self.tick_at = match tunnel.connection.tick(ctx.shared.millis(ctx.now)) {
                Ok(next) => next.map(|next| ctx.shared.origin + Duration::from_millis(next)),
                Err(error) => {
                    if error != Error::Closed {
                        tunnel.ended.get_or_insert(Ended::Refused(error));
                    }
                    None
                }
            };
        }
    }
}
