//! What becomes of a pair of directions, without I/O: each thing that happens at one side, and
//! what is to be done at the other.
//!
//! `up` goes from the local side into the tunnel, `down` from the tunnel to the local side. The
//! rule above all others: what was cut never looks like an end.

use curve_tun::stream::AbortCode;

/// How far a direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Bytes go on.
    Open,
    /// Its source has ended, and what it said is still on its way.
    Draining,
    /// Everything is there, and the end after it.
    Ended,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The local side has ended its writing.
    LocalEnd,
    /// The local side was reset, or cannot be written to.
    LocalFailed,
    /// The peer's END has come.
    TunnelEnd,
    /// All that the local side had to say has arrived, as far as this end can know.
    Arrived,
    /// All that came from the tunnel has been written to the local side.
    Written,
    /// The peer's ABORT has come, or the transport has ended, or a packet was refused. `orderly`
    /// says that the peer has closed a transport to which all was written.
    TunnelFailed { orderly: bool },
    /// This end gives both sides up.
    GiveUp(AbortCode),
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// Send END.
    Finish,
    /// Shut down the writing of the local side.
    ShutLocal,
    /// Reset the local side, now. The tunnel is over.
    ResetLocal,
    /// Reset the local side when the system has delivered what was written to it. The tunnel is
    /// over.
    ResetLocalWhenSent,
    /// Close the local side; send ABORT.
    Abort(AbortCode),
    /// Reset the local side; send ABORT.
    AbortAndReset(AbortCode),
}

/// A pair of directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pump {
    up: Flow,
    down: Flow,
    /// The tunnel has failed while the local side was still to be written to.
    tunnel_failed: bool,
    over: bool,
}

impl Pump {
    pub const fn new() -> Pump {
        Pump { up: Flow::Open, down: Flow::Open, tunnel_failed: false, over: false }
    }

    /// Says whether bytes of the local side are still to be read.
    pub const fn reads_local(&self) -> bool {
        matches!(self.up, Flow::Open) && !self.over && !self.tunnel_failed
    }

    /// Says whether a direction has ended, or is about to, and not both have.
    pub fn is_half_open(&self) -> bool {
        !self.is_over() && (self.up != Flow::Open || self.down != Flow::Open)
    }

    /// Says whether the local side has said everything, which may not have arrived yet.
    pub const fn awaits_arrival(&self) -> bool {
        matches!(self.up, Flow::Draining) && !self.over && !self.tunnel_failed
    }

    /// Says whether both directions have ended as they should.
    pub fn is_done(&self) -> bool {
        !self.over && !self.tunnel_failed && self.up == Flow::Ended && self.down == Flow::Ended
    }

    /// Says whether there is nothing more to be done.
    pub fn is_over(&self) -> bool {
        self.over || self.is_done()
    }

