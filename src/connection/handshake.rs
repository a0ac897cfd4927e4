//! The steps between ready and connected (`docs/PROTOCOL.md`, "Handshake").

use super::{Answer, Connection, HandshakeOutcome, Request, Server, State};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::protocol::client::{AwaitCookie, AwaitVouch};
use crate::protocol::packet::{COOKIE_LEN, CookiePacket, HELLO_LEN, Hello, INITIATE_LEN};
use crate::protocol::server::{AwaitInitiate, Initiated, Proven, offer};
use crate::registry::Candidate;
use crate::vault::{Answers, Vault};
use std::sync::Arc;

/// Before the hello is said, or answered.
pub(super) enum Ready {
    /// The hello waits for the transport.
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

/// Whether an answer is of the kind that the request asks for.
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
    /// The transport has the first bytes of the hello: a client is initiating from here on.
    pub(super) fn hello_said(&mut self) {
        if let State::Ready(Ready::Client(_)) = self.state
            && let State::Ready(Ready::Client(next)) = self.leave()
        {
            self.state = State::Initiating(next);
        }
    }

    /// Does all that the bytes in the inbox allow.
    pub(super) fn advance(&mut self) -> Result<()> {
        loop {
            match &mut self.state {
                State::Connected(_, opener) => return self.inbox.open_all(opener),
                State::Ready(Ready::Server) => match self.inbox.handshake_packet::<HELLO_LEN>()? {
                    Some(packet) => self.hello(&packet)?,
                    None => return Ok(()),
                },
                State::Initiating(Initiating::Cookie { .. }) => {
                    match self.inbox.handshake_packet::<COOKIE_LEN>()? {
                        Some(packet) => self.cookie(&packet)?,
                        None => return Ok(()),
                    }
                }
                State::Accepting(Accepting::Initiate(..)) => {
                    match self.inbox.handshake_packet::<INITIATE_LEN>()? {
                        Some(packet) => self.initiate(&packet)?,
                        None => return Ok(()),
                    }
                }
                // A server that speaks before our hello has reached it cannot be answering it.
                State::Ready(Ready::Client(_)) if !self.inbox.is_empty() => return Err(Error::BadPacket),
                // An answer is awaited; what came early waits with it.
                _ => return Ok(()),
            }
        }
    }

