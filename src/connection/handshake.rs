//! The steps between ready and connected (`docs/PROTOCOL.md`, "Handshake").

use super::{Answer, Connection, HandshakeOutcome, Request, Server, State};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::protocol::channel::{Opener, Sealer};
use crate::protocol::client::{AwaitCookie, AwaitVouch};
use crate::protocol::packet::{COOKIE_LEN, CookiePacket, HELLO_LEN, Hello, INITIATE_LEN};
use crate::protocol::server::{self, AwaitInitiate, Initiated, Proven};
use crate::registry::{Candidate, Registry};
use crate::vault::Vault;
use std::sync::Arc;

/// Before the hello is sent, or answered.
pub(super) enum Ready {
    /// The hello waits to be written to the transport.
    Client(Initiating),
    /// The hello is awaited.
    Server,
    /// The vault opens the hello and seals the cookie.
    Answering(AwaitInitiate),
}

/// The client after its hello.
pub(super) enum Initiating {
    /// The cookie is awaited.
    Cookie { vault: Arc<dyn Vault>, server: PublicKey, next: AwaitCookie },
    /// The vault seals the vouch.
    Vouch { client: PublicKey, server: PublicKey, next: AwaitVouch },
}

/// The server after its cookie.
pub(super) enum Accepting {
    /// The initiate is awaited.
    Initiate(AwaitInitiate),
    /// The vault opens the vouch.
    Vouch(Initiated),
    /// The registry decides.
    Verdict(Proven),
}

/// What a provider must answer before the handshake can go on.
pub(super) enum Asked {
    /// For the server's vault.
    Hello(Hello),
    Vault(Arc<dyn Vault>, Request),
    Registry(Arc<dyn Registry>, Candidate),
}

/// Says whether an answer is of the kind that the request asks for.
pub(super) fn fits(request: &Request, answer: &Answer) -> bool {
    matches!(
        (request, answer),
        (_, Answer::Failed(_))
            | (Request::AnswerHello { .. }, Answer::HelloAnswered(..))
            | (Request::SealVouch { .. }, Answer::VouchSealed(..))
            | (Request::OpenVouch { .. }, Answer::VouchOpened(..))
            | (Request::Verify(_), Answer::Verdict(_))
    )
}

impl Connection {
    /// Makes a client initiating, once the transport has taken the first bytes of its hello.
    pub(super) fn hello_said(&mut self) {
        if let State::Ready(Ready::Client(_)) = self.state
            && let State::Ready(Ready::Client(next)) = self.leave()
        {
            self.state = State::Initiating(next);
        }
    }

    /// Goes as far as bytes and providers allow: performs what is asked, or else consumes the next
    /// packet, until there is neither.
    pub(super) fn step(&mut self, mut asked: Option<Asked>) -> Result<()> {
        loop {
            asked = if let Some(asked) = asked {
                // For a provider that answers later, the driver takes the request from here.
                let Some(answer) = self.perform(asked)? else { return Ok(()) };
                self.consume_answer(answer)?
            } else {
                let asked = self.consume_packet()?;
                if asked.is_none() {
                    return Ok(());
                }
                asked
            }
        }
    }

