//! The options that a program can set, and their defaults.

use crate::error::{Error, Result};
use crate::protocol::FRAME_MAX;
use crate::setters::setters;
use std::sync::Arc;
use std::time::Duration;

/// Limits and settings of connections, sockets and servers.
///
/// ```
/// # use curve_tun::connection::Options;
/// let options = Options::default().handshakes_max(256).keep_alive(false);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How long a handshake may take, from accept (or connect) to connected; at least 1 ms. Default
    /// 10 s.
    pub handshake_timeout: Duration,
    /// The bytes of received messages waiting for the receiver at which no more are taken from the
    /// transport. One further packet may come on top. At least 1, at most 1 GiB. Default 262,144.
    pub receive_high_water: usize,
    /// The bytes sealed and not yet taken by the transport at which sending says `WouldBlock`. At
    /// least 1, at most 4 GiB - 1. Default 67,108,864. Blocking sockets never reach it: they write
    /// before they return.
    pub send_high_water: usize,
    /// How many handshakes a server may have in flight; at least 1. Default 1,024.
    pub handshakes_max: u32,
    /// How many of these one source may have: an IPv4 address, or the /64 of an IPv6 address. 0,
    /// the default, sets no limit other than [`Options::handshakes_max`]. At either limit, a new
    /// handshake evicts the oldest one of the source that has the most.
    pub handshakes_per_source: u32,
    /// TCP_NODELAY: send small messages at once. Default true.
    pub no_delay: bool,
    /// TCP keep-alive, the first probe after 60 idle seconds. Default true.
    pub keep_alive: bool,
    /// The server's name, which its registry gets with each client, so that one registry can decide
    /// differently for several listeners. At most 255 bytes, no control characters. Default empty.
    pub listener: Arc<str>,
}

/// The upper limits of the high-water marks.
const RECEIVE_LIMIT: usize = 1 << 30;
const SEND_LIMIT: usize = u32::MAX as usize;
/// The most bytes in a listener's name.
const LISTENER_MAX: usize = 255;

impl Default for Options {
    fn default() -> Options {
        Options {
            handshake_timeout: Duration::from_secs(10),
            receive_high_water: 4 << 16,
            send_high_water: 1 << 26,
            handshakes_max: 1024,
            handshakes_per_source: 0,
            no_delay: true,
            keep_alive: true,
            listener: Arc::default(),
        }
    }
}

setters!(Options {
    handshake_timeout: Duration,
    receive_high_water: usize,
    send_high_water: usize,
    handshakes_max: u32,
    handshakes_per_source: u32,
    no_delay: bool,
    keep_alive: bool,
    listener: Arc<str>,
});

impl Options {
    /// Returns `InvalidArgument` unless every value is within its documented range.
    pub(crate) fn check(&self) -> Result<()> {
        let ok = self.handshake_timeout_ms() >= 1
            && (1..=RECEIVE_LIMIT).contains(&self.receive_high_water)
            && (1..=SEND_LIMIT).contains(&self.send_high_water)
            && self.handshakes_max >= 1
            && self.listener.len() <= LISTENER_MAX
            && !self.listener.contains(char::is_control);
        if ok { Ok(()) } else { Err(Error::InvalidArgument) }
    }

    /// Returns the handshake timeout in whole milliseconds.
    pub(crate) fn handshake_timeout_ms(&self) -> u64 {
        self.handshake_timeout.as_millis().try_into().unwrap_or(u64::MAX)
    }

    /// Returns how many handshakes one source may have in flight.
    pub(crate) fn share(&self) -> u32 {
        if self.handshakes_per_source == 0 { self.handshakes_max } else { self.handshakes_per_source }
    }

    /// Returns the most bytes that a receive buffer holds under these options.
    pub(crate) fn recv_buffer_max(&self) -> usize {
        self.receive_high_water + FRAME_MAX
    }
}
