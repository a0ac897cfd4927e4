//! A pair: a tunnel and a local connection, and how far they have come.

mod run;

use super::address::Address;
use super::dial::{Dial, Dialed, Resolved, explain, is_shortage, set_options};
use super::ending::Ending;
use super::front::{End, Front, NoRoute, Place, Route, STEP_LIMIT, Shared};
use super::pump::Pump;
use super::tunnel::{Dropped, Ended, Tunnel};
use super::worker::{Mailbox, Poller, Side};
use curve_tun::connection::Answer;
use curve_tun::stream::{AbortCode, Event};
use curve_tun::{Error, PublicKey};
use nix::libc;
use socket2::{SockAddr, Socket};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How long an end whose stream is over waits for the transport's end: a server, which lets the
/// client go first, and a client.
const SERVER_LINGER: Duration = Duration::from_secs(2);
const CLIENT_LINGER: Duration = Duration::from_secs(1);

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
}

impl Local {
    fn new(socket: Socket) -> Local {
        Local { socket, readable: true, writable: true, failed: false }
    }

    /// Closes it so that its peer sees a reset. A Unix socket has none.
    fn reset(self) {
        let _ = self.socket.set_linger(Some(Duration::ZERO));
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
        let shown = peer.map_or_else(|| "a Unix socket".to_owned(), |peer| peer.to_string());
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
        Pair::begin(socket, None, "standard input".to_owned(), front.clone(), place, Some(report), ctx)
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

    /// Finds the addresses of where it leads.
    fn resolve(&mut self, ctx: &mut Context) {
        self.phase = Phase::Resolving;
        self.until = Some(ctx.now + STEP_LIMIT);
        let Some(route) = self.route.clone() else { return };
        match &route.to {
            Address::Unix(path) => match Dial::to_path(path) {
                Ok(dial) => self.phase = Phase::Dialing(dial),
                Err(error) => self.dialed(Dialed::Failed(error), ctx),
            },
            Address::Tcp { host, port } => {
                let (mailbox, index) = (ctx.mailbox.clone(), ctx.index);
                let tell = move |resolved| mailbox.resolved(index, resolved);
                if let Some(resolved) = ctx.shared.resolver.resolve(host, *port, tell) {
                    self.resolved(&resolved, ctx);
                }
            }
        }
    }

    /// Takes what the resolver has found.
    pub fn resolved(&mut self, resolved: &Resolved, ctx: &mut Context) {
        if !matches!(self.phase, Phase::Resolving) {
            return;
        }
        match resolved {
            Ok(addresses) => self.phase = Phase::Dialing(Dial::to_resolved(addresses)),
            Err(why) => self.unreachable(AbortCode::TargetUnreachable, why.clone(), ctx),
        }
    }

    fn dialed(&mut self, dialed: Dialed, ctx: &mut Context) {
        let side = if self.tunnel.is_some() { Side::Local } else { Side::Tunnel };
        match dialed {
            Dialed::Pending => {
                // A socket that is polled already stays so.
                if let Phase::Dialing(dial) = &mut self.phase
                    && let Some(socket) = dial.new_socket()
                    && ctx.poller.add(socket, ctx.index, side).is_err()
                {
                    let why = "this process can wait for no more sockets".into();
                    self.unreachable(AbortCode::Busy, why, ctx);
                }
            }
            Dialed::Failed(error) => {
                let Some(route) = self.route.clone() else { return };
                let code = match error.kind() {
                    std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound => {
                        AbortCode::TargetRefused
                    }
                    std::io::ErrorKind::TimedOut => AbortCode::TimeLimit,
                    _ if is_shortage(&error) => AbortCode::Busy,
                    _ => AbortCode::TargetUnreachable,
                };
                self.unreachable(code, explain(&route.to, &error), ctx);
            }
            Dialed::Connected(socket) => {
                self.until = None;
                if let Err(error) = set_options(&socket) {
                    return self.dialed(Dialed::Failed(error), ctx);
                }
                match side {
                    Side::Tunnel => self.shake_hands(socket, ctx),
                    Side::Local => {
                        // The same socket may be there from the time that it was pending.
                        let _ = ctx.poller.add(&socket, ctx.index, side);
                        self.local = Some(Local::new(socket));
                        self.open(ctx);
                    }
                }
            }
        }
    }

    fn unreachable(&mut self, code: AbortCode, why: String, ctx: &mut Context) {
        self.ending.get_or_insert(Ending::Unreachable(why));
        self.give_up(code, ctx);
    }

    /// Begins the handshake on a transport that is connected.
    fn shake_hands(&mut self, socket: Socket, ctx: &mut Context) {
        self.stage = Stage::Transport;
        let _ = ctx.poller.add(&socket, ctx.index, Side::Tunnel);
        match self.front.machines(self.peer) {
            Ok((mut connection, machine)) => {
                if self.serves() {
                    let (mailbox, index) = (ctx.mailbox.clone(), ctx.index);
                    // It is in its handshake: that it may be evicted is never refused.
                    let _ = connection.on_evict(move || mailbox.wake(index));
                }
                self.tunnel = Some(Tunnel::new(socket, connection, machine));
                self.tick_at = Some(ctx.now);
                self.tick(ctx);
                self.phase = Phase::Handshake;
            }
            Err(error) => {
                self.ending.get_or_insert(Ending::Refused(error.message().into()));
                self.give_up(AbortCode::Internal, ctx);
            }
        }
    }

    fn go_on_shaking(&mut self, ctx: &mut Context) {
        let Some(tunnel) = &mut self.tunnel else { return };
        loop {
            let moved = tunnel.write();
            if tunnel.is_connected() {
                self.stage = Stage::Tunnel;
                self.key = tunnel.connection.peer_key();
                self.tick_at = Some(ctx.now + Duration::from_secs(1));
                if self.serves() {
                    self.phase = Phase::AwaitOpen;
                    self.until = Some(ctx.now + STEP_LIMIT);
                } else {
                    self.open(ctx);
                }
                return;
            }
            if let Some(ended) = &tunnel.ended {
                let ending = match ended {
                    Ended::Closed(_) if tunnel.first_bytes().is_empty() && self.local.is_none() => {
                        Ending::Unused
                    }
                    ended => Ending::of_handshake(ended),
                };
                self.ending.get_or_insert(ending);
                return self.give_up(AbortCode::Internal, ctx);
            }
            if !self.asked
                && let Some(request) = tunnel.connection.request().cloned()
            {
                self.asked = true;
                let (vault, registry) = self.front.providers();
                let (mailbox, index, id) = (ctx.mailbox.clone(), ctx.index, self.id);
                let tell = move |answer| mailbox.answered(index, id, answer);
                ctx.shared.asker.ask(request, vault, registry, tell);
            }
            if !tunnel.read() && !moved {
                return;
            }
        }
    }

    /// Takes what a vault or a registry has answered, if it was asked for this pair.
    pub fn answered(&mut self, id: PairId, answer: Answer, _ctx: &mut Context) {
        let Some(tunnel) = self.tunnel.as_mut().filter(|_| id == self.id) else { return };
        self.asked = false;
        if let Err(error) = tunnel.connection.answer(answer)
            && !matches!(error, Error::Closed | Error::WrongState)
        {
            tunnel.ended.get_or_insert(Ended::Refused(error));
        }
    }

    /// Awaits the client's OPEN, and what it asks for.
    fn await_open(&mut self, ctx: &mut Context) {
        let Some(tunnel) = &mut self.tunnel else { return };
        loop {
            let seen = tunnel.connection.peek().map(|message| {
                let event = tunnel.machine.receive(message);
                (matches!(event, Ok(Event::Opened)), event.err())
            });
            match seen {
                Ok((opened, error)) => {
                    tunnel.connection.consume();
                    if opened {
                        break;
                    }
                    let ending = match (error, tunnel.machine.abort_received()) {
                        (Some(error), _) => Ending::of_stream(error),
                        (None, Some(abort)) => Ending::Aborted(abort.clone()),
                        (None, None) => continue,
                    };
                    self.ending.get_or_insert(ending);
                    return self.leave_tunnel(ctx);
                }
                Err(_) if tunnel.read() => {}
                Err(_) => {
                    if let Some(ended) = &tunnel.ended {
                        self.ending.get_or_insert(match ended {
                            Ended::Closed(_) => Ending::Unused,
                            ended => Ending::of_tunnel(ended),
                        });
                        self.leave_tunnel(ctx);
                    }
                    return;
                }
            }
        }
        self.stage = Stage::Stream;
        let (Some(open), Some(key)) = (tunnel.machine.peer(), self.key) else { return };
        match self.front.route_of(open, self.peer, key) {
            Ok(route) => {
                self.route = Some(route);
                self.resolve(ctx);
            }
            Err(why) => {
                let asked = open.service.as_ref().map_or("no", |name| name.as_str());
                let why = match why {
                    NoRoute::Unknown => format!("the client asked for a service that is not here: {asked}"),
                    NoRoute::NotAllowed => format!("the client may not have the service: {asked}"),
                };
                self.ending.get_or_insert(Ending::Refused(why));
                self.give_up(AbortCode::NoService, ctx);
            }
        }
    }

    /// Both sides are there.
    fn open(&mut self, ctx: &mut Context) {
        if let (Some(tunnel), End::Serve(..)) = (&mut self.tunnel, &self.front.end) {
            // The client's OPEN has come, and this is the one answer. What has ended the stream
            // since is told when it runs.
            let _ = tunnel.machine.accept();
        }
        ctx.shared.metrics.opened.inc();
        ctx.shared.metrics.open.inc();
        self.opened = true;
        let key = self.key.map(|key| key.to_string()).unwrap_or_default();
        let to = self.route.as_ref().map_or_else(String::new, |route| route.to.to_string());
        tracing::info!(from = %self.from, key, to, "opened");
        self.phase = Phase::Running;
        (self.opened_at, self.moved) = (ctx.now, ctx.now);
        self.set_limits();
    }

    /// Ends both sides from here: the peer is told `code`, the local side is reset.
    pub fn give_up(&mut self, code: AbortCode, ctx: &mut Context) {
        if let Some(local) = self.local.take() {
            local.reset();
        }
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.machine.abort(code, "");
        }
        self.leave_tunnel(ctx);
    }

