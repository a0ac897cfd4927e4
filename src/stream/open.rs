//! OPEN, the first message of each direction (PROTOCOL.md, section 13.2).

use super::message::{OPEN, PIECE_MAX, Violation};
use crate::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// What tells a stream from a program's own messages.
pub(super) const MAGIC: &[u8; 8] = b"ctstrm01";

/// Who does not know a field of such a type must not go on.
const MUST_KNOW: u8 = 0x80;
const SERVICE: u8 = 1;
const CLIENT_ADDRESS: u8 = 2;

/// What a stream carries. Both ends are told the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// Bytes, without borders between them.
    Stream = 0,
    /// Messages, of up to 4,294,967,295 bytes each.
    Messages = 1,
}

/// The name of a service: 1 to 64 of `a` to `z`, `0` to `9`, `.`, `_` and `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(String);

impl ServiceName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = Error;

    /// # Errors
    /// `InvalidArgument` if the text is not such a name.
    fn from_str(text: &str) -> Result<ServiceName, Error> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if !(1..=64).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(Error::InvalidArgument);
        }
        Ok(ServiceName(text.to_owned()))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What an end says of itself when it opens a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Open {
    /// What it carries.
    pub mode: Mode,
    /// The largest message that the end takes, in bytes: at least 65,502, or 0 where the mode is
    /// `Stream`.
    pub message_max: u32,
    /// The service that a client asks for.
    pub service: Option<ServiceName>,
    /// For whom a client forwards, as it says; nothing proves it.
    pub client_address: Option<SocketAddr>,
}

impl Open {
    /// As a message of the layer.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut message = vec![OPEN];
        message.extend_from_slice(MAGIC);
        message.push(self.mode as u8);
        message.extend_from_slice(&self.message_max.to_be_bytes());
        let mut field = |number: u8, parts: &[&[u8]]| {
            let len: usize = parts.iter().map(|part| part.len()).sum();
            message.push(number);
            // A name has at most 64 bytes, an address 19.
            message.extend_from_slice(&(len as u16).to_be_bytes());
            parts.iter().for_each(|part| message.extend_from_slice(part));
        };
        if let Some(service) = &self.service {
            field(SERVICE, &[service.0.as_bytes()]);
        }
        if let Some(address) = self.client_address {
            let port = address.port().to_be_bytes();
            match address.ip().to_canonical() {
                IpAddr::V4(ip) => field(CLIENT_ADDRESS, &[&[4], &ip.octets(), &port]),
                IpAddr::V6(ip) => field(CLIENT_ADDRESS, &[&[6], &ip.octets(), &port]),
            }
        }
        message
    }

    /// Reads what stands after the magic; `from_client` says whose it is, for a server has no
    /// fields.
    pub(super) fn parse(body: &[u8], from_client: bool) -> Result<Open, Violation> {
        let (mode, rest) = body.split_first().ok_or(Violation)?;
        let (message_max, mut fields) = rest.split_first_chunk().ok_or(Violation)?;
        let message_max = u32::from_be_bytes(*message_max);
        let mode = match (mode, message_max) {
            (0, 0) => Mode::Stream,
            (1, PIECE_MAX..) => Mode::Messages,
            _ => return Err(Violation),
        };
        let mut open = Open { mode, message_max, service: None, client_address: None };
        let mut last = 0;
        while let Some((&[number, high, low], rest)) = fields.split_first_chunk() {
            let len = usize::from(u16::from_be_bytes([high, low]));
            let (value, rest) = rest.split_at_checked(len).ok_or(Violation)?;
            if number <= last {
                return Err(Violation);
            }
            match number {
                SERVICE if from_client => open.service = Some(service(value)?),
                CLIENT_ADDRESS if from_client => open.client_address = Some(address(value)?),
                SERVICE | CLIENT_ADDRESS | MUST_KNOW.. => return Err(Violation),
                _ => {}
            }
            (last, fields) = (number, rest);
        }
        if fields.is_empty() { Ok(open) } else { Err(Violation) }
    }
}

fn service(value: &[u8]) -> Result<ServiceName, Violation> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Violation)
}

fn address(value: &[u8]) -> Result<SocketAddr, Violation> {
    let (rest, port) = value.split_last_chunk().ok_or(Violation)?;
    let ip = match rest.split_first() {
        Some((4, ip)) => IpAddr::from(<[u8; 4]>::try_from(ip).map_err(|_| Violation)?),
        Some((6, ip)) => IpAddr::from(<[u8; 16]>::try_from(ip).map_err(|_| Violation)?),
        _ => return Err(Violation),
    };
    Ok(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}
