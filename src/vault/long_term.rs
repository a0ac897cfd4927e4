//! Long-term nonces: `counter:64, random:64`, enciphered.

use crate::crypto::{NonceKey, random};
use crate::error::{Error, Result};
use crate::protocol::nonce::LongTermNonce;
use std::sync::atomic::{AtomicU64, Ordering};

/// The vault's counter and its nonce block key, which keeps the counter from showing.
pub(crate) struct LongTermNonces {
    key: NonceKey,
    counter: AtomicU64,
}

impl LongTermNonces {
    /// A new random block key, under which no counter has been used.
    pub(crate) fn new() -> Result<LongTermNonces> {
        Ok(LongTermNonces { key: NonceKey::generate()?, counter: AtomicU64::new(0) })
    }

    /// A nonce that was never given out before; `CounterExhausted` after 2^64 - 1 of them.
    pub(crate) fn next(&self) -> Result<LongTermNonce> {
        let counter = self
            .counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |c| c.checked_add(1))
            .map_err(|_| Error::CounterExhausted)?;
        let mut block = [0; 16];
        block[..8].copy_from_slice(&counter.to_be_bytes());
        random(&mut block[8..])?;
        Ok(self.key.encipher(block))
    }
}