    /// The process ends: what has no stream yet is ended, later OPENs are refused.
    pub fn drain(&mut self, ctx: &mut Context) {
        let young =
            matches!(self.phase, Phase::Handshake | Phase::AwaitOpen | Phase::Resolving | Phase::Dialing(_));
        if self.serves() && young {
            self.shut_down(ctx);
        }
    }

    /// The process ends, and the time for that is over.
    pub fn shut_down(&mut self, ctx: &mut Context) {
        if !matches!(self.phase, Phase::Closing | Phase::Over) {
            self.ending.get_or_insert(Ending::ShutDown);
            self.give_up(AbortCode::ShuttingDown, ctx);
        }
    }

    /// Ends what leads to a service that its client may not have any more.
    pub fn recheck(&mut self, ctx: &mut Context) {
        let Some(open) = self.tunnel.as_ref().and_then(|tunnel| tunnel.machine.peer()) else { return };
        let (Some(key), Some(_)) = (self.key, &self.route) else { return };
        if self.serves() && self.front.route_of(open, self.peer, key).is_err() {
            self.ending.get_or_insert(Ending::Refused("its key may not have the service any more".into()));
            self.give_up(AbortCode::NoService, ctx);
        }
    }

    /// The local side could not be read any further, for a reason that it cannot tell itself.
    pub fn local_failed(&mut self, ctx: &mut Context) {
        self.ending.get_or_insert(Ending::LocalReset);
        self.give_up(AbortCode::LocalReset, ctx);
    }

