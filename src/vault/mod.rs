//! Vaults, which hold long-term keys and make long-term nonces.
//!
//! A vault is the only holder of a long-term secret key (the original also calls it "vault"). It
//! seals and opens boxes with that key, makes the long-term nonce itself, and returns it with the
//! box. No method returns the secret key, and none seals under a nonce that the caller chose.

#[cfg(target_os = "linux")]
mod agent;
mod file;
mod local;
mod long_term;
mod memory;
#[cfg(feature = "pkcs11")]
mod pkcs11;
#[cfg(any(feature = "nif", feature = "pkcs11"))]
mod secret_line;
mod shared_keys;
mod store;

pub use crate::crypto::Cost;
pub use crate::sys::{Exposure, secret_exposure};
#[cfg(target_os = "linux")]
pub use agent::{Agent, AgentVault};
pub use file::{FileInfo, FileVault};
pub(crate) use local::LocalKey;
#[cfg(feature = "nif")]
pub(crate) use local::TwoSteps;
use local::vault_over_local_key;
use long_term::LongTermNonces;
pub use memory::MemoryVault;
#[cfg(all(feature = "pkcs11", feature = "test-util"))]
pub use pkcs11::read_pkcs11_uri;
#[cfg(feature = "pkcs11")]
pub use pkcs11::{LeftKey, Pkcs11Failure, Pkcs11Part, Pkcs11Vault};
#[cfg(feature = "nif")]
pub(crate) use secret_line::first_line;
use shared_keys::SharedKeyCache;
#[cfg(feature = "test-util")]
pub use store::STEP;

use crate::crypto::{KEY_BYTES, NONCE_BYTES, Nonce, PublicKey, TAG_BYTES, equal, random};
use crate::error::{Error, Result};
use crate::protocol::nonce;
pub use crate::protocol::nonce::LongTermNonce;
use crate::protocol::packet::{CookieBox, CookieMessage, HELLO_COUNTER, HELLO_ZEROS, HelloBox};

/// What a box under a long-term key is for; it decides the nonce's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Purpose {
    /// The box in a hello. It is sealed by a short-term key, so a vault only opens it. Nonce part:
    /// the 8-byte counter.
    Hello = 1,
    /// The box in a cookie packet. Nonce part: 16 bytes, made by the vault.
    Cookie = 2,
    /// The vouch in an initiate. Nonce part: 16 bytes, made by the vault.
    Vouch = 3,
}

impl Purpose {
    fn prefix(self) -> &'static [u8] {
        match self {
            Purpose::Hello => nonce::CLIENT_HELLO,
            Purpose::Cookie => nonce::COOKIE,
            Purpose::Vouch => nonce::VOUCH,
        }
    }

    /// Returns the number of bytes in a nonce that follow the purpose's prefix: 8 for a hello, else
    /// 16.
    pub fn nonce_len(self) -> usize {
        NONCE_BYTES - self.prefix().len()
    }

    /// Returns the whole nonce of a box: this purpose's prefix, then `part`.
    ///
    /// # Errors
    /// `InvalidArgument` if `part` does not have [`Purpose::nonce_len`] bytes.
    pub fn nonce(self, part: &[u8]) -> Result<Nonce> {
        if part.len() == self.nonce_len() {
            Ok(nonce::join(self.prefix(), part))
        } else {
            Err(Error::InvalidArgument)
        }
    }

    /// Returns the purpose with this number.
    ///
    /// # Errors
    /// `InvalidArgument` if there is none.
    pub fn from_code(code: u32) -> Result<Purpose> {
        match code {
            1 => Ok(Purpose::Hello),
            2 => Ok(Purpose::Cookie),
            3 => Ok(Purpose::Vouch),
            _ => Err(Error::InvalidArgument),
        }
    }
}

/// A holder of a long-term secret key.
///
/// Any number of threads may share it. Implementations must be exact: a nonce that is handed out
/// twice under one key breaks the security of the connections of that key.
///
/// ```
/// use curve_tun::vault::{MemoryVault, Purpose, Vault};
///
/// # fn main() -> curve_tun::Result<()> {
/// let (ours, theirs) = (MemoryVault::generate()?, MemoryVault::generate()?);
/// let (message, mut sealed, mut opened) = ([7; 32], [0; 48], [0; 32]);
/// let nonce = ours.box_seal(Purpose::Vouch, &theirs.public_key(), &message, &mut sealed)?;
/// theirs.box_open(Purpose::Vouch, &ours.public_key(), &nonce, &sealed, &mut opened)?;
/// assert_eq!(opened, message);
/// # Ok(())
/// # }
/// ```
pub trait Vault: Send + Sync {
    /// Returns the public key whose secret this vault holds.
    fn public_key(&self) -> PublicKey;

