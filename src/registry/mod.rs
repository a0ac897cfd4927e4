//! Which public key may speak from where (the original's "registry", after
//! `known_hosts`). A registry holds public keys only and sees no secret.

#[cfg(feature = "dns")]
mod dns;
mod file;
mod known;
mod memory;
mod network;
mod place;
mod rules;
mod server_name;
mod server_trust;

#[cfg(feature = "dns")]
pub use dns::{DnsOptions, DnsRegistry, WrongAnchors, check_trust_anchors};
pub use file::{
    BadPath, Entry, FileRegistry, Kept, Malformed, PathProblem, Problem, RegistryFileError, Subject,
};
pub use known::{FirstUse, KnownServers, Refusal};
pub use memory::MemoryRegistry;
pub use network::{Network, read_address};
pub use place::Place;
pub use server_name::ServerName;
pub use server_trust::{KnownKeys, ServerTrust, TrustAnswer, TrustStep};

use crate::crypto::PublicKey;
use crate::error::Result;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A client that has proven its key and asks to come in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Where its connection comes from.
    pub address: IpAddr,
    /// The long-term public key that it has proven to hold the secret of.
    pub key: PublicKey,
    /// The name of the server that it came to
    /// ([`Options::listener`](crate::connection::Options::listener)); empty if that has none.
    pub listener: Arc<str>,
}

impl Candidate {
    /// Makes a client at `address` that has proven `key`, to a server without a name.
    pub fn new(address: IpAddr, key: PublicKey) -> Candidate {
        Candidate { address, key, listener: Arc::default() }
    }

    /// Returns the same client, at the server of this name.
    pub fn at(self, listener: impl Into<Arc<str>>) -> Candidate {
        Candidate { listener: listener.into(), ..self }
    }
}

/// Takes the verdict of a registry that does not block.
pub type TellVerdict = Box<dyn FnOnce(Result<bool>) + Send>;

/// Decides who may come in. Shared by any number of threads.
///
/// One of a program's own, which lets certain keys in by day, from wherever they come:
///
/// ```
/// # use curve_tun::{PublicKey, Result};
/// use curve_tun::registry::{Candidate, Registry};
///
/// struct ByDay {
///     keys: Vec<PublicKey>,
///     is_day: fn() -> bool,
/// }
///
/// impl Registry for ByDay {
///     fn verify(&self, candidate: &Candidate) -> Result<bool> {
///         Ok((self.is_day)() && self.keys.contains(&candidate.key))
///     }
/// }
/// ```
pub trait Registry: Send + Sync {
    /// Says whether the candidate may come in.
    ///
    /// # Errors
    /// `RegistryFailed` or another if it cannot tell; the candidate is refused then, too.
    fn verify(&self, candidate: &Candidate) -> Result<bool>;

    /// As [`Registry::verify`], for a registry that does not block in it ([`Registry::blocks`]):
    /// gives the verdict if it is known, or `None` and hands it to `tell` later, once, on a thread
    /// of its own.
    ///
    /// # Errors
    /// Those of [`Registry::verify`], here or there.
    fn verify_or_tell(&self, candidate: &Candidate, tell: TellVerdict) -> Option<Result<bool>> {
        drop(tell);
        Some(self.verify(candidate))
    }

    /// Says whether [`Registry::verify_or_tell`] blocks. True unless a registry that answers later
    /// says otherwise: then nobody has to wait for it, and it is asked without a thread for each
    /// question.
    fn blocks(&self) -> bool {
        true
    }

    /// Returns whether it takes a while to answer, as
    /// [`Vault::deferred`](crate::vault::Vault::deferred) says. Asked anew for each candidate.
    fn deferred(&self) -> bool {
        false
    }

    /// As [`Vault::max_concurrency`](crate::vault::Vault::max_concurrency).
    fn max_concurrency(&self) -> usize {
        256
    }
}

/// Tells the keys of servers, for clients that connect by name. Shared by any number of threads.
pub trait ServerKeys: Send + Sync {
    /// Returns the keys that the server of this name may have: at least one, in the order in which
    /// to try them.
    ///
    /// Blocks at most for `timeout`; `None` is for ever.
    ///
    /// # Errors
    /// `NotFound` if none is known; `Timeout`; `NotValidated`, `RegistryFailed` if it cannot tell.
    fn server_keys(&self, name: &ServerName, timeout: Option<Duration>) -> Result<Vec<PublicKey>>;
}
