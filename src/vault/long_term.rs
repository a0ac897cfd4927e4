//! Long-term nonces: `counter:64, random:64`, enciphered.

use super::store::CounterLog;
use crate::crypto::{NonceKey, random};
use crate::error::{Error, Result};
use crate::protocol::nonce::LongTermNonce;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The vault's counter and its nonce block key, which hides the counter.
pub(crate) struct LongTermNonces {
    key: NonceKey,
    counter: AtomicU64,
    /// The end of the counters that may be used now; the counter log raises it.
    bound: AtomicU64,
    /// Keeps the bound across restarts and crashes. Without a log, the block key is new each time.
    counter_log: Option<Mutex<CounterLog>>,
}

impl LongTermNonces {
    /// Makes a new random block key, under which no counter has been used.
    pub(crate) fn new() -> Result<LongTermNonces> {
        let key = NonceKey::generate()?;
        Ok(LongTermNonces {
            key,
            counter: AtomicU64::new(0),
            bound: AtomicU64::new(u64::MAX),
            counter_log: None,
        })
    }

    /// Takes a block key that was used before; `counter_log` knows how far its counters were used.
    pub(crate) fn kept(key: NonceKey, counter_log: CounterLog) -> LongTermNonces {
        // No counters are left, so the first nonce asks the counter log for some.
        let (counter, bound) = (AtomicU64::new(0), AtomicU64::new(0));
        LongTermNonces { key, counter, bound, counter_log: Some(Mutex::new(counter_log)) }
    }

    /// Returns a nonce that was never handed out before.
    ///
    /// # Errors
    /// `CounterExhausted` after 2^64 - 1 of them; those of [`CounterLog::raise`] when a bound
    /// cannot be written to the disk: no nonce is handed out, and the next call tries again.
    pub(crate) fn next(&self) -> Result<LongTermNonce> {
        let counter = loop {
            let bound = self.bound.load(Ordering::Acquire);
            let below = |counter| (counter < bound).then_some(counter + 1);
            match self.counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, below) {
                Ok(counter) => break counter,
                Err(_) => self.raise(bound)?,
            }
        };
        let mut block = [0; 16];
        block[..8].copy_from_slice(&counter.to_be_bytes());
        random(&mut block[8..])?;
        Ok(self.key.encipher(block))
    }

    /// Raises the bound above `reached`, unless another thread has just done so.
    fn raise(&self, reached: u64) -> Result<()> {
        let counter_log = self.counter_log.as_ref().ok_or(Error::CounterExhausted)?;
        let mut counter_log = counter_log.lock().unwrap_or_else(PoisonError::into_inner);
        if self.bound.load(Ordering::Acquire) == reached {
            let counters = counter_log.raise()?;
            // In this order: until the bound is raised, nobody takes a counter.
            self.counter.store(counters.start, Ordering::Release);
            self.bound.store(counters.end, Ordering::Release);
        }
        Ok(())
    }

    /// Returns the counter in a nonce of this vault, for the project's tests.
    #[cfg(feature = "test-util")]
    pub(crate) fn counter_in(&self, nonce: &LongTermNonce) -> u64 {
        let block = self.key.decipher(*nonce);
        block[..8].iter().fold(0, |counter, byte| counter << 8 | u64::from(*byte))
    }
}
