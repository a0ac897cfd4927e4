//! How a pair comes to be: the name of where it leads, the connection there, the handshake, OPEN.

use super::super::address::Address;
use super::super::dial::{Dial, Dialed, Resolved, explain, is_shortage, set_options};
use super::super::ending::Ending;
use super::super::front::{End, NoRoute, STEP_LIMIT};
use super::super::tunnel::{Ended, Tunnel};
use super::super::worker::Side;
use super::{Context, Local, Pair, PairId, Phase, Stage};
use curve_tun::Error;
use curve_tun::connection::Answer;
use curve_tun::stream::{AbortCode, Event};
use socket2::Socket;
use std::io;
use std::time::Duration;

/// Why a socket is given up that the system would not watch.
const NO_MORE: &str = "this process can wait for no more sockets";

impl Pair {
    /// Finds the addresses of where it leads.
    pub(super) fn resolve(&mut self, ctx: &mut Context) {
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

    pub(super) fn dialed(&mut self, dialed: Dialed, ctx: &mut Context) {
        let side = if self.tunnel.is_some() { Side::Local } else { Side::Tunnel };
        match dialed {
            Dialed::Pending => {
                // A socket that is polled already stays so.
                if let Phase::Dialing(dial) = &mut self.phase
                    && let Some(socket) = dial.new_socket()
                    && ctx.poller.add(socket, ctx.index, side).is_err()
                {
                    self.unreachable(AbortCode::Busy, NO_MORE.into(), ctx);
                }
            }
            Dialed::Failed(error) => {
                let Some(route) = self.route.clone() else { return };
                let code = match error.kind() {
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => AbortCode::TargetRefused,
                    io::ErrorKind::TimedOut => AbortCode::TimeLimit,
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
                        let header = match self.header() {
                            Ok(header) if ctx.poller.add(&socket, ctx.index, side).is_ok() => header,
                            _ => return self.unreachable(AbortCode::Busy, NO_MORE.into(), ctx),
                        };
                        self.local = Some(Local { header, ..Local::new(socket) });
                        self.open(ctx);
                    }
                }
            }
        }
    }

    /// Returns what the target hears first.
    fn header(&self) -> io::Result<Vec<u8>> {
        let header = self.route.as_ref().and_then(|route| route.proxy);
        let (Some(header), Some(peer), Some(key)) = (header, self.peer, &self.key) else {
            return Ok(Vec::new());
        };
        let local = self.tunnel.as_ref().map(|tunnel| tunnel.socket.local_addr()).transpose()?;
        let local = local.and_then(|local| local.as_socket()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        header.encode(peer, local, key)
    }

    pub(super) fn unreachable(&mut self, code: AbortCode, why: String, ctx: &mut Context) {
        self.ending.get_or_insert(Ending::Unreachable(why));
        self.give_up(code, ctx);
    }

    /// Begins the handshake on a transport that is connected.
    pub(super) fn shake_hands(&mut self, socket: Socket, ctx: &mut Context) {
        self.stage = Stage::Transport;
        if ctx.poller.add(&socket, ctx.index, Side::Tunnel).is_err() {
            return self.unreachable(AbortCode::Busy, NO_MORE.into(), ctx);
        }
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

    pub(super) fn go_on_shaking(&mut self, ctx: &mut Context) {
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

    /// Says that the stream is open at both ends.
    pub(super) fn log_opened(&mut self) {
        let metrics = &self.front.shared.metrics;
        metrics.opened.inc();
        metrics.open.inc();
        self.opened = true;
        let key = self.key.map(|key| key.to_string()).unwrap_or_default();
        let (service, to) =
            self.route.as_ref().map_or_else(Default::default, |route| (&*route.name, route.to.to_string()));
        tracing::info!(from = %self.from, service, key, to, "opened");
    }

    /// Awaits the client's OPEN, and what it asks for.
    pub(super) fn await_open(&mut self, ctx: &mut Context) {
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
                let asked = open.service.as_ref().map(|name| name.as_str());
                let why = match (why, asked) {
                    (NoRoute::Unknown, Some(asked)) => format!("there is no service {asked} here"),
                    (NoRoute::Unknown, None) => {
                        "the client named no service, and there is no default one".into()
                    }
                    (NoRoute::NotAllowed, asked) => {
                        format!("the key may not use the service {}", asked.unwrap_or("default"))
                    }
                };
                self.ending.get_or_insert(Ending::Refused(why));
                self.give_up(AbortCode::NoService, ctx);
            }
        }
    }

    /// Both sides are there.
    pub(super) fn open(&mut self, ctx: &mut Context) {
        if let (Some(tunnel), End::Serve(..)) = (&mut self.tunnel, &self.front.end) {
            // The client's OPEN has come, and this is the one answer. What has ended the stream
            // since is told when it runs.
            let _ = tunnel.machine.accept();
        }
        if self.serves() {
            self.log_opened();
        }
        self.phase = Phase::Running;
        (self.opened_at, self.moved) = (ctx.now, ctx.now);
        self.set_limits();
    }
}
