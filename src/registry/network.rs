//! Networks: an address, or all addresses that share a prefix.

use crate::decimal::canonical;
use crate::error::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{fmt, str::FromStr};

/// An IP network: `192.0.2.7`, `192.0.2.0/24`, `2001:db8::7`, `2001:db8::/32`.
///
/// An IPv4-mapped IPv6 address (`::ffff:192.0.2.7`) is the same as the IPv4 address, and a network
/// inside `::ffff:0:0/96` is the same as the IPv4 network. `0.0.0.0/0` is all of IPv4 and `::/0`
/// all of IPv6; neither contains the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// The most bytes in the name of a network interface.
const SCOPE_MAX: usize = 15;

/// Returns the number of bits in an address of this family.
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

/// Parses the address of a client.
///
/// An IPv6 link-local address may be followed by its scope, as `getnameinfo` writes it
/// (`fe80::1%eth0`). The scope is ignored, because registries decide by address, whichever
/// interface a client comes in by.
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

/// Returns whether the address is one of `fe80::/10`, which means nothing without the interface.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Returns whether the text may be the number or the name of an interface. On Linux, a name has at
/// most 15 bytes, without blanks, `/` and `:`. Brackets and `%` are refused, because they could not
/// be told apart from the text around the scope.
pub(super) fn is_scope(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_graphic() && !b"/:[]%".contains(&b);
    (1..=SCOPE_MAX).contains(&text.len()) && text.bytes().all(letter)
}

impl Network {
    /// Makes the network of all addresses that share the first `prefix` bits of `address`.
    ///
    /// # Errors
    /// `BadAddress` if the prefix is longer than the address, or if the address has bits set after
    /// it.
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

    /// Returns the network of this length that contains `address`, which must not be IPv4-mapped. A
    /// lookup uses it as its key.
    pub(super) fn around(address: IpAddr, prefix: u8) -> Network {
        Network { address: mask(address, prefix), prefix }
    }

    /// Returns the network that was meant by a text whose address has bits set after the prefix, if
    /// the text is of this kind.
    pub(super) fn meant(text: &str) -> Option<Network> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        if prefix > width(address) {
            return None;
        }
        Network::new(mask(address, prefix), prefix).ok()
    }

    /// Returns the number of bits that its addresses share: 0 to 32, or 0 to 128.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Returns whether this is an IPv4 network.
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

    /// Parses an address, or an address, a slash and a prefix length.
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
