//! How a pair has ended: what its log line, the counters and the exit code say.

use super::tunnel::Ended;
use curve_tun::Error;
use curve_tun::stream::{Abort, AbortCode};
use std::fmt;

/// Why a pair is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both directions have ended as they should.
    Done,
    /// The local side ended before its first byte, as a health check does.
    Unused,
    /// The tunnel ended without an end of the stream.
    Cut(String),
    /// The local side was reset.
    LocalReset,
    /// The peer has given the stream up.
    Aborted(Abort),
    /// A limit of time has passed.
    TimeLimit(&'static str),
    /// It could not be connected to where it was to lead.
    Unreachable(String),
    /// There was no tunnel: the handshake failed, or no stream was opened.
    Refused(String),
    /// The process ends.
    ShutDown,
}

impl Ending {
    /// Says how a tunnel that was up has ended.
    pub fn of_tunnel(ended: &Ended) -> Ending {
        match ended {
            Ended::Closed(_) => Ending::Cut("the peer, or somebody in between, closed it".into()),
            Ended::Transport(error) => Ending::Cut(error.to_string()),
            Ended::Refused(error) => Ending::Cut(error.message().into()),
        }
    }

    /// Says how a handshake has failed.
    pub fn of_handshake(ended: &Ended) -> Ending {
        if let Ended::Refused(Error::Timeout) = ended {
            return Ending::TimeLimit("no answer within 10 s");
        }
        Ending::Refused(match ended {
            Ended::Closed(error) | Ended::Refused(error) => error.message().into(),
            Ended::Transport(error) => error.to_string(),
        })
    }

    /// Says whether the peer has given it up, and nothing was wrong.
    pub fn is_given_up(&self) -> bool {
        matches!(self, Ending::Aborted(abort) if abort.code == AbortCode::GivenUp)
    }

    pub fn of_stream(error: Error) -> Ending {
        match error {
            Error::NotAStream => Ending::Refused(error.message().into()),
            error => Ending::Cut(error.message().into()),
        }
    }
}

impl Ending {
    /// Returns the word that stands for it in a metric.
    pub fn word(&self) -> &'static str {
        match self {
            Ending::Done => "done",
            Ending::Unused => "unused",
            Ending::Cut(_) => "cut",
            Ending::LocalReset => "local_reset",
            Ending::Aborted(_) => "aborted",
            Ending::TimeLimit(_) => "time_limit",
            Ending::Unreachable(_) => "unreachable",
            Ending::Refused(_) => "refused",
            Ending::ShutDown => "shut_down",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Done => f.write_str("done"),
            Ending::Unused => f.write_str("closed before the first byte"),
            Ending::Cut(why) => write!(f, "cut: {why}"),
            Ending::LocalReset => f.write_str("the local side was reset"),
            Ending::Aborted(abort) if abort.text.is_empty() => write!(f, "{}", abort.code),
            Ending::Aborted(abort) => write!(f, "{}: {}", abort.code, abort.text.escape_debug()),
            Ending::TimeLimit(what) => f.write_str(what),
            Ending::Unreachable(why) | Ending::Refused(why) => f.write_str(why),
            Ending::ShutDown => f.write_str("this process is shutting down"),
        }
    }
}
