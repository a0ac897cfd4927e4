//! Which public key may speak from where (the seed's "registry", after
//! `known_hosts`). A registry holds public keys only and sees no secret.

mod memory;
mod network;

pub use memory::MemoryRegistry;
pub use network::Network;

use crate::crypto::PublicKey;
use crate::error::Result;
use crate::vault::Answers;
use std::net::IpAddr;

/// A client that has proven its key and asks to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Where its connection comes from.
    pub address: IpAddr,
    /// The long-term public key that it has proven to hold the secret of.
    pub key: PublicKey,
}

impl Candidate {
    /// A client at `address` that has proven `key`.
    pub fn new(address: IpAddr, key: PublicKey) -> Candidate {
        Candidate { address, key }
    }
}

/// Decides who may come in. Shared by any number of threads.
pub trait Registry: Send + Sync {
    /// Whether the candidate may come in.
    ///
    /// # Errors
    /// `RegistryFailed` if it cannot tell; the candidate is refused then, too.
    fn verify(&self, candidate: &Candidate) -> Result<bool>;

    /// Whether connections call this registry on the spot; see [`Answers`].
    fn answers(&self) -> Answers {
        Answers::Now
    }
}
