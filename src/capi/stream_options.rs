//! # Options of streams, and why streams are aborted

use super::boundary::{given, string};
use super::connection::{CURVE_TUN_IP_BYTES_MAX, ip_of_bytes};
use super::growing::{self, growing};
use super::options::or;
use crate::error::{Error, Result};
use crate::stream::{AbortCode, Open, Options, ServiceName};
use std::ffi::c_char;
use std::net::{IpAddr, SocketAddr};

/// A stream of bytes, without borders between them.
pub const CURVE_TUN_MODE_STREAM: u32 = 0;
/// Messages, of up to 4,294,967,295 bytes each.
pub const CURVE_TUN_MODE_MESSAGES: u32 = 1;

/// A buffer of this size is large enough for the name of any service and its final zero.
pub const CURVE_TUN_SERVICE_SIZE: usize = 68;

/// How a stream is used. 0 in a field means its default, which `CURVE_TUN_STREAM_OPTIONS_INIT`
/// sets; a function that takes options takes NULL for the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_stream_options {
    /// `sizeof(curve_tun_stream_options)`.
    pub size: usize,
    /// What the stream carries: `CURVE_TUN_MODE_STREAM` or `CURVE_TUN_MODE_MESSAGES`. Both ends are
    /// told the same.
    pub mode: u32,
    /// The largest message that this end takes, in bytes; less than 65,502 counts as 65,502. 0 for
    /// 16,777,216. No meaning in `CURVE_TUN_MODE_STREAM`.
    pub message_max: u32,
    /// The service that a client asks for: 1 to 64 of `a` to `z`, `0` to `9`, `.`, `_` and `-`,
    /// copied. NULL for none. No meaning for a server.
    pub service: *const c_char,
    /// For whom a client forwards: an address of `client_ip_len` bytes, in network byte order. No
    /// meaning for a server.
    pub client_ip: [u8; CURVE_TUN_IP_BYTES_MAX],
    /// 4 for IPv4, 16 for IPv6, 0 for no address.
    pub client_ip_len: u32,
    /// The port that belongs to that address.
    pub client_port: u32,
}

growing!(given curve_tun_stream_options, size_of::<usize>());

/// What the peer said when it opened the stream: `CURVE_TUN_STREAM_PEER_INIT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_stream_peer {
    /// `sizeof(curve_tun_stream_peer)`.
    pub size: usize,
    /// The largest message that the peer takes, in bytes; 0 in `CURVE_TUN_MODE_STREAM`.
    pub message_max: u32,
    /// 4 or 16 if the peer is a client that said for whom it forwards; otherwise 0.
    pub client_ip_len: u32,
    /// That address, in network byte order. Nothing proves it: believe only peers that may say so.
    pub client_ip: [u8; CURVE_TUN_IP_BYTES_MAX],
    /// The port that belongs to that address; otherwise 0.
    pub client_port: u32,
    /// The service that the peer, a client, asks for: a string; empty for none.
    pub service: [c_char; CURVE_TUN_SERVICE_SIZE],
}

growing!(filled curve_tun_stream_peer, size_of::<curve_tun_stream_peer>());

/// The stream was given up, or freed before it had ended; also every code that is not known here.
pub const CURVE_TUN_ABORT_GIVEN_UP: u32 = 0;
/// The other end broke a rule of the stream layer.
pub const CURVE_TUN_ABORT_PROTOCOL: u32 = 1;
/// A defect, or something that the system refused.
pub const CURVE_TUN_ABORT_INTERNAL: u32 = 2;
/// What the stream was forwarded from or to has been reset.
pub const CURVE_TUN_ABORT_LOCAL_RESET: u32 = 3;
/// The program is about to end.
pub const CURVE_TUN_ABORT_SHUTTING_DOWN: u32 = 4;
/// A limit of time has passed.
pub const CURVE_TUN_ABORT_TIME_LIMIT: u32 = 5;
/// There is no service of this name for this key.
pub const CURVE_TUN_ABORT_NO_SERVICE: u32 = 6;
/// Nothing listens at the address behind the server.
pub const CURVE_TUN_ABORT_TARGET_REFUSED: u32 = 8;
/// The address behind the server cannot be reached.
pub const CURVE_TUN_ABORT_TARGET_UNREACHABLE: u32 = 9;
/// A message was announced that is larger than its receiver takes.
pub const CURVE_TUN_ABORT_TOO_LARGE: u32 = 10;
/// A limit of connections or of memory is reached.
pub const CURVE_TUN_ABORT_BUSY: u32 = 11;

