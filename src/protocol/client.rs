//! The client's side of the handshake: hello, then cookie, then initiate.

use crate::crypto::{EphemeralSecret, KEY_BYTES, PublicKey, SharedKey, public};
use crate::error::{Error, Result};
use crate::protocol::channel::{Opener, Role, Sealer, channel};
use crate::protocol::nonce::{self, LongTermNonce};
use crate::protocol::packet::{self, Cookie, CookieMessage, CookiePacket, Hello, Initiate, Vouch};

/// The state after the hello, in which the client waits for the cookie.
pub(crate) struct AwaitCookie {
    client_short: PublicKey,
    secret: EphemeralSecret,
    /// The key of both the hello and the cookie.
    hello_key: SharedKey,
}

/// The state after the cookie, in which the client waits for the vault's vouch.
pub(crate) struct AwaitVouch {
    client_short: PublicKey,
    secret: EphemeralSecret,
    server_short: PublicKey,
    cookie: Cookie,
}

impl AwaitCookie {
    /// Makes `EC, ECs` and the hello for `server`; `WeakKey` if the server's key is of low order.
    pub(crate) fn make_hello(server: &PublicKey) -> Result<(AwaitCookie, Hello)> {
        let (client_short, secret) = EphemeralSecret::generate()?;
        let hello_key = secret.agree(server)?;
        let nonce = nonce::short_term(nonce::CLIENT_HELLO, packet::HELLO_COUNTER);
        let mut sealed = [0; _];
        hello_key.seal(&nonce, &packet::HELLO_ZEROS, &mut sealed);
        Ok((AwaitCookie { client_short, secret, hello_key }, Hello { client_short, sealed }))
    }

    /// Opens the cookie packet; `WrongServerKey` if its box is not from the holder of the server's
    /// key.
    pub(crate) fn consume_cookie(self, packet: &[u8]) -> Result<AwaitVouch> {
        let packet = CookiePacket::parse(packet)?;
        let nonce = nonce::long_term(nonce::COOKIE, &packet.nonce);
        let mut message: CookieMessage = [0; _];
        self.hello_key.open(&nonce, &packet.sealed, &mut message).map_err(|_| Error::WrongServerKey)?;
        let mut fields = &message[..];
        Ok(AwaitVouch {
            client_short: self.client_short,
            secret: self.secret,
            server_short: public(PublicKey(packet::take(&mut fields)?)),
            cookie: packet::take(&mut fields)?,
        })
    }
}

impl AwaitVouch {
    /// Returns the message of the vouch: `EC`.
    pub(crate) fn vouch_message(&self) -> &[u8; KEY_BYTES] {
        &self.client_short.0
    }

    /// Builds the initiate around the vault's vouch. The connection is then established.
    pub(crate) fn make_initiate(
        self,
        client: &PublicKey,
        vouch_nonce: &LongTermNonce,
        vouch: &Vouch,
    ) -> Result<(Initiate, Sealer, Opener)> {
        let shared = self.secret.agree(&self.server_short).map_err(|_| Error::BadPacket)?;
        let message = [&client.0[..], vouch_nonce, vouch].concat();
        let nonce = nonce::short_term(nonce::CLIENT_INITIATE, packet::INITIATE_COUNTER);
        let mut sealed = [0; _];
        shared.seal(&nonce, &message, &mut sealed);
        let (sealer, opener) = channel(shared, Role::Client)?;
        Ok((Initiate { cookie: self.cookie, sealed }, sealer, opener))
    }
}
