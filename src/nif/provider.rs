//! Vaults and registries written in Erlang: the connection stops with a
//! request, and its process has that answered.

use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::registry::{Candidate, Registry};
use crate::vault::{LongTermNonce, Purpose, Vault};

/// A vault in an Erlang module, of which only the public key is known here.
pub(super) struct LaterVault(pub PublicKey);

impl Vault for LaterVault {
    fn public_key(&self) -> PublicKey {
        self.0
    }

    fn box_seal(&self, _: Purpose, _: &PublicKey, _: &[u8], _: &mut [u8]) -> Result<LongTermNonce> {
        Err(Error::VaultFailed)
    }

    fn box_open(&self, _: Purpose, _: &PublicKey, _: &[u8], _: &[u8], _: &mut [u8]) -> Result<()> {
        Err(Error::VaultFailed)
    }

    fn deferred(&self) -> bool {
        true
    }
}

/// A registry in an Erlang module.
pub(super) struct LaterRegistry;

impl Registry for LaterRegistry {
    fn verify(&self, _: &Candidate) -> Result<bool> {
        Err(Error::RegistryFailed)
    }

    fn deferred(&self) -> bool {
        true
    }
}
