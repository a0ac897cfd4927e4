//! # Options

use super::boundary::{flag, given, string};
use super::growing::{self, growing};
use crate::connection::Options;
use crate::error::{Error, Result};
use std::ffi::c_char;
use std::time::Duration;

/// Limits and settings of connections, sockets and servers. 0 in a field means its default, which
/// `CURVE_TUN_OPTIONS_INIT` sets; a function that takes options takes NULL for the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_options {
    /// `sizeof(curve_tun_options)`.
    pub size: usize,
    /// Milliseconds from accept (or connect) to connected. 0 for 10,000.
    pub handshake_timeout_ms: i64,
    /// The bytes of received messages waiting for the receiver at which no more are taken from the
    /// transport. One further packet may come on top. At most 1 GiB. 0 for 262,144.
    pub receive_high_water: usize,
    /// The bytes sealed and not yet taken by the transport at which `curve_tun_connection_send`
    /// returns `CURVE_TUN_ERR_WOULD_BLOCK`. At most 4 GiB - 1. 0 for 67,108,864. Blocking sockets
    /// never reach it.
    pub send_high_water: usize,
    /// How many handshakes a server may have in flight. 0 for 1,024.
    pub handshakes_max: u32,
    /// How many of these one source may have: an IPv4 address, or the /64 of an IPv6 address. 0
    /// sets no limit other than `handshakes_max`. At either limit, a new handshake evicts the
    /// oldest one of the source that has the most (`curve_tun_connection_on_evict`).
    pub handshakes_per_source: u32,
    /// Flag: 1 for Nagle's algorithm, by which small messages wait for one another; 0 sends them at
    /// once (TCP_NODELAY). Sockets only.
    pub nagle: u32,
    /// Flag: 1 for no TCP keep-alive; 0 for one with the first probe after 60 idle seconds. Sockets
    /// only.
    pub no_keep_alive: u32,
    /// The server's name, which its registry gets with each client, so that one registry can decide
    /// differently for several listeners: a string of at most 255 bytes without control characters,
    /// copied. NULL for none.
    pub listener: *const c_char,
}

growing!(given curve_tun_options, size_of::<usize>());

/// The most bytes in a listener's name.
const LISTENER_MAX: usize = 255;

/// Reads the caller's options; their ranges are checked where they are used.
///
/// # Safety
/// As [`growing::read`].
pub(super) unsafe fn read_options(place: *const curve_tun_options) -> Result<Options> {
    let default = Options::default();
    // SAFETY: the caller's promise.
    let Some(options) = given(place, |place| unsafe { growing::read(place) })? else { return Ok(default) };
    // SAFETY: the caller's promise.
    let listener =
        given(options.listener, |text| unsafe { string(text, LISTENER_MAX, Error::InvalidArgument) })?;
    Ok(Options {
        handshake_timeout: milliseconds(options.handshake_timeout_ms, default.handshake_timeout)?,
        receive_high_water: or(options.receive_high_water, default.receive_high_water),
        send_high_water: or(options.send_high_water, default.send_high_water),
        handshakes_max: or(options.handshakes_max, default.handshakes_max),
        handshakes_per_source: options.handshakes_per_source,
        no_delay: !flag(options.nagle)?,
        keep_alive: !flag(options.no_keep_alive)?,
        listener: listener.unwrap_or_default().into(),
    })
}

/// Returns an option, or its default for 0.
pub(super) fn or<T: Default + PartialEq>(value: T, default: T) -> T {
    if value == T::default() { default } else { value }
}

/// As [`or`], for a time: `InvalidArgument` for a negative one.
pub(super) fn milliseconds(value: i64, default: Duration) -> Result<Duration> {
    let value = value.try_into().map_err(|_| Error::InvalidArgument)?;
    Ok(or(Duration::from_millis(value), default))
}
