//! Registries: which public keys are accepted from which addresses, and which keys servers have.
//!
//! A registry holds public keys only, and sees no secret. The name is the original's; the idea is
//! that of `known_hosts`.

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

/// A client that has proven its key and asks to be admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// The address that its connection comes from.
    pub address: IpAddr,
    /// The client's long-term public key. The client has proven that it holds the secret.
    pub key: PublicKey,
    /// The name of the server that it connected to
    /// ([`Options::listener`](crate::connection::Options::listener)); empty if the server has no
    /// name.
    pub listener: Arc<str>,
}

impl Candidate {
    /// Makes a candidate at `address` that has proven `key`, for a server without a name.
    pub fn new(address: IpAddr, key: PublicKey) -> Candidate {
        Candidate { address, key, listener: Arc::default() }
    }

    /// Returns the same candidate, for the server of this name.
    pub fn at(self, listener: impl Into<Arc<str>>) -> Candidate {
        Candidate { listener: listener.into(), ..self }
    }
}

/// The function that takes the verdict of a registry that does not block.
pub type TellVerdict = Box<dyn FnOnce(Result<bool>) + Send>;

/// Decides which clients are admitted. Any number of threads may share it.
///
/// A program can write its own. This one admits certain keys by day, from any address:
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
    /// Returns whether the candidate is admitted.
    ///
    /// # Errors
    /// `RegistryFailed` or another error if it cannot tell; the candidate is then refused, too.
    fn verify(&self, candidate: &Candidate) -> Result<bool>;

    /// Like [`Registry::verify`], for a registry that does not block here ([`Registry::blocks`]).
    /// Returns the verdict if it is known already. Otherwise returns `None`, and calls `tell` with
    /// the verdict later, once, on a thread of the registry's own.
    ///
    /// # Errors
    /// Those of [`Registry::verify`], returned or given to `tell`.
    fn verify_or_tell(&self, candidate: &Candidate, tell: TellVerdict) -> Option<Result<bool>> {
        drop(tell);
        Some(self.verify(candidate))
    }

    /// Returns whether [`Registry::verify_or_tell`] blocks. This is true unless a registry that
    /// answers later says otherwise. In that case no thread has to wait for it, so it is asked
    /// without a thread for each question.
    fn blocks(&self) -> bool {
        true
    }

    /// Returns whether the registry takes a while to answer, as
    /// [`Vault::deferred`](crate::vault::Vault::deferred) does for a vault. This is called anew for
    /// each candidate.
    fn deferred(&self) -> bool {
        false
    }

    /// Returns how many calls the registry works on at once, as
    /// [`Vault::max_concurrency`](crate::vault::Vault::max_concurrency) does for a vault.
    fn max_concurrency(&self) -> usize {
        256
    }
}

/// Finds the keys of servers, for clients that connect by name. Any number of threads may share it.
pub trait ServerKeys: Send + Sync {
    /// Returns the keys that the server of this name may have: at least one, in the order in which
    /// to try them.
    ///
    /// Blocks for at most `timeout`; `None` means without limit.
    ///
    /// # Errors
    /// `NotFound` if no key is known; `Timeout`; `NotValidated` or `RegistryFailed` if it cannot
    /// tell.
    fn server_keys(&self, name: &ServerName, timeout: Option<Duration>) -> Result<Vec<PublicKey>>;
}
