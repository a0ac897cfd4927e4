//! Custom vaults: one in memory, with an action before each call.

use curve_tun::vault::{LongTermNonce, MemoryVault, Purpose, Vault};
use curve_tun::{PublicKey, Result};
use std::sync::Arc;

/// A box that a vault is to seal or to open.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub opens: bool,
    pub purpose: Purpose,
    pub peer: &'a PublicKey,
}

/// The action that a test puts before the calls of a vault.
pub trait Before: Send + Sync {
    /// Runs first; an error becomes the call's.
    ///
    /// # Errors
    /// Those that the test wants.
    fn call(&self, call: &Call) -> Result<()>;

    fn deferred(&self) -> bool {
        true
    }

    /// Like [`Vault::max_concurrency`]; `None` for a vault that does not define it.
    fn max_concurrency(&self) -> Option<usize> {
        None
    }
}

pub struct Wrapped<B> {
    pub inner: MemoryVault,
    pub before: B,
}

impl<B: Before> Wrapped<B> {
    /// Wraps a new vault.
    pub fn around(before: B) -> Arc<Wrapped<B>> {
        Arc::new(Wrapped { inner: MemoryVault::generate().unwrap(), before })
    }
}

impl<B: Before> Vault for Wrapped<B> {
    fn public_key(&self) -> PublicKey {
        self.inner.public_key()
    }

    fn box_seal(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<LongTermNonce> {
        self.before.call(&Call { opens: false, purpose, peer })?;
        self.inner.box_seal(purpose, peer, message, sealed)
    }

    fn box_open(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &[u8],
        sealed: &[u8],
        message: &mut [u8],
    ) -> Result<()> {
        self.before.call(&Call { opens: true, purpose, peer })?;
        self.inner.box_open(purpose, peer, nonce, sealed, message)
    }

    fn deferred(&self) -> bool {
        self.before.deferred()
    }

    fn max_concurrency(&self) -> usize {
        self.before.max_concurrency().unwrap_or_else(|| self.inner.max_concurrency())
    }
}
