//! The steps between ready and connected (`docs/PROTOCOL.md`, "Handshake").

use super::server::Slot;
use super::{Answer, Connection, Request, State};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::protocol::client::{AwaitCookie, AwaitVouch};
use crate::protocol::packet::{COOKIE_LEN, CookiePacket, HELLO_LEN, Hello, INITIATE_LEN};
use crate::protocol::server::{AwaitInitiate, Initiated, Proven, offer};
use crate::registry::Candidate;
use crate::vault::{Answers, Vault};
use std::net::IpAddr;
use std::sync::Arc;

/// Before the hello is said, or answered.
pub(super) enum Ready {
    /// The hello waits for the transport.
    Client(Initiating),
    /// The hello is awaited.
    Server(Slot, IpAddr),
    /// The vault opens the hello and seals the cookie.
    Answering(Slot, IpAddr, AwaitInitiate),
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
    Initiate(Slot, IpAddr, AwaitInitiate),
    /// The vault opens the vouch.
    Vouch(Slot, IpAddr, Initiated),
    /// The registry decides; only the slot of the first two is still needed.
    Verdict(Slot, Proven),
}

impl Accepting {
    pub(super) fn slot(&self) -> &Slot {
        match self {
            Accepting::Initiate(slot, ..) | Accepting::Vouch(slot, ..) | Accepting::Verdict(slot, _) => slot,
        }
    }
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
                State::Ready(Ready::Server(..)) => match self.inbox.handshake_packet::<HELLO_LEN>()? {
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

    /// Server: hello to cookie.
    fn hello(&mut self, packet: &[u8]) -> Result<()> {
        let hello = Hello::parse(packet)?;
        let State::Ready(Ready::Server(slot, address)) = self.leave() else { return Err(Error::Internal) };
        let server = slot.server().clone();
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
                self.state = State::Ready(Ready::Answering(slot, address, next));
                self.settle(Answer::HelloAnswered(nonce, sealed))
            }
            Answers::Later => {
                let cookie = cookie()?;
                let next = made.ok_or(Error::Internal)?;
                self.state = State::Ready(Ready::Answering(slot, address, next));
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
        let State::Accepting(Accepting::Initiate(slot, address, next)) = self.leave() else {
            return Err(Error::Internal);
        };
        let server = slot.server().clone();
        let initiated = next.initiate(packet, |cookie| server.minute_keys.open(cookie))?;
        let (client, nonce, vouch) = (initiated.client, initiated.vouch_nonce, initiated.vouch);
        self.state = State::Accepting(Accepting::Vouch(slot, address, initiated));
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
            (State::Ready(Ready::Answering(slot, address, next)), Answer::HelloAnswered(nonce, sealed)) => {
                self.outbox.push_packet(&CookiePacket { nonce, sealed }.parts());
                self.state = State::Accepting(Accepting::Initiate(slot, address, next));
                Ok(())
            }
            (
                State::Initiating(Initiating::Vouch { client, server, next }),
                Answer::VouchSealed(nonce, vouch),
            ) => {
                let (initiate, sealer, opener) = next.initiate(&client, &nonce, &vouch)?;
                self.outbox.push_packet(&initiate.parts());
                self.peer = Some(server);
                self.state = State::Connected(sealer, opener);
                Ok(())
            }
            (State::Accepting(Accepting::Vouch(slot, address, initiated)), Answer::VouchOpened(vouched)) => {
                let proven = initiated.prove(&vouched)?;
                let server = slot.server().clone();
                let candidate = Candidate::new(address, proven.client).at(server.options().listener.clone());
                let request = Request::Verify(candidate);
                self.state = State::Accepting(Accepting::Verdict(slot, proven));
                let perform = |request: &Request| request.perform(&*server.vault, &*server.registry);
                self.ask(server.registry.answers(), request, perform)
            }
            (State::Accepting(Accepting::Verdict(_, proven)), Answer::Verdict(accepted)) => {
                if !accepted {
                    return Err(Error::UnknownPeer);
                }
                self.peer = Some(proven.client);
                self.state = State::Connected(proven.sealer, proven.opener);
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
