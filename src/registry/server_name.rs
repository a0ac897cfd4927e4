//! What a client calls a server.

use crate::error::{Error, Result};
use std::net::IpAddr;
use std::{fmt, str::FromStr};

/// The most characters in a host name (RFC 1035, section 2.3.4, as text without the final dot).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// A server as a client connects to it: host and port.
///
/// Its text is `[host]:port`. The host is an address or a name; names are
/// compared without regard to case and to a final dot, and an IPv4-mapped IPv6
/// address is the IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName {
    host: Box<str>,
    port: u16,
}

impl ServerName {
    /// The server at `host`, an address or a name, and `port`.
    ///
    /// # Errors
    /// `InvalidArgument` for port 0, and for a host that is neither an address nor a name of ASCII letters, digits,
    /// `-`, `_` and dots.
    pub fn new(host: &str, port: u16) -> Result<ServerName> {
        if port == 0 {
            return Err(Error::InvalidArgument);
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(ServerName { host: address.to_canonical().to_string().into(), port });
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let label = |l: &str| (1..=LABEL_MAX).contains(&l.len()) && l.bytes().all(letter);
        if name.len() > NAME_MAX || !name.split('.').all(label) {
            return Err(Error::InvalidArgument);
        }
        Ok(ServerName { host: name.to_ascii_lowercase().into(), port })
    }

    /// The host, an address or a name in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ServerName {
    type Err = Error;

    /// `Error::InvalidArgument` for anything but `[host]:port`.
    fn from_str(text: &str) -> Result<ServerName> {
        let inner = text.strip_prefix('[').ok_or(Error::InvalidArgument)?;
        let (host, port) = inner.rsplit_once("]:").ok_or(Error::InvalidArgument)?;
        // `parse` alone would take "+8" and "008".
        let digits = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
        match port.parse() {
            Ok(port) if digits => ServerName::new(host, port),
            _ => Err(Error::InvalidArgument),
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]:{}", self.host, self.port)
    }
}