    /// Takes the state out, for a step to put the next one in; until then it is closed.
    fn leave(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Closed)
    }

    /// The server of a server's end.
    fn own_server(&self) -> Result<Arc<Server>> {
        self.slot.as_ref().map(|slot| slot.server().clone()).ok_or(Error::Internal)
    }

    /// Server: hello to cookie.
    fn hello(&mut self, packet: &[u8]) -> Result<()> {
        let hello = Hello::parse(packet)?;
        let State::Ready(Ready::Server) = self.leave() else { return Err(Error::Internal) };
        let server = self.own_server()?;
        let mut made = None;
        let mut cookie = || {
            let (next, message) = offer(hello.client_short, |secrets| server.minute_keys.seal(secrets))?;
            made = Some(next);
            Ok(message)
        };
        match server.vault.answers() {
            Answers::Now => {
                let answer = server.vault.answer_hello(&hello.client_short, &hello.sealed, &mut cookie);
                let (nonce, sealed) = answer.map_err(|error| blame(error, Error::VaultFailed))?;
                let next = made.ok_or(Error::VaultFailed)?;
                self.state = State::Ready(Ready::Answering(next));
                self.settle(Answer::HelloAnswered(nonce, sealed))
            }
            Answers::Later => {
                let cookie = cookie()?;
                let next = made.ok_or(Error::Internal)?;
                self.state = State::Ready(Ready::Answering(next));
                let (client_short, hello) = (hello.client_short, hello.sealed);
                self.request = Some(Box::new(Request::AnswerHello { client_short, hello, cookie }));
                Ok(())
            }
        }
    }

    /// Client: cookie to the request for a vouch.
    fn cookie(&mut self, packet: &[u8]) -> Result<()> {
        let State::Initiating(Initiating::Cookie { vault, server, next }) = self.leave() else {
            return Err(Error::Internal);
        };
        let next = next.cookie(packet)?;
        let request = Request::SealVouch { server, message: *next.vouch_message() };
        self.state = State::Initiating(Initiating::Vouch { client: vault.public_key(), server, next });
        self.ask(vault.answers(), request, |request| request.perform_by_vault(&*vault))
    }

    /// Server: initiate to the request for the vouch's opening.
    fn initiate(&mut self, packet: &[u8]) -> Result<()> {
        let State::Accepting(Accepting::Initiate(next)) = self.leave() else { return Err(Error::Internal) };
        let server = self.own_server()?;
        let initiated = next.initiate(packet, |cookie| server.minute_keys.open(cookie))?;
        let (client, nonce, vouch) = (initiated.client, initiated.vouch_nonce, initiated.vouch);
        self.state = State::Accepting(Accepting::Vouch(initiated));
        let request = Request::OpenVouch { client, nonce, vouch };
        self.ask(server.vault.answers(), request, |request| request.perform_by_vault(&*server.vault))
    }

    /// Asks on the spot or stops, as the one who is asked wishes.
    fn ask(
        &mut self,
        answers: Answers,
        request: Request,
        perform: impl FnOnce(&Request) -> Answer,
    ) -> Result<()> {
        match answers {
            Answers::Now => self.settle(perform(&request)),
            Answers::Later => {
                self.request = Some(Box::new(request));
                Ok(())
            }
        }
    }

    /// Goes on with an answer.
    pub(super) fn settle(&mut self, answer: Answer) -> Result<()> {
        match (self.leave(), answer) {
            (State::Accepting(Accepting::Verdict(..)), Answer::Failed(error)) => {
                Err(blame(error, Error::RegistryFailed))
            }
            (_, Answer::Failed(error)) => Err(blame(error, Error::VaultFailed)),
            (State::Ready(Ready::Answering(next)), Answer::HelloAnswered(nonce, sealed)) => {
                self.outbox.push_packet(&CookiePacket { nonce, sealed }.parts());
                self.state = State::Accepting(Accepting::Initiate(next));
                Ok(())
            }
            (
                State::Initiating(Initiating::Vouch { client, server, next }),
                Answer::VouchSealed(nonce, vouch),
            ) => {
                let (initiate, sealer, opener) = next.initiate(&client, &nonce, &vouch)?;
                self.outbox.push_packet(&initiate.parts());
                self.key = Some(server);
                self.was_connected = true;
                self.state = State::Connected(sealer, opener);
                Ok(())
            }
            (State::Accepting(Accepting::Vouch(initiated)), Answer::VouchOpened(vouched)) => {
                let proven = initiated.prove(&vouched)?;
                let slot = self.slot.as_mut().ok_or(Error::Internal)?;
                let (server, address) = (slot.server().clone(), slot.address());
                slot.key = Some(proven.client);
                self.key = Some(proven.client);
                let candidate = Candidate::new(address, proven.client).at(server.options().listener.clone());
                let request = Request::Verify(candidate);
                self.state = State::Accepting(Accepting::Verdict(proven));
                let perform = |request: &Request| request.perform(&*server.vault, &*server.registry);
                self.ask(server.registry.answers(), request, perform)
            }
            (State::Accepting(Accepting::Verdict(proven)), Answer::Verdict(accepted)) => {
                if !accepted {
                    return Err(Error::UnknownPeer);
                }
                self.was_connected = true;
                self.state = State::Connected(proven.sealer, proven.opener);
                self.slot.take().ok_or(Error::Internal)?.end(HandshakeOutcome::Accepted);
                Ok(())
            }
            _ => Err(Error::Internal),
        }
    }
}

/// What a failure of a vault or a registry means to the connection that it ends.
///
/// A key of low order in a handshake came from the peer: its packet is refused. An error that speaks of calls, and would
/// look as if the connection went on, becomes `failed`.
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
