//! A pair whose both sides are there: bytes go both ways until both have ended, or one has failed.

use super::super::descriptor::unsent;
use super::super::ending::Ending;
use super::super::front::{HALF_OPEN_LIMIT, STEP_LIMIT};
use super::super::pump::{Happening, Step};
use super::super::tunnel::{Ended, Tunnel};
use super::{Context, Local, Pair, Phase, Stage, Turn};
use curve_tun::Error;
use curve_tun::stream::{AbortCode, Event};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// How many bytes a pair moves in one turn, so that others have theirs.
const SHARE: usize = 512 << 10;
/// How long the local side has for the rest of what was written to it, before it is reset.
const DELIVERY_LIMIT: Duration = Duration::from_secs(2);
/// How long a client waits for the server's OPEN: the server has [`STEP_LIMIT`] to reach its
/// target, and its answer some time to come.
const OPEN_LIMIT: Duration = STEP_LIMIT.saturating_add(Duration::from_secs(2));
/// What the ping before an END carries.
const LAST_PING: [u8; 8] = *b"arrived?";
const DELIVERY_LOOK: Duration = Duration::from_millis(20);

impl Pair {
    /// Moves bytes as far as both sides go.
    pub(super) fn run(&mut self, ctx: &mut Context) -> Turn {
        let mut share = SHARE;
        while share > 0 {
            let before = self.up + self.down;
            let Some(tunnel) = &mut self.tunnel else { return Turn::Wait };
            let mut moved = tunnel.read();
            moved |= self.deliver(ctx);
            moved |= matches!(self.phase, Phase::Running) && self.take_local(ctx);
            moved |= matches!(self.phase, Phase::Running) && self.write_tunnel(ctx);
            if !matches!(self.phase, Phase::Running) {
                return Turn::Wait;
            }
            if !moved {
                self.set_limits();
                return Turn::Wait;
            }
            let count = self.up + self.down - before;
            if count > 0 {
                self.moved = ctx.now;
                // Its buffers are given back when it is idle.
                self.tick_at.get_or_insert(ctx.now + Duration::from_secs(1));
            }
            share = share.saturating_sub(usize::try_from(count).unwrap_or(SHARE).max(1024));
        }
        self.set_limits();
        Turn::Again
    }

    /// Writes to the local side what has come from the tunnel. Says whether anything moved.
    fn deliver(&mut self, ctx: &mut Context) -> bool {
        let mut moved = false;
        while let (Some(tunnel), Some(local)) = (&mut self.tunnel, &mut self.local) {
            match deliver_message(tunnel, local, &mut self.taken) {
                Delivered::Bytes(count) => {
                    self.down += count as u64;
                    moved = true;
                }
                Delivered::Other => moved = true,
                // A server's end has had it before it ran.
                Delivered::Opened => {
                    moved = true;
                    self.stage = Stage::Stream;
                    self.log_opened();
                }
                Delivered::Pong => {
                    self.awaits_pong = false;
                    moved = true;
                }
                Delivered::Full => break,
                Delivered::Happened(what) => {
                    moved = true;
                    if what == Happening::TunnelEnd {
                        self.happened(what, ctx);
                        // All that came before it has been written.
                        self.happened(Happening::Written, ctx);
                    } else {
                        self.happened(what, ctx);
                    }
                }
                Delivered::Nothing => {
                    if let Some(orderly) = self.tunnel_is_over() {
                        self.happened(Happening::TunnelFailed { orderly }, ctx);
                    }
                    break;
                }
            }
            if !matches!(self.phase, Phase::Running) {
                break;
            }
        }
        moved
    }

    /// Says that the tunnel has ended, and whether as it should.
    fn tunnel_is_over(&mut self) -> Option<bool> {
        let tunnel = self.tunnel.as_mut()?;
        tunnel.ended.as_ref()?;
        let orderly = tunnel.ended_orderly();
        tunnel.machine.transport_ended();
        if tunnel.machine.is_finished() && !tunnel.unsent {
            return Some(orderly);
        }
        self.stream_over();
        Some(false)
    }

