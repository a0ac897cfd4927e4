//! Why there is no tunnel, as far as a client may know.

use super::super::failure::Failure;
use super::address::Address;
use super::ending::Ending;
use super::pair::Stage;
use curve_tun::PublicKey;

/// What has become of an attempt to have a stream.
pub struct Attempt<'a> {
    pub to: &'a Address,
    /// The key that this end has.
    pub own_key: PublicKey,
    /// How far it came.
    pub stage: Stage,
    pub ending: &'a Ending,
    /// The first bytes that came from the other end.
    pub first_bytes: &'a [u8],
}

impl Attempt<'_> {
    /// Says what went wrong, and what to do about it.
    pub fn failure(&self) -> Failure {
        let Attempt { to, ending, stage, .. } = self;
        if let (Stage::Dialing, _) | (_, Ending::Aborted(_)) = (stage, ending) {
            return self.told();
        }
        match stage {
            Stage::Dialing | Stage::Transport => self.no_handshake(),
            Stage::Tunnel => Failure::new(format_args!("{to} did not let us in: it closed the tunnel after the handshake")).hint(format_args!(
                "Either our key is not in the registry of the server, or it serves no streams. Have its operator run:\n  \
                 curve-tun peers add --registry FILE '*' {}",
                self.own_key
            )),
            Stage::Stream => Failure::new(format_args!("{to}: {ending}")),
        }
    }

    fn told(&self) -> Failure {
        let failure = Failure::new(format_args!("{}: {}", self.to, self.ending));
        let Ending::Aborted(abort) = self.ending else {
            return failure.hint("See whether the server runs there, and whether a firewall is in between.");
        };
        match abort.code.number() {
            6 => failure.hint("Name a service that the server has (--service NAME), or none. Its operator knows which keys may use it."),
            8 | 9 => failure.hint("The tunnel works. Check the service behind the server (its --to)."),
            11 => failure.hint("Try again later."),
            _ => failure,
        }
    }

    fn no_handshake(&self) -> Failure {
        let Attempt { to, ending, first_bytes, .. } = self;
        if let Some(what) = recognised(first_bytes) {
            return Failure::new(format_args!("{to}: {what} answers there, not curve_tun"))
                .hint("Check the port.");
        }
        match ending {
            Ending::Unused | Ending::Refused(_) if first_bytes.is_empty() => Failure::new(format_args!(
                "{to} closed the connection without an answer"
            ))
            .hint(
                "Most likely --server is not its key. Else it is overloaded, its vault has failed, or it is not curve_tun.",
            ),
            Ending::TimeLimit(_) => Failure::new(format_args!("{to} accepted the connection, and sent nothing: {ending}"))
                .hint("It may not be curve_tun, or be stuck, or a firewall drops what it sends."),
            _ => Failure::new(format_args!("{to}: the handshake failed: {ending}"))
                .hint("--server is not its key, or it is not curve_tun, or somebody in between answers for it."),
        }
    }
}

/// Recognises what mostly listens at a port that was meant for something else.
fn recognised(first_bytes: &[u8]) -> Option<&'static str> {
    match first_bytes {
        [b'S', b'S', b'H', b'-', ..] => Some("an SSH server"),
        [b'H', b'T', b'T', b'P', b'/', ..] => Some("an HTTP server"),
        [0x15 | 0x16, 3, ..] => Some("a TLS server"),
        [b'2', b'2', b'0', b' ' | b'-', ..] => Some("a mail or FTP server"),
        _ => None,
    }
}
