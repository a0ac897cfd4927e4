//! The name of a server, as a client connects to it.

use super::network::{is_scope, read_address};
use crate::decimal::canonical;
use crate::error::{Error, Result};
use nix::net::if_::{if_indextoname, if_nametoindex};
use std::net::IpAddr;
use std::{fmt, str::FromStr};

/// The most characters in a host name (RFC 1035, section 2.3.4, as text without the final dot).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// A server as a client connects to it: a host and a port.
///
/// Its text form is `[host]:port`. The host is an address or a name. Names are compared without
/// regard to case and to a final dot. An IPv4-mapped IPv6 address is the same as the IPv4 address.
/// An IPv6 link-local address may be followed by its interface (`fe80::1%eth0`); the same address
/// on another interface is another server. If this machine has the interface, its number is
/// replaced by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName {
    host: Box<str>,
    port: u16,
}

impl ServerName {
    /// Makes the server at `host`, an address or a name, and `port`.
    ///
    /// # Errors
    /// `InvalidArgument` for port 0, for a host that is neither an address nor a name of ASCII
    /// letters, digits, `-`, `_` and dots, and for a scope after an address that is not link-local.
    pub fn new(host: &str, port: u16) -> Result<ServerName> {
        if port == 0 {
            return Err(Error::InvalidArgument);
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(ServerName { host: address.to_canonical().to_string().into(), port });
        }
        if let Some((address, scope)) = scoped(host) {
            return Ok(ServerName { host: format!("{address}%{}", interface(scope)).into(), port });
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let label = |l: &str| (1..=LABEL_MAX).contains(&l.len()) && l.bytes().all(letter);
        if name.len() > NAME_MAX || !name.split('.').all(label) {
            return Err(Error::InvalidArgument);
        }
        Ok(ServerName { host: name.to_ascii_lowercase().into(), port })
    }

    /// Returns the host: an address, or a name in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the address of the host, without its scope, if the host is an address.
    pub fn address(&self) -> Option<IpAddr> {
        read_address(&self.host).ok()
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Returns a link-local address and its scope, if `host` has this form.
fn scoped(host: &str) -> Option<(IpAddr, &str)> {
    let (_, scope) = host.split_once('%')?;
    Some((read_address(host).ok()?, scope))
}

/// Returns the name of the interface that `scope` names or numbers, or `scope` itself if this
/// machine has no such interface.
fn interface(scope: &str) -> String {
    let by_number = || {
        let index = canonical(scope)?;
        if_indextoname(index).ok()?.into_string().ok().filter(|name| is_scope(name))
    };
    match if_nametoindex(scope) {
        Ok(_) => scope.to_owned(),
        Err(_) => by_number().unwrap_or_else(|| scope.to_owned()),
    }
}

/// Returns whether a text after `[` is not a server because its host name is too long.
pub(super) fn is_too_long(text: &str) -> bool {
    let host = text.rsplit_once("]:").map_or(text, |(host, _)| host);
    host.strip_suffix('.').unwrap_or(host).len() > NAME_MAX || host.split('.').any(|l| l.len() > LABEL_MAX)
}

/// Returns whether a text after `[` is not a server because of what follows `%`.
pub(super) fn has_bad_scope(text: &str) -> bool {
    text.rsplit_once("]:").is_some_and(|(host, _)| host.contains('%') && scoped(host).is_none())
}

impl FromStr for ServerName {
    type Err = Error;

    /// Parses `[host]:port`; returns `Error::InvalidArgument` for anything else.
    fn from_str(text: &str) -> Result<ServerName> {
        let inner = text.strip_prefix('[').ok_or(Error::InvalidArgument)?;
        let (host, port) = inner.rsplit_once("]:").ok_or(Error::InvalidArgument)?;
        ServerName::new(host, canonical(port).ok_or(Error::InvalidArgument)?)
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]:{}", self.host, self.port)
    }
}
