//! # Options

use super::boundary::{catch_ok, flag, growing, out, string};
use super::result::curve_tun_result;
use crate::connection::Options;
use crate::error::{Error, Result};
use std::ffi::c_char;

/// Limits and habits of connections, sockets and servers. Call `curve_tun_options_default`, then
/// change what is to be different.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_options {
    /// `sizeof(curve_tun_options)`; `curve_tun_options_default` sets it.
    pub size: usize,
    /// Milliseconds from accept (or connect) to connected; at least 1. Default 10,000.
    pub handshake_timeout_ms: u64,
    /// Bytes of received messages that wait for the receiver, from which on no more are taken from
    /// the transport; one further packet may come on top. At least 1, at most 1 GiB. Default
    /// 262,144.
    pub receive_high_water: usize,
    /// Bytes sealed and not yet taken by the transport, from which on `curve_tun_connection_send`
    /// returns `CURVE_TUN_ERR_WOULD_BLOCK`. At least 1, at most 4 GiB - 1. Default 67,108,864.
    /// Blocking sockets never reach it.
    pub send_high_water: usize,
    /// How many handshakes a server has in flight at most; at least 1. Default 1,024.
    pub handshakes_max: u32,
    /// Flag: TCP_NODELAY, small messages are sent at once. Default 1. Sockets only.
    pub no_delay: u32,
    /// Flag: TCP keep-alive, with the first probe after 60 idle seconds. Default 1. Sockets only.
    pub keep_alive: u32,
    /// How many of its handshakes in flight a server has from one source at most: an IPv4 address,
    /// or the /64 of an IPv6 address. 0, the default, sets no limit beside `handshakes_max`. At
    /// either limit, the oldest handshake of the source that has most is evicted
    /// (`curve_tun_connection_on_evict`).
    pub handshakes_per_source: u32,
    /// A server's name, which its registry is told of each client, so that one registry can decide
    /// differently for several listeners: a string of at most 255 bytes without control characters,
    /// copied; NULL is none. Default NULL.
    pub listener: *const c_char,
}

/// The most bytes in a listener's name.
const LISTENER_MAX: usize = 255;

/// Fills in the default values, and `size`; what was there before does not matter. If the struct
/// ever grows, this function goes on filling it as it is here, and a later header brings another.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_options_default(options: *mut curve_tun_options) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let mut out = unsafe { out(options)? };
        let defaults = Options::default();
        out.set(curve_tun_options {
            size: size_of::<curve_tun_options>(),
            handshake_timeout_ms: defaults.handshake_timeout_ms,
            receive_high_water: defaults.receive_high_water,
            send_high_water: defaults.send_high_water,
            handshakes_max: defaults.handshakes_max,
            no_delay: defaults.no_delay.into(),
            keep_alive: defaults.keep_alive.into(),
            handshakes_per_source: defaults.handshakes_per_source,
            listener: std::ptr::null(),
        });
        Ok(())
    })
}

/// The options that a caller gave; their ranges are checked where they are used.
///
/// # Safety
/// As [`growing`].
pub(super) unsafe fn read_options(place: *const curve_tun_options) -> Result<Options> {
    // SAFETY: the caller's promise; the struct has integers and a string that may be NULL.
    let options = unsafe { growing(place)? };
    let listener = if options.listener.is_null() {
        ""
    } else {
        // SAFETY: the caller's promise.
        unsafe { string(options.listener, LISTENER_MAX, Error::InvalidArgument)? }
    };
    Ok(Options {
        handshake_timeout_ms: options.handshake_timeout_ms,
        receive_high_water: options.receive_high_water,
        send_high_water: options.send_high_water,
        handshakes_max: options.handshakes_max,
        handshakes_per_source: options.handshakes_per_source,
        no_delay: flag(options.no_delay)?,
        keep_alive: flag(options.keep_alive)?,
        listener: listener.into(),
    })
}
