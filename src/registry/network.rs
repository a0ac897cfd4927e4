//! Networks: an address, or all addresses that share a prefix.

use crate::decimal::canonical;
use crate::error::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{fmt, str::FromStr};

/// An IP network: `192.0.2.7`, `192.0.2.0/24`, `2001:db8::7`, `2001:db8::/32`.
///
/// An IPv4-mapped IPv6 address (`::ffff:192.0.2.7`) is the IPv4 address, and a
/// network inside `::ffff:0:0/96` the IPv4 network. `0.0.0.0/0` is all of IPv4
/// and `::/0` all of IPv6; neither covers the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// The most bytes in the name of an interface.
const SCOPE_MAX: usize = 15;

/// Bits in an address of this family.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Returns the address with all but its first `prefix` bits cleared.
fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let bits = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(a.to_bits() & bits).into()
        }
        IpAddr::V6(a) => {
            let bits = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(a.to_bits() & bits).into()
        }
    }
}

/// Reads the address of a client. That of an IPv6 link-local address may be followed by its scope,
/// as `getnameinfo` writes it (`fe80::1%eth0`), which is passed over: registries let in by address,
/// whichever interface a client comes in by.
///
/// # Errors
/// `BadAddress` for anything else.
pub fn read_address(text: &str) -> Result<IpAddr> {
    let (address, scope) = match text.split_once('%') {
        Some((address, scope)) => (address, Some(scope)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| Error::BadAddress)?;
    if scope.is_none_or(|scope| is_link_local(address) && is_scope(scope)) {
        Ok(address)
    } else {
        Err(Error::BadAddress)
    }
}

/// Says whether the address is one of `fe80::/10`, which means nothing without the interface.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Says whether the text may be the number or the name of an interface: on Linux at most 15 bytes,
/// without blanks, `/` and `:`. Brackets and `%` could not be told from what is around it.
pub(super) fn is_scope(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_graphic() && !b"/:[]%".contains(&b);
    (1..=SCOPE_MAX).contains(&text.len()) && text.bytes().all(letter)
}

impl Network {
    /// Makes the network of the addresses that share the first `prefix` bits of `address`.
    ///
    /// # Errors
    /// `BadAddress` if the prefix is longer than the address, or the address has bits after it.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Network> {
        if prefix > width(address) || mask(address, prefix) != address {
            return Err(Error::BadAddress);
        }
        match address.to_canonical() {
            canonical if width(canonical) == width(address) => Ok(Network { address, prefix }),
            canonical if prefix >= 96 => Ok(Network { address: canonical, prefix: prefix - 96 }),
            _ => Err(Error::BadAddress),
        }
    }

    /// Returns the network of this length that holds `address`, which must not be IPv4-mapped; a
    /// lookup's key.
    pub(super) fn around(address: IpAddr, prefix: u8) -> Network {
        Network { address: mask(address, prefix), prefix }
    }

    /// Returns the network that a text means that has bits after the length, if it is such a text.
    pub(super) fn meant(text: &str) -> Option<Network> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        if prefix > width(address) {
            return None;
        }
        Network::new(mask(address, prefix), prefix).ok()
    }

    /// Returns the bits that its addresses share: 0 to 32, or 0 to 128.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Says whether it is a network of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        let address = address.to_canonical();
        Network { address, prefix: width(address) }
    }
}

impl FromStr for Network {
    type Err = Error;

    /// Reads an address, or an address, a slash and a prefix length.
    fn from_str(text: &str) -> Result<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| Error::BadAddress)?;
        let Some(prefix) = prefix else { return Ok(address.into()) };
        Network::new(address, canonical(prefix).ok_or(Error::BadAddress)?)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.address) {
            return write!(f, "{}", self.address);
        }
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