const CODES: [u32; 11] = [
    CURVE_TUN_ABORT_GIVEN_UP,
    CURVE_TUN_ABORT_PROTOCOL,
    CURVE_TUN_ABORT_INTERNAL,
    CURVE_TUN_ABORT_LOCAL_RESET,
    CURVE_TUN_ABORT_SHUTTING_DOWN,
    CURVE_TUN_ABORT_TIME_LIMIT,
    CURVE_TUN_ABORT_NO_SERVICE,
    CURVE_TUN_ABORT_TARGET_REFUSED,
    CURVE_TUN_ABORT_TARGET_UNREACHABLE,
    CURVE_TUN_ABORT_TOO_LARGE,
    CURVE_TUN_ABORT_BUSY,
];

/// A buffer of this size is large enough for the text of any abort and its final zero.
pub const CURVE_TUN_ABORT_TEXT_SIZE: usize = 256;

/// Reads the caller's options; `InvalidArgument` for one that is out of range.
///
/// # Safety
/// As [`growing::read`].
pub(super) unsafe fn read_stream_options(place: *const curve_tun_stream_options) -> Result<Options> {
    // SAFETY: the caller's promise.
    let Some(options) = given(place, |place| unsafe { growing::read(place) })? else {
        return Ok(Options::stream());
    };
    let read = match options.mode {
        CURVE_TUN_MODE_STREAM => Options::stream(),
        CURVE_TUN_MODE_MESSAGES => Options::messages(),
        _ => return Err(Error::InvalidArgument),
    };
    // SAFETY: the caller's promise.
    let service = given(options.service, |text| unsafe {
        string(text, CURVE_TUN_SERVICE_SIZE, Error::InvalidArgument)?.parse()
    })?;
    let message_max = or(options.message_max, read.message_max);
    Ok(read.message_max(message_max).service(service).client_address(client_address(&options)?))
}

fn client_address(options: &curve_tun_stream_options) -> Result<Option<SocketAddr>> {
    let port = u16::try_from(options.client_port).map_err(|_| Error::InvalidArgument)?;
    let len = options.client_ip_len as usize;
    if len == 0 {
        return Ok(None);
    }
    let ip = options.client_ip.get(..len).and_then(ip_of_bytes).ok_or(Error::InvalidArgument)?;
    Ok(Some(SocketAddr::new(ip, port)))
}

/// Returns what the peer said, for C.
pub(super) fn peer_of(open: &Open) -> curve_tun_stream_peer {
    let mut peer = curve_tun_stream_peer {
        size: size_of::<curve_tun_stream_peer>(),
        message_max: open.message_max,
        client_ip_len: 0,
        client_ip: [0; CURVE_TUN_IP_BYTES_MAX],
        client_port: 0,
        service: [0; CURVE_TUN_SERVICE_SIZE],
    };
    if let Some(address) = open.client_address {
        peer.client_port = address.port().into();
        match address.ip() {
            IpAddr::V4(ip) => {
                peer.client_ip_len = 4;
                peer.client_ip[..4].copy_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                peer.client_ip_len = 16;
                peer.client_ip = ip.octets();
            }
        }
    }
    // A name has at most 64 bytes, so the last ones stay zero.
    let name = open.service.as_ref().map_or("", ServiceName::as_str);
    peer.service.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte as c_char);
    peer
}

/// Reads a code and a text for an abort; `InvalidArgument` if there is no such code, or if the text
/// is longer than an abort carries.
///
/// # Safety
/// `text` is NULL or ends with a zero, and does not change during the call.
pub(super) unsafe fn read_abort<'a>(code: u32, text: *const c_char) -> Result<(AbortCode, &'a str)> {
    if !CODES.contains(&code) {
        return Err(Error::InvalidArgument);
    }
    let code = AbortCode::from_number(u16::try_from(code).map_err(|_| Error::InvalidArgument)?);
    let most = CURVE_TUN_ABORT_TEXT_SIZE - 1;
    // SAFETY: the caller's promise.
    let text = given(text, |text| unsafe { string(text, most, Error::InvalidArgument) })?;
    Ok((code, text.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Mode;

    #[test]
    fn every_code_has_its_constant() {
        let numbers: Vec<u32> = AbortCode::all().iter().map(|code| code.number().into()).collect();
        assert_eq!(CODES.to_vec(), numbers);
        assert_eq!(
            (CURVE_TUN_MODE_STREAM, CURVE_TUN_MODE_MESSAGES),
            (Mode::Stream as u32, Mode::Messages as u32)
        );
    }
}
