//! Trust on first use: the servers that a client knows, and what to do about a new or a changed
//! key.

use super::{
    Entry, FileRegistry, KnownKeys, RegistryFileError, ServerName, ServerTrust, Subject, TrustAnswer,
    TrustStep,
};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What to do with a server for which no key is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum FirstUse {
    /// Do not connect.
    Refuse = 0,
    /// Connect this once, without remembering the key.
    Once = 1,
    /// Connect, and remember the key once the server has proven that it holds the secret.
    Remember = 2,
}

/// Why a server's key is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The server is known by another key. Either the server was given a new key, or someone else
    /// is in its place.
    ///
    /// Only the user can find out which, and not through the network alone. If the new key is
    /// right, remove the old entry and add the new one.
    Changed {
        /// The first of the keys that the server is known by.
        known: PublicKey,
        /// The key that was offered.
        offered: PublicKey,
    },
    /// The key is denied: there is an entry `!` for it.
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
    /// Returns the refusal without its keys, as an error: `KeyChanged`, `KeyDenied`, `UnknownPeer`,
    /// or the failure.
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
/// In version 1.0, a client never gets a server's key over the wire. It has the key beforehand,
/// from its user, from a file or from DNS. Known servers add memory: once a key was used for a
/// name, it is the only key accepted for that name, and an attempt with another key is refused
/// before a byte is sent.
///
/// `net::Connector` does all of this. Other drivers ask [`ServerTrust`] what to do. With a single
/// key, they can instead call [`KnownServers::check`] before they connect, and
/// [`KnownServers::remember`] once they are connected, because the server has then proven that it
/// holds the key's secret. Any thread may call any method.
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

    /// Uses a registry file that is already open.
    pub fn new(registry: Arc<FileRegistry>) -> KnownServers {
        KnownServers(registry)
    }

    /// Returns the registry file.
    pub fn registry(&self) -> &Arc<FileRegistry> {
        &self.0
    }

    /// Returns what is known about the server of this name and about `key`, for [`ServerTrust`] to
    /// decide.
    ///
    /// # Errors
    /// The error of the file if it has become unusable, because the client would then not see that
    /// a key has changed.
    pub fn look_up(&self, name: &ServerName, key: &PublicKey) -> Result<KnownKeys> {
        match self.0.problem() {
            Some(problem) => Err(problem.error()),
            None => Ok(self.0.known(name, key)),
        }
    }

    /// Checks whether `key` may be used for the server of this name, and returns whether to
    /// remember it.
    ///
    /// If the server is not known, `first_use` decides. A server whose only known key is denied
    /// still counts as known.
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

    /// Records that the server of this name is known by `key`, unless this is recorded already.
    ///
    /// # Errors
    /// `Changed` if another key has been remembered for the server in the meantime, for example by
    /// another process; `Denied` if the key has been denied; `Failed` with an error of the file.
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
