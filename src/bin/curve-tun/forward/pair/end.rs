//! How a pair ends: what its peer and its local side see of it, and who is told.

use super::super::ending::Ending;
use super::super::tunnel::Dropped;
use super::{Context, Pair, Phase, Report, Stage, Turn};
use curve_tun::stream::AbortCode;
use std::time::Duration;

/// How long an end whose stream is over waits for the transport's end: a server, which lets the
/// client go first, and a client.
const SERVER_LINGER: Duration = Duration::from_secs(2);
const CLIENT_LINGER: Duration = Duration::from_secs(1);

impl Pair {
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
            self.ending.get_or_insert(Ending::Refused("the key may no longer use the service".into()));
            self.give_up(AbortCode::NoService, ctx);
        }
    }

    /// The local side could not be read any further, for a reason that it cannot tell itself.
    pub fn local_failed(&mut self, ctx: &mut Context) {
        self.ending.get_or_insert(Ending::LocalReset);
        self.give_up(AbortCode::LocalReset, ctx);
    }

    pub(super) fn timed_out(&mut self, ctx: &mut Context) {
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
    pub(super) fn leave_tunnel(&mut self, ctx: &mut Context) {
        if let Some(local) = self.local.take() {
            if self.pump.is_done() { local.close() } else { local.reset() }
        }
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

    pub(super) fn close(&mut self, ctx: &mut Context) -> Turn {
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

    pub(super) fn over(&mut self) {
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
    pub(super) fn tell_end(&mut self) {
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
        let service = self.route.as_ref().map_or("", |route| &route.name);
        let (from, up, down, secs) =
            (&self.from, self.up, self.down, (self.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0);
        match &ending {
            Ending::Unused if !self.opened => tracing::debug!(%from, service, key, "ended: {ending}"),
            // A server's observer has said it.
            Ending::Refused(_) if self.stage == Stage::Transport && self.serves() => {}
            Ending::Done | Ending::Unused | Ending::ShutDown => {
                tracing::info!(%from, service, key, up, down, secs, "ended: {ending}")
            }
            _ => tracing::warn!(%from, service, key, up, down, secs, "ended: {ending}"),
        }
        self.told = Some(ending);
    }

    pub(super) fn serves(&self) -> bool {
        self.front.serves()
    }
}