    fn timed_out(&mut self, ctx: &mut Context) {
        match &self.phase {
            Phase::Resolving | Phase::Dialing(_) => {
                let what = "where it leads did not answer in time";
                self.ending.get_or_insert(Ending::TimeLimit(what));
                self.give_up(AbortCode::TimeLimit, ctx);
            }
            Phase::AwaitOpen => {
                self.ending.get_or_insert(Ending::TimeLimit("the client opened no stream within 10 s"));
                self.give_up(AbortCode::TimeLimit, ctx);
            }
            Phase::Running => self.limit_passed(ctx),
            Phase::Delivering => self.delivered(ctx),
            Phase::Closing => self.over(),
            Phase::Handshake | Phase::Over => {}
        }
    }

    /// Says farewell to the tunnel: what is queued goes out, and what comes is dropped. The local
    /// side is closed.
    fn leave_tunnel(&mut self, ctx: &mut Context) {
        self.local = None;
        let Some(tunnel) = &mut self.tunnel else { return self.over() };
        tunnel.queue_due();
        if tunnel.ended.is_some() || !tunnel.is_connected() {
            return self.over();
        }
        let serves = self.serves();
        self.phase = Phase::Closing;
        self.until = Some(ctx.now + if serves { SERVER_LINGER } else { CLIENT_LINGER });
        self.tell_end();
    }

