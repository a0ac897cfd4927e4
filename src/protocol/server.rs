//! The server's side of the handshake: hello, then cookie, then initiate.

use crate::crypto::{EphemeralSecret, KEY_BYTES, PublicKey, Secret, equal, fingerprint, public};
use crate::error::{Error, Result};
use crate::protocol::channel::{Opener, Role, Sealer, channel};
use crate::protocol::nonce::{self, LongTermNonce};
use crate::protocol::packet::{self, Cookie, CookieMessage, Initiate, InitiateMessage, Vouch};

/// The message of a cookie's secret box: `EC`, then `ESs`.
pub(crate) type CookieSecrets = Secret<{ 2 * KEY_BYTES }>;

/// The state after the cookie, in which the server waits for the initiate. Only the cookie has
/// `ESs`.
pub(crate) struct AwaitInitiate {
    client_short: PublicKey,
    /// The fingerprint of the `K` that was issued here. No other `K` is accepted on this
    /// connection.
    issued: [u8; 32],
}

/// An initiate that opened. The vault has not opened its vouch yet.
pub(crate) struct Initiated {
    client_short: PublicKey,
    /// The long-term key that the client claims.
    pub client: PublicKey,
    pub vouch_nonce: LongTermNonce,
    pub vouch: Vouch,
    sealer: Sealer,
    opener: Opener,
}

/// A vouch that opened: the client holds `client`'s secret. The registry has not decided yet.
pub(crate) struct Proven {
    pub client: PublicKey,
    pub sealer: Sealer,
    pub opener: Opener,
}

/// Makes `ES, ESs` for a client's hello, and returns the message of the cookie packet.
///
/// `seal` makes `K` under the minute key. After that, `ESs` is wiped here.
pub(crate) fn make_cookie(
    client_short: PublicKey,
    seal: impl FnOnce(&CookieSecrets) -> Result<Cookie>,
) -> Result<(AwaitInitiate, CookieMessage)> {
    let (server_short, secret) = EphemeralSecret::generate()?;
    let mut secrets = Secret::zeroed()?;
    let (ec, ess) = secrets.bytes_mut().split_at_mut(KEY_BYTES);
    ec.copy_from_slice(&client_short.0);
    ess.copy_from_slice(secret.bytes());
    let cookie = seal(&secrets)?;
    let mut message: CookieMessage = [0; _];
    let (es, k) = message.split_at_mut(KEY_BYTES);
    es.copy_from_slice(&server_short.0);
    k.copy_from_slice(&cookie);
    Ok((AwaitInitiate { client_short, issued: fingerprint(&cookie) }, message))
}

impl AwaitInitiate {
    /// Checks and opens the initiate, with the cheap checks first.
    ///
    /// `open` opens `K` under the minute keys that still exist. `None` means that its key is gone,
    /// because a `K` that was issued on this very connection cannot be anything else.
    pub(crate) fn consume_initiate(
        &self,
        packet: &[u8],
        open: impl FnOnce(&Cookie) -> Result<Option<CookieSecrets>>,
    ) -> Result<Initiated> {
        let packet = Initiate::parse(packet)?;
        if !equal(&fingerprint(&packet.cookie), &self.issued) {
            return Err(Error::BadPacket);
        }
        let secrets = open(&packet.cookie)?.ok_or(Error::CookieExpired)?;
        let (ec, ess) = secrets.bytes().split_first_chunk().ok_or(Error::Internal)?;
        if !self.client_short.is(&PublicKey(*ec)) {
            return Err(Error::BadPacket);
        }
        let secret = EphemeralSecret::from_bytes(ess.first_chunk().ok_or(Error::Internal)?)?;
        drop(secrets);
        let shared = secret.agree(&self.client_short).map_err(|_| Error::BadPacket)?;
        let nonce = nonce::short_term(nonce::CLIENT_INITIATE, packet::INITIATE_COUNTER);
        let mut message: InitiateMessage = [0; _];
        shared.open(&nonce, &packet.sealed, &mut message)?;
        let (sealer, opener) = channel(shared, Role::Server)?;
        let mut fields = &message[..];
        Ok(Initiated {
            client_short: self.client_short,
            client: public(PublicKey(packet::take(&mut fields)?)),
            vouch_nonce: packet::take(&mut fields)?,
            vouch: packet::take(&mut fields)?,
            sealer,
            opener,
        })
    }
}

impl Initiated {
    /// Checks what the vault found in the vouch. If it is `EC`, the client's key is proven.
    pub(crate) fn prove(self, vouched: &[u8; KEY_BYTES]) -> Result<Proven> {
        if !equal(vouched, &self.client_short.0) {
            return Err(Error::BadPacket);
        }
        Ok(Proven { client: self.client, sealer: self.sealer, opener: self.opener })
    }
}