    /// Seals `message` for `peer` into `sealed`, 16 bytes longer, under a new long-term nonce,
    /// which it returns.
    ///
    /// # Errors
    /// `InvalidArgument` for [`Purpose::Hello`] or for lengths that do not fit, `WeakKey` for a
    /// `peer` of low order, `Forked`, `CounterExhausted`, `VaultFailed`.
    fn box_seal(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<LongTermNonce>;

    /// Opens `sealed`, a box from `peer`, into `message`, 16 bytes shorter. `nonce` is the part of
    /// the nonce that follows the purpose's prefix ([`Purpose::nonce_len`] bytes).
    ///
    /// # Errors
    /// `BadPacket` if it does not open, `InvalidArgument` for lengths that do not fit, `WeakKey`
    /// for a `peer` of low order, `Forked`, `VaultFailed`.
    fn box_open(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &[u8],
        sealed: &[u8],
        message: &mut [u8],
    ) -> Result<()>;

    /// Opens the hello of `client_short` and, if it opens, seals what `cookie` makes for that
    /// client.
    ///
    /// Both boxes have the same shared key, so a vault that keeps this key in between agrees it
    /// only once.
    ///
    /// # Errors
    /// Those of [`Vault::box_open`], [`Vault::box_seal`] and `cookie`.
    fn answer_hello(
        &self,
        client_short: &PublicKey,
        hello: &HelloBox,
        cookie: &mut dyn FnMut() -> Result<CookieMessage>,
    ) -> Result<(LongTermNonce, CookieBox)> {
        let mut opened = HELLO_ZEROS;
        self.box_open(Purpose::Hello, client_short, &HELLO_COUNTER, hello, &mut opened)?;
        check_hello(&opened)?;
        let mut sealed = [0; _];
        let nonce = self.box_seal(Purpose::Cookie, client_short, &cookie()?, &mut sealed)?;
        Ok((nonce, sealed))
    }

    /// Wipes the keys agreed with long-term peers, if the vault caches any to save work when they
    /// come again.
    fn forget_shared_keys(&self) {}

    /// Returns whether the vault takes a while to answer.
    ///
    /// If not, which is the default, it answers within the call, in microseconds, and a connection
    /// calls it directly. If so, a connection stops with a [`Request`](crate::connection::Request),
    /// and its driver has the request answered: on another thread, by another process, or by a call
    /// of this vault where blocking is fine.
    fn deferred(&self) -> bool {
        false
    }

    /// Returns how many calls the vault works on at once, if it is [deferred](Vault::deferred); the
    /// default is 256. At most that many threads, and at least one, call it for the blocking
    /// sockets of a process, or for the connections of a node. Further requests wait for one of
    /// these threads, as long as their handshakes last; the addresses that the requests are for
    /// take turns.
    fn max_concurrency(&self) -> usize {
        256
    }
}

/// Returns `BadPacket` unless a hello opened to 64 zeros.
pub(crate) fn check_hello(opened: &[u8; HELLO_ZEROS.len()]) -> Result<()> {
    if equal(opened, &HELLO_ZEROS) { Ok(()) } else { Err(Error::BadPacket) }
}

/// Checks that a vault can use its key. The vault seals a box for a peer that is made for this
/// check, and the peer opens it.
///
/// This uses one long-term nonce, and takes as long as the vault does.
///
/// # Errors
/// Those of [`Vault::box_seal`]; `VaultFailed` if the box does not fit the vault's public key.
pub fn exercise(vault: &dyn Vault) -> Result<()> {
    let peer = MemoryVault::generate()?;
    let (mut message, mut opened) = ([0; KEY_BYTES], [0; KEY_BYTES]);
    random(&mut message)?;
    let mut sealed = [0; KEY_BYTES + TAG_BYTES];
    // A cookie's peer is not remembered, so the key itself is used.
    let nonce = vault.box_seal(Purpose::Cookie, &peer.public_key(), &message, &mut sealed)?;
    let open = peer.box_open(Purpose::Cookie, &vault.public_key(), &nonce, &sealed, &mut opened);
    if open.is_ok() && equal(&message, &opened) { Ok(()) } else { Err(Error::VaultFailed) }
}
