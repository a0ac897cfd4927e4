//! Why a key in a token cannot be used, and which of the parts that it needs is to blame.

use crate::crypto::PublicKey;
use crate::error::Error;
use std::fmt;
use std::path::PathBuf;

/// Why a key in a token could not be opened or made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pkcs11Failure {
    /// What went wrong.
    pub error: Error,
    /// The part that it went wrong with.
    pub part: Pkcs11Part,
    /// The new key that stayed in the token, because it could not be removed.
    pub left: Option<LeftKey>,
}

/// The parts that a key in a token needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pkcs11Part {
    /// The URI itself.
    Uri,
    /// The PIN that the caller gave: it is empty or has more than 255 bytes.
    Pin,
    /// The file of the PIN.
    PinFile(PathBuf),
    /// The PKCS #11 library.
    Module(PathBuf),
    /// The token, and the key in it.
    Token,
    /// The file in which the bound of the counter is kept. There is no path if the environment
    /// names no folder for it.
    State(Option<PathBuf>),
    /// This library's own needs: guarded memory, libsodium.
    Process,
}

/// A new key that could not be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftKey {
    /// Its public key, if the token returned it.
    pub public: Option<PublicKey>,
    /// Its identifier (`CKA_ID`).
    pub id: Vec<u8>,
}

/// The result of something whose failure says what it is about.
pub(super) type Explained<T> = Result<T, Pkcs11Failure>;

impl Pkcs11Failure {
    pub(super) fn of(part: Pkcs11Part, error: Error) -> Pkcs11Failure {
        Pkcs11Failure { error, part, left: None }
    }
}

impl From<Error> for Pkcs11Failure {
    fn from(error: Error) -> Pkcs11Failure {
        Pkcs11Failure::of(Pkcs11Part::Process, error)
    }
}

impl fmt::Display for Pkcs11Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Pkcs11Part::Uri => f.write_str("the URI: ")?,
            Pkcs11Part::Pin => f.write_str("the PIN: ")?,
            Pkcs11Part::PinFile(path) => write!(f, "the PIN's file {}: ", path.display())?,
            Pkcs11Part::Module(path) => write!(f, "the module {}: ", path.display())?,
            Pkcs11Part::Token => f.write_str("the token: ")?,
            Pkcs11Part::State(Some(path)) => write!(f, "the key's state {}: ", path.display())?,
            Pkcs11Part::State(None) => f.write_str("the key's state: ")?,
            Pkcs11Part::Process => {}
        }
        write!(f, "{}", self.error)
    }
}

impl std::error::Error for Pkcs11Failure {}
