//! Addresses as the command line gives them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A TCP address, whose host may be a name, or the path of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    At(Address),
    /// The sockets that the service manager passes under this name.
    Systemd(String),
}

/// The most bytes that the path of a Unix socket may have.
const PATH_MAX: usize = 107;

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        if text.starts_with("unix:") || text.starts_with('/') || text.starts_with("./") {
            let path = text.strip_prefix("unix:").unwrap_or(text);
            if path.is_empty() || path.len() > PATH_MAX {
                return Err(format!("the path of a Unix socket has 1 to {PATH_MAX} bytes"));
            }
            return Ok(Address::Unix(path.into()));
        }
        let how = "write HOST:PORT, [IPV6]:PORT, or unix:PATH";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("the port is missing; {how}"))?;
        let port = (!port.starts_with('+')).then(|| port.parse()).and_then(Result::ok);
        let port = port.ok_or_else(|| format!("the port is not a number from 0 to 65535; {how}"))?;
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(|| format!("a \"]\" is missing; {how}"))?,
            None if host.contains(':') => return Err(format!("an IPv6 address stands in brackets; {how}")),
            None => host,
        };
        if bare.is_empty() || bare.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
            return Err(format!("the host is not a name or an address; {how}"));
        }
        Ok(Address::Tcp { host: bare.to_owned(), port })
    }
}

impl Address {
    /// Reads an address to connect to: its port is not 0.
    pub fn to_connect(text: &str) -> Result<Address, String> {
        match text.parse()? {
            Address::Tcp { port: 0, .. } => Err("nothing listens at port 0".into()),
            address => Ok(address),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        let Some(name) = text.strip_prefix("systemd:") else { return text.parse().map(Listen::At) };
        if name.is_empty() || name.contains(|c: char| c == ':' || c.is_control()) {
            return Err("a socket of systemd has the name that its unit gives it".into());
        }
        Ok(Listen::Systemd(name.to_owned()))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::At(address) => address.fmt(f),
            Listen::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_alike() {
        for text in ["127.0.0.1:80", "db.example:5432", "[::]:0", "[fe80::1%eth0]:9", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("/run/x".parse(), Ok(Address::Unix("/run/x".into())));
        assert_eq!("./x".parse(), Ok(Address::Unix("./x".into())));
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_is_wrong() {
        for (text, why) in [
            ("", "port is missing"),
            ("host", "port is missing"),
            ("host:", "not a number"),
            ("host:+1", "not a number"),
            ("host:65536", "not a number"),
            ("::1:80", "brackets"),
            ("[::1:80", "\"]\" is missing"),
            (":80", "not a name"),
            ("a b:80", "not a name"),
            ("a/b:80", "not a name"),
            ("unix:", "1 to 107 bytes"),
        ] {
            let refusal = text.parse::<Address>().unwrap_err();
            assert!(refusal.contains(why), "{text:?}: {refusal}");
        }
        assert!(Address::to_connect("h:0").is_err());
        assert_eq!("systemd:web".parse(), Ok(Listen::Systemd("web".into())));
        assert_eq!("h:1".parse::<Listen>().unwrap().to_string(), "h:1");
        assert!("systemd:".parse::<Listen>().is_err() && Address::to_connect("systemd:web").is_err());
        let long = format!("/{}", "x".repeat(PATH_MAX));
        assert!(long.parse::<Address>().is_err());
    }
}
