//! The names at which keys are found in DNS (`docs/REGISTRIES.md`).

use crate::error::{Error, Result};
use crate::registry::ServerName;
use hickory_resolver::proto::rr::Name;
use std::fmt::Write;
use std::net::IpAddr;

/// The label that is put before a host to name its keys.
const SERVICE: &str = "_curve_tun";

/// The zone of an operator; all names here are in it.
#[derive(Debug)]
pub(super) struct Zone(Name);

impl Zone {
    /// Makes a zone; `InvalidArgument` if `zone` is not a name. A final dot makes no difference.
    pub(super) fn new(zone: &str) -> Result<Zone> {
        Ok(Zone(absolute(zone).ok_or(Error::InvalidArgument)?))
    }

    /// Returns the name of the keys of clients at `address`: `7.2.0.192.in-addr.ZONE`,
    /// `7.0.….ip6.ZONE`, as in the reverse zones of DNS.
    pub(super) fn of_client(&self, address: IpAddr) -> Result<Name> {
        absolute(&format!("{}{}", reversed(address), self.0)).ok_or(Error::InvalidArgument)
    }

    /// Returns the ending that the names of all clients of one source share. A source is an IPv4
    /// address, or the /64 of an IPv6 address.
    pub(super) fn of_source(&self, address: IpAddr) -> Result<Name> {
        let own = self.of_client(address)?;
        Ok(match address.to_canonical() {
            IpAddr::V4(_) => own,
            // This leaves the first 16 of the 32 digits.
            IpAddr::V6(_) => own.trim_to(usize::from(own.num_labels()) - 16),
        })
    }

    /// Returns the name of the keys of a server: `_curve_tun.HOST` for a host in the zone, and for
    /// an address `_curve_tun.` and the name that [`Zone::of_client`] returns. `None` for a host
    /// outside the zone.
    pub(super) fn of_server(&self, server: &ServerName) -> Option<Name> {
        let host = match server.address() {
            Some(address) => self.of_client(address).ok()?,
            None => absolute(server.host())?,
        };
        if !self.0.zone_of(&host) {
            return None;
        }
        absolute(&format!("{SERVICE}.{host}"))
    }
}

/// Returns whether a name is one that [`Zone::of_server`] returns.
pub(super) fn is_of_server(name: &Name) -> bool {
    name.iter().next() == Some(SERVICE.as_bytes())
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name.to_lowercase())
}

/// Returns the labels of an address, the last part first, with a final dot.
fn reversed(address: IpAddr) -> String {
    let mut labels = String::new();
    // Writing to a string cannot fail.
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            for octet in v4.octets().iter().rev() {
                let _ = write!(labels, "{octet}.");
            }
            labels + "in-addr."
        }
        IpAddr::V6(v6) => {
            for octet in v6.octets().iter().rev() {
                let _ = write!(labels, "{:x}.{:x}.", octet & 15, octet >> 4);
            }
            labels + "ip6."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_clients_and_servers() {
        let zone = Zone::new("Keys.Example").unwrap();
        let client = |text: &str| zone.of_client(text.parse().unwrap()).unwrap().to_string();
        assert_eq!(client("192.0.2.7"), "7.2.0.192.in-addr.keys.example.");
        assert_eq!(client("::ffff:192.0.2.7"), "7.2.0.192.in-addr.keys.example.");
        let zeros = "0.".repeat(23);
        assert_eq!(client("2001:db8::17"), format!("7.1.{}8.b.d.0.1.0.0.2.ip6.keys.example.", &zeros[..44]));
        let source = |text: &str| zone.of_source(text.parse().unwrap()).unwrap().to_string();
        assert_eq!(source("192.0.2.7"), client("192.0.2.7"));
        assert_eq!(source("2001:db8::17"), format!("{}8.b.d.0.1.0.0.2.ip6.keys.example.", &zeros[..16]));
        let server =
            |host: &str| zone.of_server(&ServerName::new(host, 1).unwrap()).map(|name| name.to_string());
        assert_eq!(server("db.keys.example").unwrap(), "_curve_tun.db.keys.example.");
        assert!(is_of_server(&zone.of_server(&ServerName::new("db.keys.example", 1).unwrap()).unwrap()));
        assert!(!is_of_server(&zone.of_client("192.0.2.7".parse().unwrap()).unwrap()));
        assert_eq!(server("KEYS.example.").unwrap(), "_curve_tun.keys.example.");
        assert_eq!(server("192.0.2.7").unwrap(), "_curve_tun.7.2.0.192.in-addr.keys.example.");
        assert_eq!(server("db.other.example"), None);
        assert_eq!(server("notkeys.example"), None);
        assert_eq!(server("db"), None);
        let root = Zone::new(".").unwrap();
        let name = root.of_server(&ServerName::new("db", 1).unwrap());
        assert_eq!(name.unwrap().to_string(), "_curve_tun.db.");
        for zone in ["a..b", "a b.\u{1}", &"a".repeat(64), &"a.".repeat(128)] {
            assert_eq!(Zone::new(zone).err(), Some(Error::InvalidArgument), "{zone:?}");
        }
    }
}