    /// Takes the state out, for a step to put in the next one; until then the connection is closed.
    fn leave(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Closed)
    }

    /// Returns the server of a server's end.
    fn own_server(&self) -> Result<Arc<Server>> {
        self.permit.as_ref().map(|permit| permit.server().clone()).ok_or(Error::Internal)
    }

    /// Consumes the packet that the state awaits, if all of it is there, and returns what to ask
    /// because of it. Once connected, opens every message instead.
    fn consume_packet(&mut self) -> Result<Option<Asked>> {
        match &mut self.state {
            State::Connected(_, opener) => self.recv_buffer.open_all(opener).map(|()| None),
            State::Ready(Ready::Server) => {
                let packet = self.recv_buffer.handshake_packet::<HELLO_LEN>()?;
                packet.map(|packet| Hello::parse(&packet).map(Asked::Hello)).transpose()
            }
            State::Initiating(Initiating::Cookie { .. }) => {
                let packet = self.recv_buffer.handshake_packet::<COOKIE_LEN>()?;
                packet.map(|packet| self.consume_cookie(&packet)).transpose()
            }
            State::Accepting(Accepting::Initiate(..)) => {
                let packet = self.recv_buffer.handshake_packet::<INITIATE_LEN>()?;
                packet.map(|packet| self.consume_initiate(&packet)).transpose()
            }
            // A server that speaks before our hello has reached it cannot be answering it.
            State::Ready(Ready::Client(_)) if !self.recv_buffer.is_empty() => Err(Error::BadPacket),
            // An answer is awaited; bytes that come early wait in the buffer.
            _ => Ok(None),
        }
    }

    /// Client: consumes the cookie, and asks the vault to seal the vouch.
    fn consume_cookie(&mut self, packet: &[u8]) -> Result<Asked> {
        let State::Initiating(Initiating::Cookie { vault, server, next }) = self.leave() else {
            return Err(Error::Internal);
        };
        let next = next.consume_cookie(packet)?;
        let request = Request::SealVouch { server, message: *next.vouch_message() };
        self.state = State::Initiating(Initiating::Vouch { client: vault.public_key(), server, next });
        Ok(Asked::Vault(vault, request))
    }

    /// Server: consumes the initiate, and asks the vault to open the vouch.
    fn consume_initiate(&mut self, packet: &[u8]) -> Result<Asked> {
        let State::Accepting(Accepting::Initiate(next)) = self.leave() else { return Err(Error::Internal) };
        let server = self.own_server()?;
        let initiated = next.consume_initiate(packet, |cookie| server.minute_keys.open(cookie))?;
        let (client, nonce, vouch) = (initiated.client, initiated.vouch_nonce, initiated.vouch);
        self.state = State::Accepting(Accepting::Vouch(initiated));
        Ok(Asked::Vault(server.vault.clone(), Request::OpenVouch { client, nonce, vouch }))
    }

    /// Returns the answer of a provider that answers on the spot. For one that answers later, makes
    /// this the connection's request.
    fn perform(&mut self, asked: Asked) -> Result<Option<Answer>> {
        let request = match asked {
            Asked::Hello(hello) => return self.perform_hello(&hello),
            Asked::Vault(vault, request) if vault.deferred() => request,
            Asked::Vault(vault, request) => return Ok(Some(request.perform_by_vault(&*vault))),
            Asked::Registry(registry, candidate) if registry.deferred() => Request::Verify(candidate),
            Asked::Registry(registry, candidate) => return Ok(Some(registry.verify(&candidate).into())),
        };
        self.request = Some(Box::new(request));
        Ok(None)
    }

    /// Server: has its vault open the hello and seal the cookie. If the vault answers on the spot,
    /// the cookie is made only for a hello that opens.
    fn perform_hello(&mut self, hello: &Hello) -> Result<Option<Answer>> {
        let State::Ready(Ready::Server) = self.leave() else { return Err(Error::Internal) };
        let server = self.own_server()?;
        let mut made = None;
        let mut make_cookie = || {
            let (next, message) =
                server::make_cookie(hello.client_short, |secrets| server.minute_keys.seal(secrets))?;
            made = Some(next);
            Ok(message)
        };
        let answer = if server.vault.deferred() {
            let cookie = make_cookie()?;
            let (client_short, hello) = (hello.client_short, hello.sealed);
            self.request = Some(Box::new(Request::AnswerHello { client_short, hello, cookie }));
            None
        } else {
            let answered = server.vault.answer_hello(&hello.client_short, &hello.sealed, &mut make_cookie);
            let (nonce, sealed) = answered.map_err(|error| blame(error, Error::VaultFailed))?;
            Some(Answer::HelloAnswered(nonce, sealed))
        };
        // A vault that succeeds without asking for the cookie has failed: it sealed something else.
        self.state = State::Ready(Ready::Answering(made.ok_or(Error::VaultFailed)?));
        Ok(answer)
    }

    /// Consumes a provider's answer: makes the next packet, or returns what to ask next.
    pub(super) fn consume_answer(&mut self, answer: Answer) -> Result<Option<Asked>> {
        match (self.leave(), answer) {
            (State::Accepting(Accepting::Verdict(..)), Answer::Failed(error)) => {
                Err(blame(error, Error::RegistryFailed))
            }
            (_, Answer::Failed(error)) => Err(blame(error, Error::VaultFailed)),
            (State::Ready(Ready::Answering(next)), Answer::HelloAnswered(nonce, sealed)) => {
                self.send_buffer.push_packet(&CookiePacket { nonce, sealed }.parts());
                self.state = State::Accepting(Accepting::Initiate(next));
                Ok(None)
            }
            (
                State::Initiating(Initiating::Vouch { client, server, next }),
                Answer::VouchSealed(nonce, vouch),
            ) => {
                let (initiate, sealer, opener) = next.make_initiate(&client, &nonce, &vouch)?;
                self.send_buffer.push_packet(&initiate.parts());
                self.key = Some(server);
                self.connected(sealer, opener);
                Ok(None)
            }
            (State::Accepting(Accepting::Vouch(initiated)), Answer::VouchOpened(vouched)) => {
                let proven = initiated.prove(&vouched)?;
                let permit = self.permit.as_mut().ok_or(Error::Internal)?;
                let (server, address) = (permit.server().clone(), permit.address());
                permit.key = Some(proven.client);
                self.key = Some(proven.client);
                let candidate = Candidate::new(address, proven.client).at(server.options().listener.clone());
                self.state = State::Accepting(Accepting::Verdict(proven));
                Ok(Some(Asked::Registry(server.registry.clone(), candidate)))
            }
            (State::Accepting(Accepting::Verdict(proven)), Answer::Verdict(accepted)) => {
                if !accepted {
                    return Err(Error::UnknownPeer);
                }
                self.connected(proven.sealer, proven.opener);
                self.permit.take().ok_or(Error::Internal)?.end(HandshakeOutcome::Accepted);
                Ok(None)
            }
            _ => Err(Error::Internal),
        }
    }

    fn connected(&mut self, sealer: Sealer, opener: Opener) {
        self.was_connected = true;
        self.state = State::Connected(sealer, opener);
    }
}

/// Returns what a failure of a vault or a registry means to the connection that it ends.
///
/// A key of low order in a handshake came from the peer: its packet is refused. An error that is
/// about a call, and would look as if the connection went on, becomes `failed`.
fn blame(error: Error, failed: Error) -> Error {
    match error {
        Error::WeakKey => Error::BadPacket,
        Error::Null
        | Error::InvalidArgument
        | Error::WrongState
        | Error::TooLarge
        | Error::TooSmall
        | Error::WouldBlock
        | Error::Closed
        | Error::UnknownPeer => failed,
        error => error,
    }
}
