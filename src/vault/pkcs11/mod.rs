//! The vault whose key is in a PKCS #11 token: a smart card, a USB key, a hardware security module.

mod failure;
mod maker;
#[allow(unsafe_code)]
mod module;
mod pin;
#[allow(unsafe_code)]
mod session;
mod state;
mod token;
mod uri;

use super::{LocalKey, vault_over_local_key};
use crate::crypto::PublicKey;
use crate::error::Result;
use failure::Explained;
pub use failure::{LeftKey, Pkcs11Failure, Pkcs11Part};
use maker::Maker;
use pin::Pin;
use token::TokenKey;
use uri::Uri;
#[cfg(feature = "test-util")]
pub use uri::read_pkcs11_uri;

/// The token does one thing at a time. Meanwhile, another thread can do the work that comes before
/// or after that.
const MAX_CONCURRENCY: usize = 2;

/// A vault whose secret key never leaves its token.
///
/// The token does the X25519 of a handshake (`CKM_ECDH1_DERIVE`); the rest is done in memory. The
/// bound of the counter is kept in a small separate file, which one vault at a time has open. A URI
/// (RFC 7512) names token and key, such as
/// `pkcs11:token=office;object=myserver?module-path=/usr/lib/softhsm/libsofthsm2.so`; the attribute
/// `x-curve-tun-state` names the file of the bound, which is otherwise under `$XDG_STATE_HOME` or
/// `$HOME/.local/state`. `docs/VAULTS.md` lists the attributes.
///
/// The token may be removed and come back, and its sessions may end: calls fail with `NotFound`
/// meanwhile, and work again after one login. A PIN that the token refuses then is not tried again.
/// A library that looks for its tokens only when it is initialised is finalised and initialised
/// again for that, at most once a second, unless another part of the process uses it. Calls block
/// for as long as the token takes, one at a time, so connections have this vault answer later
/// ([`Vault::deferred`](super::Vault::deferred)).
pub struct Pkcs11Vault(LocalKey<TokenKey>);

impl Pkcs11Vault {
    /// Opens the key that `uri` names. `pin` takes precedence over a PIN in the URI; it is kept, in
    /// guarded memory, for later logins.
    ///
    /// # Errors
    /// `InvalidArgument` if the URI is malformed, has an unknown attribute, or fits more than one
    /// token or key, or if the PIN is over 255 bytes; `FileNotFound` if its module or PIN file does
    /// not exist; `NotFound` if no token or X25519 key fits; `WrongPassphrase` for a wrong PIN, or
    /// none where one is needed to see the key; `PinLocked` if the PIN is locked, expired or not
    /// set: a program that is started again after one of these two, and tries again, locks the
    /// token. `VaultFailed` if the module fails; for the file of the bound those of
    /// [`FileVault`](super::FileVault).
    pub fn open(uri: &str, pin: Option<&[u8]>) -> Result<Pkcs11Vault> {
        Pkcs11Vault::open_explained(uri, pin).map_err(|failure| failure.error)
    }

    /// Like [`Pkcs11Vault::open`], but the error says what it is about.
    ///
    /// # Errors
    /// Those of [`Pkcs11Vault::open`].
    pub fn open_explained(uri: &str, pin: Option<&[u8]>) -> Explained<Pkcs11Vault> {
        let (uri, pin) = understood(uri, pin)?;
        let state = uri.state.clone();
        let (key, public) = TokenKey::open(uri, pin)?;
        let nonces = state::nonces(state.as_deref(), &public)?;
        Ok(Pkcs11Vault(LocalKey::of(key, public, nonces)))
    }

    /// Makes a new key in the token and opens it. The URI's `object` is its label; its `id` is
    /// drawn if not given.
    ///
    /// Everything that can be prepared is done before the key is made, including the file of the
    /// bound. If the key cannot be used all the same, it is removed again.
    ///
    /// # Errors
    /// Those of [`Pkcs11Vault::open`]; `InvalidArgument` without `object`; `AlreadyExists` if the
    /// token has an object of that name, or if there is a file at the URI's path for the bound;
    /// `ReadOnly` if the token cannot be written.
    pub fn generate(uri: &str, pin: Option<&[u8]>) -> Result<Pkcs11Vault> {
        Pkcs11Vault::generate_explained(uri, pin).map_err(|failure| failure.error)
    }

    /// Like [`Pkcs11Vault::generate`], but the error says what it is about, and whether the new key
    /// could not be removed.
    ///
    /// # Errors
    /// Those of [`Pkcs11Vault::generate`].
    pub fn generate_explained(uri: &str, pin: Option<&[u8]>) -> Explained<Pkcs11Vault> {
        let (uri, pin) = understood(uri, pin)?;
        let state = uri.state.clone();
        let maker = Maker::ready(uri, pin)?;
        let place = state::Reserved::at(state.as_deref())?;
        let made = maker.make()?;
        let public = *made.public_key();
        match place.fill(&public) {
            Ok(nonces) => Ok(Pkcs11Vault(LocalKey::of(made.keep(), public, nonces))),
            Err(failure) => Err(made.take_back(failure)),
        }
    }

    /// Returns the public key of the key that `uri` names. The token computes it, and the file of
    /// the bound is neither needed nor locked.
    ///
    /// # Errors
    /// Those of [`Pkcs11Vault::open`].
    pub fn inspect(uri: &str, pin: Option<&[u8]>) -> Result<PublicKey> {
        Pkcs11Vault::inspect_explained(uri, pin).map_err(|failure| failure.error)
    }

    /// Like [`Pkcs11Vault::inspect`], but the error says what it is about.
    ///
    /// # Errors
    /// Those of [`Pkcs11Vault::inspect`].
    pub fn inspect_explained(uri: &str, pin: Option<&[u8]>) -> Explained<PublicKey> {
        let (uri, pin) = understood(uri, pin)?;
        Ok(TokenKey::open(uri, pin)?.1)
    }

    /// Returns whether `uri` itself contains the PIN.
    ///
    /// # Errors
    /// `InvalidArgument` if it is malformed.
    #[cfg(feature = "nif")]
    pub(crate) fn shows_pin(uri: &str) -> Result<bool> {
        Ok(Uri::parse(uri)?.pin_value.is_some())
    }

    /// Returns the counter in a nonce of this vault, for the project's tests.
    #[cfg(feature = "test-util")]
    pub fn counter_in(&self, nonce: &super::LongTermNonce) -> u64 {
        self.0.counter_in(nonce)
    }
}

/// Parses the URI, and returns it with the PIN, wherever the PIN comes from.
fn understood(uri: &str, pin: Option<&[u8]>) -> Explained<(Uri, Option<Pin>)> {
    crate::crypto::init()?;
    let of_uri = |error| Pkcs11Failure::of(Pkcs11Part::Uri, error);
    let mut uri = Uri::parse(uri).map_err(of_uri)?;
    let in_uri = uri.pin_value.take();
    let pin = match (pin, &uri.pin_source) {
        (Some(pin), _) => Some(Pin::new(pin).map_err(|error| Pkcs11Failure::of(Pkcs11Part::Pin, error))?),
        (None, Some(source)) => {
            let read = Pin::from_file(source);
            Some(read.map_err(|error| Pkcs11Failure::of(Pkcs11Part::PinFile(source.clone()), error))?)
        }
        (None, None) => in_uri,
    };
    Ok((uri, pin))
}

vault_over_local_key!(Pkcs11Vault, true, MAX_CONCURRENCY);
