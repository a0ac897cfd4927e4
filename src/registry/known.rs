//! Trust on first use: what a client remembers of servers, and what a change means.

use super::{
    Entry, FileRegistry, KnownKeys, RegistryFileError, ServerName, ServerTrust, Subject, TrustAnswer,
    TrustStep,
};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What to do with a server of which no key is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum FirstUse {
    /// Do not connect.
    Refuse = 0,
    /// Connect this once.
    Once = 1,
    /// Connect, and remember the key once the server has proven to hold its secret.
    Remember = 2,
}

/// Why a server's key is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The server is known by another key: either it was given a new one, or someone is in its
    /// place.
    ///
    /// Only the user can tell which, and not through the network alone. If the new key is right,
    /// the old entry is to be removed and the new one added.
    Changed {
        /// The first of the keys that it is known by.
        known: PublicKey,
        /// The one that was offered.
        offered: PublicKey,
    },
    /// There is an entry `!` for the key.
    Denied {
        /// The key that was offered.
        offered: PublicKey,
    },
    /// The server is not known, and was refused at its first use.
    Unknown {
        /// The key that was offered.
        offered: PublicKey,
    },
    /// The file could not be read or written, or the connection failed.
    Failed(Error),
}

impl Refusal {
    /// Returns the same without the keys: `KeyChanged`, `KeyDenied`, `UnknownPeer`, or the failure.
    pub fn error(self) -> Error {
        match self {
            Refusal::Changed { .. } => Error::KeyChanged,
            Refusal::Denied { .. } => Error::KeyDenied,
            Refusal::Unknown { .. } => Error::UnknownPeer,
            Refusal::Failed(error) => error,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Failed(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Changed { known, offered } => {
                write!(f, "the server is known by the key {known}, not by {offered}")
            }
            Refusal::Denied { offered } => write!(f, "the key {offered} is denied"),
            Refusal::Unknown { offered } => write!(f, "the server is not known, nor is its key {offered}"),
            Refusal::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

/// The servers that a client knows, in a registry file: entries of the form `[host]:port key`.
///
/// In version 1.0, a client never gets a server's key over the wire: it has it beforehand, from its
/// user, from a file or from DNS. Known servers add memory: once a key was used for a name, it is
/// the only key accepted for that name, and an attempt with another one is refused before a byte is
/// sent.
///
/// `net::Connector` does all of it; other drivers ask [`ServerTrust`]
/// what to do, or, with one key, call [`KnownServers::check`] before they connect
/// and [`KnownServers::remember`] once they are connected: then the server has
/// proven to hold the key's secret. Any thread may call any method.
#[derive(Clone, Debug)]
pub struct KnownServers(Arc<FileRegistry>);

impl KnownServers {
    /// Opens the registry file at `path`; makes an empty one if there is none.
    ///
    /// # Errors
    /// Those of [`FileRegistry::open`].
    pub fn open(path: impl AsRef<Path>) -> std::result::Result<KnownServers, RegistryFileError> {
        Ok(KnownServers(Arc::new(FileRegistry::open_or_create(path)?)))
    }

    /// Over a registry file that is open.
    pub fn new(registry: Arc<FileRegistry>) -> KnownServers {
        KnownServers(registry)
    }

    /// Returns the registry file.
    pub fn registry(&self) -> &Arc<FileRegistry> {
        &self.0
    }

    /// Returns what is known of the server of this name, and of `key`, for [`ServerTrust`] to
    /// decide.
    ///
    /// # Errors
    /// That of the file, if it has become unusable: the client would not see that a key has
    /// changed.
    pub fn look_up(&self, name: &ServerName, key: &PublicKey) -> Result<KnownKeys> {
        match self.0.problem() {
            Some(problem) => Err(problem.error()),
            None => Ok(self.0.known(name, key)),
        }
    }

    /// Returns whether `key`, which may be used for the server of this name, is to be remembered.
    /// Of a server that is not known, `first_use` decides. A server whose only known key is denied
    /// is known all the same.
    ///
    /// # Errors
    /// A [`Refusal`]; `Failed` with the errors of [`KnownServers::look_up`].
    pub fn check(
        &self,
        name: &ServerName,
        key: &PublicKey,
        first_use: impl FnOnce() -> FirstUse,
    ) -> std::result::Result<bool, Refusal> {
        let mut trust = ServerTrust::new(Some(*key), false, true);
        trust.answer(TrustAnswer::Known(self.look_up(name, key)?))?;
        if let TrustStep::FirstUse(_) = trust.step() {
            trust.answer(TrustAnswer::FirstUse(first_use()))?;
        }
        match trust.step() {
            TrustStep::Refuse(refusal) => Err(refusal),
            _ => Ok(trust.remembers()),
        }
    }

    /// Writes down that the server of this name is known by `key`, unless it is so already.
    ///
    /// # Errors
    /// `Changed` if another key has been remembered for it meanwhile, by another process perhaps;
    /// `Denied` if the key has been denied; `Failed`.
    pub fn remember(&self, name: &ServerName, key: &PublicKey) -> std::result::Result<(), Refusal> {
        let subject = Subject::Server(name.clone());
        let entry = Entry { subject, key: *key, comment: String::new() };
        let mut refused = None;
        let allow = |there: &KnownKeys| match there.trust(*key) {
            Ok(_) => Ok(()),
            Err(refusal) => {
                refused = Some(refusal);
                Err(refusal.error())
            }
        };
        match (self.0.add_if(&entry, allow), refused) {
            (Ok(_), _) => Ok(()),
            (Err(_), Some(refusal)) => Err(refusal),
            (Err(error), None) => Err(error.error().into()),
        }
    }
}