    pub fn step(&mut self, what: Happening) -> Step {
        if self.is_over() {
            return Step::Nothing;
        }
        match what {
            Happening::LocalEnd if self.up == Flow::Open && !self.tunnel_failed => {
                self.up = Flow::Draining;
                Step::Finish
            }
            Happening::Arrived if self.up == Flow::Draining && !self.tunnel_failed => {
                self.up = Flow::Ended;
                Step::Nothing
            }
            Happening::TunnelEnd if self.down == Flow::Open => {
                self.down = Flow::Draining;
                Step::Nothing
            }
            Happening::Written if self.down == Flow::Draining => {
                self.down = Flow::Ended;
                if self.tunnel_failed {
                    // The local side has the whole answer. That its own bytes did not arrive, it
                    // learns by the reset.
                    self.over = true;
                    return Step::ResetLocalWhenSent;
                }
                Step::ShutLocal
            }
            Happening::LocalEnd | Happening::Arrived | Happening::TunnelEnd | Happening::Written => {
                Step::Nothing
            }
            // It has said everything and has the whole answer: that it is gone is no failure.
            Happening::LocalFailed if self.up != Flow::Open && self.down == Flow::Ended => Step::Nothing,
            Happening::LocalFailed => {
                self.over = true;
                if self.tunnel_failed { Step::ResetLocal } else { Step::Abort(AbortCode::LocalReset) }
            }
            Happening::TunnelFailed { orderly } => match (self.up, self.down) {
                (_, Flow::Open) => {
                    self.over = true;
                    Step::ResetLocal
                }
                // A peer closes when it has everything.
                (Flow::Ended, Flow::Draining) if orderly => Step::Nothing,
                (_, Flow::Draining) => {
                    self.tunnel_failed = true;
                    Step::Nothing
                }
                (_, Flow::Ended) => {
                    self.over = true;
                    Step::ResetLocalWhenSent
                }
            },
            Happening::GiveUp(code) => {
                self.over = true;
                if self.tunnel_failed { Step::ResetLocal } else { Step::AbortAndReset(code) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Happening; 8] = [
        Happening::LocalEnd,
        Happening::Arrived,
        Happening::LocalFailed,
        Happening::TunnelEnd,
        Happening::Written,
        Happening::TunnelFailed { orderly: false },
        Happening::TunnelFailed { orderly: true },
        Happening::GiveUp(AbortCode::TimeLimit),
    ];

    /// Walks every order of up to six happenings, with what was true in it.
    fn walk(
        pump: Pump,
        seen: &mut Vec<(Happening, Step)>,
        visit: &mut impl FnMut(Pump, &[(Happening, Step)]),
    ) {
        visit(pump, seen);
        if seen.len() == 6 {
            return;
        }
        for what in ALL {
            let mut next = pump;
            let step = next.step(what);
            seen.push((what, step));
            walk(next, seen, visit);
            seen.pop();
        }
    }

    #[test]
    fn every_pair_of_states_keeps_the_rules() {
        let mut walked = 0;
        walk(Pump::new(), &mut Vec::new(), &mut |pump, seen| {
            walked += 1;
            let step = |wanted: Step| seen.iter().position(|(_, step)| *step == wanted);
            let ended = seen.iter().position(|(what, _)| *what == Happening::TunnelEnd);
            // The local side sees an end only after END.
            if let Some(shut) = step(Step::ShutLocal) {
                assert!(ended.is_some_and(|ended| ended < shut), "{seen:?}");
                let failed = seen[..shut]
                    .iter()
                    .any(|(what, _)| matches!(what, Happening::LocalFailed | Happening::GiveUp(_)));
                assert!(!failed, "{seen:?}");
            }
            // A cut before END resets at once, and nothing follows.
            for (at, (what, step)) in seen.iter().enumerate() {
                let open = !seen[..at].iter().any(|(what, _)| *what == Happening::TunnelEnd);
                let live = seen[..at]
                    .iter()
                    .all(|(_, step)| matches!(step, Step::Nothing | Step::Finish | Step::ShutLocal));
                if matches!(what, Happening::TunnelFailed { .. }) && open && live {
                    assert_eq!(*step, Step::ResetLocal, "{seen:?}");
                }
                if !live {
                    assert_eq!(*step, Step::Nothing, "{seen:?}");
                }
            }
            // END goes out once, and only for an end.
            let finishes = seen.iter().filter(|(_, step)| *step == Step::Finish).count();
            assert!(finishes <= 1, "{seen:?}");
            assert!(finishes == 0 || seen.iter().any(|(what, _)| *what == Happening::LocalEnd));
            // Done means both ends, and nothing else.
            let finished = step(Step::Finish);
            let arrived = finished
                .is_some_and(|finished| seen[finished..].iter().any(|(what, _)| *what == Happening::Arrived));
            assert_eq!(
                pump.is_done(),
                arrived
                    && step(Step::ShutLocal).is_some()
                    && seen
                        .iter()
                        .all(|(_, step)| { matches!(step, Step::Nothing | Step::Finish | Step::ShutLocal) }),
                "{seen:?}"
            );
        });
        assert!(walked > 100_000);
    }

    #[test]
    fn an_upload_that_fails_after_the_answer_resets_when_the_answer_is_out() {
        let mut pump = Pump::new();
        assert_eq!(pump.step(Happening::TunnelEnd), Step::Nothing);
        assert_eq!(pump.step(Happening::TunnelFailed { orderly: true }), Step::Nothing);
        assert!(!pump.reads_local());
        assert_eq!(pump.step(Happening::Written), Step::ResetLocalWhenSent);
        assert!(pump.is_over() && !pump.is_done());
    }
}
