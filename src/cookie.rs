//! Minute keys: current, previous, wiped (the original's "cookie key process").

use crate::crypto::{MinuteKey, Secret, random};
use crate::error::Result;
use crate::protocol::nonce;
use crate::protocol::packet::{Cookie, take};
use crate::protocol::server::CookieSecrets;
use std::sync::{PoisonError, RwLock};

/// How long a minute key is current, and how long it is accepted after that: 60,000 milliseconds
/// each.
pub const MINUTE_MS: u64 = 60_000;

struct Keys {
    current: MinuteKey,
    previous: Option<MinuteKey>,
    /// When `current` became current.
    since: u64,
}

/// The keys under which a server seals its cookies.
///
/// The clock is the caller's: monotonic milliseconds from any origin. Whoever
/// owns the keys calls [`MinuteKeys::tick`] at the times it names, also when no
/// traffic comes, and so each key is overwritten on time.
pub(crate) struct MinuteKeys(RwLock<Keys>);

impl MinuteKeys {
    pub(crate) fn new(now_ms: u64) -> Result<MinuteKeys> {
        let keys = Keys { current: MinuteKey::generate()?, previous: None, since: now_ms };
        Ok(MinuteKeys(RwLock::new(keys)))
    }

    /// Rotates what is due at `now_ms`; gives the time of the next rotation.
    ///
    /// # Errors
    /// `OutOfMemory` if a new key cannot be had; the current one then stays current, the previous
    /// one is wiped.
    pub(crate) fn tick(&self, now_ms: u64) -> Result<u64> {
        if now_ms.saturating_sub(self.read().since) >= MINUTE_MS {
            let new = MinuteKey::generate();
            let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
            let age = now_ms.saturating_sub(keys.since);
            // Another thread may have rotated since.
            if age >= MINUTE_MS {
                keys.previous = None;
                let old = std::mem::replace(&mut keys.current, new?);
                let one_due = age < 2 * MINUTE_MS;
                keys.previous = one_due.then_some(old);
                keys.since = if one_due { keys.since + MINUTE_MS } else { now_ms };
            }
        }
        Ok(self.read().since.saturating_add(MINUTE_MS))
    }

    /// `K` for these secrets, under the current key and a random nonce.
    pub(crate) fn seal(&self, secrets: &CookieSecrets) -> Result<Cookie> {
        let mut cookie: Cookie = [0; _];
        let (nonce, sealed) = cookie.split_at_mut(16);
        random(nonce)?;
        let mut cookie_nonce = [0; 16];
        cookie_nonce.copy_from_slice(nonce);
        let nonce = nonce::long_term(nonce::MINUTE_KEY, &cookie_nonce);
        self.read().current.seal(&nonce, secrets.bytes(), sealed);
        Ok(cookie)
    }

    /// Returns the secrets in `K`, if a key that lives sealed it.
    pub(crate) fn open(&self, cookie: &Cookie) -> Result<Option<CookieSecrets>> {
        let mut sealed = &cookie[..];
        let nonce = nonce::long_term(nonce::MINUTE_KEY, &take(&mut sealed)?);
        let mut secrets = Secret::zeroed()?;
        let keys = self.read();
        let live = std::iter::once(&keys.current).chain(&keys.previous);
        let opened = live.into_iter().any(|key| key.open(&nonce, sealed, secrets.bytes_mut()));
        Ok(opened.then_some(secrets))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Keys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
