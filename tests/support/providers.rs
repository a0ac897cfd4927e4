//! Vaults and registries that answer later, count, or fail.

use curve_tun::registry::{Candidate, Registry};
use curve_tun::vault::{LongTermNonce, MemoryVault, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A vault whose connections stop with a request.
pub struct LaterVault(pub MemoryVault);

impl Vault for LaterVault {
    fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    fn box_seal(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<LongTermNonce, Error> {
        self.0.box_seal(purpose, peer, message, sealed)
    }

    fn box_open(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &[u8],
        sealed: &[u8],
        message: &mut [u8],
    ) -> Result<(), Error> {
        self.0.box_open(purpose, peer, nonce, sealed, message)
    }

    fn deferred(&self) -> bool {
        true
    }
}

/// A registry that always decides the same, and counts how often it was asked.
pub struct TestRegistry {
    pub verdict: Result<bool, Error>,
    pub deferred: bool,
    pub asked: AtomicUsize,
}

impl TestRegistry {
    pub fn new(verdict: Result<bool, Error>, deferred: bool) -> TestRegistry {
        TestRegistry { verdict, deferred, asked: AtomicUsize::new(0) }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Registry for TestRegistry {
    fn verify(&self, _: &Candidate) -> Result<bool, Error> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.verdict
    }

    fn deferred(&self) -> bool {
        self.deferred
    }
}
