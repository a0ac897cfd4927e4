//! The places that a key may connect from.

use super::Network;
use crate::error::{Error, Result};
use std::net::IpAddr;
use std::{fmt, str::FromStr};

/// Where a public key may connect from, as an entry of a registry says it.
///
/// Its text form is `*`, `!`, an address or a network. The registry file, the tool and the C header
/// share this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// `*`: from every address, even where a network has entries of its own.
    Anywhere,
    /// `!`: from no address, whatever other entries say. This is for a key that is lost or no
    /// longer trusted.
    Nowhere,
    /// From an address or a network, unless a more specific network that contains the address has
    /// entries.
    Network(Network),
}

impl From<Network> for Place {
    fn from(network: Network) -> Place {
        Place::Network(network)
    }
}

impl From<IpAddr> for Place {
    fn from(address: IpAddr) -> Place {
        Place::Network(address.into())
    }
}

impl FromStr for Place {
    type Err = Error;

    /// Parses `*`, `!`, an address or a network; returns `Error::BadAddress` for anything else.
    fn from_str(text: &str) -> Result<Place> {
        match text {
            "*" => Ok(Place::Anywhere),
            "!" => Ok(Place::Nowhere),
            _ => text.parse().map(Place::Network),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Anywhere => f.write_str("*"),
            Place::Nowhere => f.write_str("!"),
            Place::Network(network) => network.fmt(f),
        }
    }
}