    /// Seals what the local side has to say. Says whether anything moved.
    fn take_local(&mut self, ctx: &mut Context) -> bool {
        let (Some(tunnel), Some(local)) = (&mut self.tunnel, &mut self.local) else { return false };
        // OPEN goes first.
        tunnel.queue_due();
        if !self.pump.reads_local() || !local.readable || !tunnel.has_room() {
            return false;
        }
        // What the layer puts before the bytes is put before them here.
        let header_max = 8;
        let (header, body) = ctx.scratch.split_at_mut(header_max);
        let body_max = body.len().min(usize::from(u16::MAX) - 33);
        match (&local.socket).read(&mut body[..body_max]) {
            Ok(0) => {
                local.readable = false;
                self.happened(Happening::LocalEnd, ctx);
            }
            Ok(count) => {
                let piece = match tunnel.machine.data(&body[..count]) {
                    Ok(Some(piece)) if piece.body().len() == count => piece,
                    // A stream that is over is met by `deliver`.
                    _ => {
                        self.happened(Happening::GiveUp(AbortCode::Internal), ctx);
                        return true;
                    }
                };
                let from = header_max - piece.header().len();
                header[from..].copy_from_slice(piece.header());
                tunnel.send(&ctx.scratch[from..header_max + count]);
                self.up += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                local.readable = false;
                return false;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.happened(Happening::LocalFailed, ctx),
        }
        true
    }

    /// Writes to the tunnel; ends the pair when all has been said.
    fn write_tunnel(&mut self, ctx: &mut Context) -> bool {
        let Some(tunnel) = &mut self.tunnel else { return false };
        let mut moved = tunnel.queue_due();
        moved |= tunnel.write();
        let is_sent = !tunnel.machine.is_pending() && !tunnel.connection.wants_write();
        if is_sent && self.pump.awaits_arrival() && !self.awaits_pong {
            self.happened(Happening::Arrived, ctx);
        }
        if self.pump.is_done() {
            self.ending.get_or_insert(Ending::Done);
            self.leave_tunnel(ctx);
            return true;
        }
        moved
    }

    /// Does what follows from what has happened.
    fn happened(&mut self, what: Happening, ctx: &mut Context) {
        match self.pump.step(what) {
            Step::Nothing => {
                // Both ends were there, and the last of it did not go out.
                if matches!(what, Happening::TunnelFailed { .. }) && self.pump.is_over() {
                    self.ending.get_or_insert(Ending::Done);
                    self.leave_tunnel(ctx);
                }
            }
            Step::Finish => {
                let serves = self.serves();
                if let Some(tunnel) = &mut self.tunnel {
                    // A client wants to know that everything has arrived before it says so. A
                    // stream that is over is met by `deliver`.
                    self.awaits_pong = !serves && tunnel.machine.ping(LAST_PING).is_ok();
                    let _ = tunnel.machine.finish();
                }
            }
            Step::ShutLocal => {
                if let Some(local) = &self.local {
                    // It fails where the local side is gone, which the next read says.
                    let _ = local.socket.shutdown(Shutdown::Write);
                }
            }
            Step::ResetLocal => {
                self.stream_over();
                if let Some(local) = self.local.take() {
                    local.reset();
                }
                self.leave_tunnel(ctx);
            }
            Step::ResetLocalWhenSent => {
                if let Some(local) = &self.local {
                    let _ = local.socket.shutdown(Shutdown::Write);
                }
                self.stream_over();
                if let Some(tunnel) = &mut self.tunnel {
                    // The peer may have to be told what it did.
                    while tunnel.queue_due() | tunnel.write() {}
                }
                self.phase = Phase::Delivering;
                self.until = Some(ctx.now + DELIVERY_LIMIT);
                self.deliver_rest(ctx);
            }
            Step::Abort(code) => {
                self.ending.get_or_insert(Ending::LocalReset);
                if let Some(tunnel) = &mut self.tunnel {
                    tunnel.machine.abort(code, "");
                }
                self.leave_tunnel(ctx);
            }
            Step::AbortAndReset(code) => {
                self.stream_over();
                self.give_up(code, ctx);
            }
        }
    }

    /// Notes how the stream has ended before its end, unless that is noted.
    fn stream_over(&mut self) {
        let abort = self.tunnel.as_ref().and_then(|tunnel| tunnel.machine.abort_received());
        let ended = self.tunnel.as_ref().and_then(|tunnel| tunnel.ended.as_ref());
        let ending = match (abort, ended) {
            (Some(abort), _) => Ending::Aborted(abort.clone()),
            (None, Some(Ended::Closed(_))) if !self.serves() && self.stage < Stage::Stream => {
                Ending::Cut("the server closed it before it opened the stream: does it know our key?".into())
            }
            (None, Some(ended)) => Ending::of_tunnel(ended),
            (None, None) => Ending::Cut("the peer broke a rule of the stream layer".into()),
        };
        self.ending.get_or_insert(ending);
    }

    /// Resets the local side once the system has delivered what was written to it.
    pub(super) fn deliver_rest(&mut self, ctx: &mut Context) {
        match &self.local {
            Some(local) if unsent(&local.socket) > 0 => self.tick_at = Some(ctx.now + DELIVERY_LOOK),
            _ => self.delivered(ctx),
        }
    }

    pub(super) fn delivered(&mut self, ctx: &mut Context) {
        if let Some(local) = self.local.take() {
            local.reset();
        }
        self.leave_tunnel(ctx);
    }

    /// Sets when the next limit of time passes.
    pub(super) fn set_limits(&mut self) {
        self.until = self.limits().map(|(at, ..)| at).min();
    }

    fn limits(&self) -> impl Iterator<Item = (Instant, &'static str)> + use<> {
        let route = self.route.as_ref();
        let awaits_open =
            !self.serves() && self.tunnel.as_ref().is_some_and(|tunnel| tunnel.machine.peer().is_none());
        let open = awaits_open
            .then(|| (self.opened_at + OPEN_LIMIT, "no OPEN within 12 s: does the server speak streams?"));
        // Half-open, or one side is gone and the other takes nothing of what it has brought.
        let stuck = self.tunnel.as_ref().is_some_and(|tunnel| tunnel.hung_up || tunnel.ended.is_some())
            || self.local.as_ref().is_some_and(|local| local.failed);
        let half = (self.pump.is_half_open() || stuck)
            .then(|| (self.moved + HALF_OPEN_LIMIT, "half-open and silent for an hour"));
        let idle =
            route.and_then(|route| route.idle).map(|idle| (self.moved + idle, "idle for longer than --idle"));
        let lifetime = route
            .and_then(|route| route.lifetime)
            .map(|lifetime| (self.began + lifetime, "older than --max-lifetime"));
        [open, half, idle, lifetime].into_iter().flatten()
    }

    pub(super) fn limit_passed(&mut self, ctx: &mut Context) {
        let passed = self.limits().find(|(at, _)| *at <= ctx.now);
        if let Some((_, what)) = passed {
            self.ending.get_or_insert(Ending::TimeLimit(what));
            self.happened(Happening::GiveUp(AbortCode::TimeLimit), ctx);
        } else {
            self.set_limits();
        }
    }
}

/// What one look at the tunnel's next message gave.
enum Delivered {
    /// So many bytes went to the local side.
    Bytes(usize),
    /// The message was none of the stream's data.
    Other,
    /// The peer has opened the stream.
    Opened,
    /// The peer has answered.
    Pong,
    /// The local side takes nothing now.
    Full,
    /// There is no message.
    Nothing,
    Happened(Happening),
}

fn deliver_message(tunnel: &mut Tunnel, local: &mut Local, taken: &mut usize) -> Delivered {
    while !local.header.is_empty() {
        if !local.writable {
            return Delivered::Full;
        }
        match (&local.socket).write(&local.header) {
            Ok(count) => drop(local.header.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => local.writable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Delivered::Happened(Happening::LocalFailed),
        }
    }
    let message = match tunnel.connection.peek() {
        Ok(message) => message,
        Err(_) => return Delivered::Nothing,
    };
    if *taken == 0 {
        let event = tunnel.machine.receive(message);
        if let Ok(Event::Bytes(bytes)) = event {
            *taken = message.len() - bytes.len();
        } else {
            let what = match event {
                Ok(Event::End) => Some(Happening::TunnelEnd),
                Ok(Event::Aborted) | Err(_) => Some(Happening::TunnelFailed { orderly: false }),
                _ => None,
            };
            if event == Err(Error::NotAStream) {
                // It would take an ABORT for a message.
                tunnel.ended.get_or_insert(Ended::Refused(Error::NotAStream));
            }
            let seen = match event {
                Ok(Event::Opened) => Delivered::Opened,
                Ok(Event::Pong) => Delivered::Pong,
                _ => Delivered::Other,
            };
            tunnel.connection.consume();
            return what.map_or(seen, Delivered::Happened);
        }
    }
    if !local.writable {
        return Delivered::Full;
    }
    match (&local.socket).write(&message[*taken..]) {
        Ok(count) => {
            *taken += count;
            if *taken == message.len() {
                *taken = 0;
                tunnel.connection.consume();
            }
            Delivered::Bytes(count)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            local.writable = false;
            Delivered::Full
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Delivered::Bytes(0),
        Err(_) => Delivered::Happened(Happening::LocalFailed),
    }
}