    fn close(&mut self, ctx: &mut Context) -> Turn {
        let serves = self.serves();
        let Some(tunnel) = &mut self.tunnel else {
            self.over();
            return Turn::Over;
        };
        // What is due may have to wait for room.
        while tunnel.queue_due() | tunnel.write() {}
        let is_sent = !tunnel.connection.wants_write();
        // A client that gives nothing up lets the server end first.
        let aborts = !tunnel.machine.is_finished();
        if (serves || aborts) && is_sent {
            let _ = tunnel.socket.shutdown(std::net::Shutdown::Write);
        }
        match tunnel.drop_incoming(ctx.scratch) {
            Dropped::Some => return Turn::Again,
            Dropped::Ended if is_sent || tunnel.writable => self.over(),
            Dropped::Ended | Dropped::All => {}
        }
        Turn::Wait
    }

    fn over(&mut self) {
        self.tell_end();
        if let (Some(to), Some(ending)) = (self.report.take(), self.told.clone()) {
            let first_bytes = self.tunnel.as_ref().map_or(Vec::new(), |tunnel| tunnel.first_bytes().to_vec());
            // Nobody may wait for it any more.
            let _ = to.send(Report { ending, first_bytes, stage: self.stage });
        }
        (self.tunnel, self.local, self.until, self.tick_at) = (None, None, None, None);
        self.phase = Phase::Over;
    }

    /// Tells once how it ended: the log, and the counters.
    fn tell_end(&mut self) {
        if self.told.is_some() {
            return;
        }
        let unknown = || Ending::Cut("nobody said why".into());
        let mut ending = self.ending.take().unwrap_or_else(unknown);
        if self.opened {
            self.front.shared.metrics.open.dec();
        }
        let asked = if self.serves() { self.down } else { self.up };
        if asked == 0 && ending.is_given_up() || self.up + self.down == 0 && ending == Ending::Done {
            ending = Ending::Unused;
        }
        self.front.shared.metrics.count(&ending, self.up, self.down);
        let key = self.key.map(|key| key.to_string()).unwrap_or_default();
        let (from, up, down, secs) =
            (&self.from, self.up, self.down, (self.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0);
        match &ending {
            Ending::Unused => tracing::debug!(%from, key, "ended: {ending}"),
            // A server's observer has said it.
            Ending::Refused(_) if self.stage == Stage::Transport && self.serves() => {}
            Ending::Done | Ending::ShutDown => tracing::info!(%from, key, up, down, secs, "ended: {ending}"),
            _ => tracing::warn!(%from, key, up, down, secs, "ended: {ending}"),
        }
        self.told = Some(ending);
    }

    fn serves(&self) -> bool {
        self.front.serves()
    }
}
