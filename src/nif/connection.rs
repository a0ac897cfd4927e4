//! A connection as a resource, and its handshake.

use super::portion::{STEP_COST, consume};
use super::providers::{AnswerSlot, Outcome, Providers, Question};
use super::sending::Sending;
use super::server::ServerResource;
use super::stream::StreamPart;
use super::term::{self, address, address_term, binary, done, exactly, failure, public_key, reply};
use super::vault::VaultResource;
use super::waiting::Waiting;
use crate::blocking::TaskHandle;
use crate::connection::{Answer, Connection, ConnectionState, Options, RecvHalf, Request, Source};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::vault::Purpose;
use rustler::{Atom, Binary, Encoder, Env, LocalPid, NewBinary, NifResult, Resource, ResourceArc, Term};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, OnceLock};

/// One connection, empty at first. Once established it is two halves, so that one process can seal
/// while another opens.
#[derive(Default)]
pub(super) struct ConnectionResource {
    /// In a place of its own, for an established connection is a hundredth of its size.
    pub handshake: Mutex<Option<Box<Handshake>>>,
    pub sending: Mutex<Sending>,
    pub receiving: Mutex<Option<RecvHalf>>,
    /// Whether anything came since the last message that was sent.
    pub has_received: AtomicBool,
    peer: OnceLock<PublicKey>,
    /// What a server's client has proven, for those who log whom it refuses.
    proven: OnceLock<PublicKey>,
    /// What it carries instead of messages as they are.
    pub stream: StreamPart,
    /// Its role and why it ended, for those who ask when its process is gone.
    end: OnceLock<(Atom, End)>,
}

/// Why a connection ended.
enum End {
    Reason(Atom),
    /// The peer aborted the stream, with this code.
    Aborted(u16),
}

/// A connection until it is connected, with what it then needs no more.
pub(super) struct Handshake {
    pub connection: Connection,
    /// Who answers what takes its time, what they are being asked, and what they said.
    providers: Providers,
    asked: Option<TaskHandle>,
    answer: AnswerSlot,
}

#[rustler::resource_impl]
impl Resource for ConnectionResource {}

type Handle = ResourceArc<ConnectionResource>;

/// A part of a connection. A panic while it was held has left it unusable: `Internal`.
pub(super) fn lock<T>(part: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    part.lock().map_err(|_| Error::Internal)
}

/// A connection that has not begun.
#[rustler::nif]
fn connection_new() -> Handle {
    Handle::new(ConnectionResource::default())
}

/// Begins as a client's end: `{ok, Hello} | {error, Reason}`.
#[rustler::nif]
fn begin_client<'a>(
    env: Env<'a>,
    handle: Handle,
    vault: ResourceArc<VaultResource>,
    server: Binary<'a>,
) -> NifResult<Term<'a>> {
    consume(env, STEP_COST);
    let connection = Connection::client(vault.for_connections(), public_key(&server)?, &Options::default());
    let hello = connection.and_then(|mut connection| {
        let hello = take_pending(env, &mut connection);
        begin(&handle, connection, Providers { vault: vault.provider(), registry: None })?;
        Ok(hello)
    });
    Ok(reply(env, hello))
}

/// Begins as a server's end for a client from an address, with a permit of the server's:
/// `{ok, Evicted} | {error, Reason}`.
///
/// `process` runs the handshake. `Evicted` are the processes whose handshakes lose their permits
/// for it: the caller tells them.
#[rustler::nif]
fn begin_server<'a>(
    env: Env<'a>,
    handle: Handle,
    server: ResourceArc<ServerResource>,
    process: LocalPid,
    from: Term<'a>,
) -> NifResult<Term<'a>> {
    let accepted = server.accept(address(from)?, process);
    let begun = accepted.and_then(|(connection, evicted)| {
        begin(&handle, connection, server.providers.clone())?;
        Ok(evicted)
    });
    Ok(reply(env, begun))
}

/// What a server's handshake counts as, where clients have their turns; `none` for a client's, and
/// when it is over.
#[rustler::nif]
fn source<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    let source = lock(&handle.handshake).ok().and_then(|part| part.as_ref()?.connection.source());
    match source {
        Some(Source::V4(address)) => binary(env, &address),
        Some(Source::V6(network)) => binary(env, &network),
        None => term::none().encode(env),
    }
}

/// `WrongState` if it has begun before.
fn begin(handle: &ConnectionResource, connection: Connection, providers: Providers) -> Result<()> {
    let mut place = lock(&handle.handshake)?;
    if place.is_some() || handle.peer.get().is_some() {
        return Err(Error::WrongState);
    }
    *place = Some(Box::new(Handshake { connection, providers, asked: None, answer: AnswerSlot::default() }));
    Ok(())
}

/// Goes on with bytes of the transport:
/// `{ok, State, ToSend, Rest, Request | none} | {error, Reason}`.
///
/// `Rest` is what cannot be taken before the request is answered. In the state connected the
/// handshake is over: `established` goes on, then `open` gives messages that came with its last
/// packet.
#[rustler::nif]
fn handshake<'a>(env: Env<'a>, handle: Handle, bytes: Binary<'a>) -> NifResult<Term<'a>> {
    advance(env, &handle, bytes, |handshake| handshake.connection.feed(&bytes))
}

/// Has the request `ask` answered: `answered | later | {error, Reason}`. After `later`,
/// `{Reference, answered}` comes to the calling process, unless the connection is closed before.
#[rustler::nif]
fn ask<'a>(env: Env<'a>, handle: Handle, reference: Term<'a>) -> Term<'a> {
    let outcome = (|| {
        let (provider, source, request, slot) = {
            let handshake = lock(&handle.handshake)?;
            let handshake = handshake.as_ref().ok_or(Error::Closed)?;
            let request = handshake.connection.request().ok_or(Error::WrongState)?;
            let provider = handshake.providers.of(request).ok_or(Error::WrongState)?;
            (provider.clone(), handshake.connection.source(), request.clone(), handshake.answer.clone())
        };
        let question = Question::new(&slot, Waiting::caller(env, reference));
        Ok(match provider.ask(source, request, question)? {
            Outcome::Answered(answer) => {
                slot.put(answer);
                term::answered()
            }
            Outcome::Asked(asked) => {
                // If the connection is closed by now, that takes the question back.
                if let Some(handshake) = lock(&handle.handshake)?.as_mut() {
                    handshake.asked = Some(asked);
                }
                term::later()
            }
            Outcome::Resolving => term::later(),
        })
    })();
    match outcome {
        Ok(outcome) => outcome.encode(env),
        Err(reason) => failure(env, reason),
    }
}

/// Goes on with the answer to a request: as `handshake`. `badarg` if it is of another kind than the
/// request.
#[rustler::nif]
fn answer<'a>(env: Env<'a>, handle: Handle, term: Term<'a>) -> NifResult<Term<'a>> {
    let from_here = term.decode::<Atom>().is_ok_and(|atom| atom == term::answered());
    let answer = if from_here { None } else { Some(decode_answer(term)?) };
    let nothing = Binary::from(NewBinary::new(env, 0));
    advance(env, &handle, nothing, |handshake| {
        let answer = answer.or_else(|| handshake.answer.take()).ok_or(Error::InvalidArgument)?;
        handshake.connection.answer(answer).map(|()| 0)
    })
}

fn advance<'a>(
    env: Env<'a>,
    handle: &ConnectionResource,
    bytes: Binary<'a>,
    step: impl FnOnce(&mut Handshake) -> Result<usize>,
) -> NifResult<Term<'a>> {
    consume(env, STEP_COST);
    let outcome = (|| {
        let mut place = lock(&handle.handshake)?;
        let handshake = place.as_mut().ok_or(Error::Closed)?;
        let stepped = step(handshake);
        if let Some(key) = handshake.connection.proven_key() {
            handle.proven.get_or_init(|| key);
        }
        let taken = stepped?;
        let Handshake { connection, providers, .. } = &mut **handshake;
        let to_send = take_pending(env, connection);
        let state = state_atom(connection.state());
        let request = connection.request().map(|request| match providers.of(request) {
            Some(_) => term::ask().encode(env),
            None => encode_request(env, request),
        });
        Ok((taken, state, to_send, request))
    })();
    match outcome {
        Ok((taken, state, to_send, request)) => {
            let rest = bytes.make_subbinary(taken, bytes.len() - taken)?;
            let request = request.unwrap_or_else(|| term::none().encode(env));
            Ok((term::ok(), state, to_send, rest, request).encode(env))
        }
        Err(Error::InvalidArgument) => Err(rustler::Error::BadArg),
        Err(reason) => {
            shut(handle);
            Ok(failure(env, reason))
        }
    }
}

/// Goes from the handshake to messages: `ok | {error, Reason}`.
///
/// `taken` is how many bytes the socket has taken by now: see [`Sending`].
#[rustler::nif]
fn established<'a>(env: Env<'a>, handle: Handle, taken: u64) -> Term<'a> {
    let split = || {
        let Handshake { connection, .. } = *lock(&handle.handshake)?.take().ok_or(Error::WrongState)?;
        let peer = connection.peer_key().ok_or(Error::WrongState)?;
        let (send, receive) = connection.split()?;
        handle.peer.get_or_init(|| peer);
        lock(&handle.sending)?.begin(send, taken);
        *lock(&handle.receiving)? = Some(receive);
        Ok(())
    };
    done(env, split())
}

/// What the end of the transport in order means: `closed | wrong_server_key`; the connection is
/// closed then.
#[rustler::nif]
fn transport_ended<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    let meaning = match lock(&handle.handshake) {
        Ok(mut handshake) => {
            handshake.as_mut().map_or(Error::Closed, |handshake| handshake.connection.transport_ended())
        }
        Err(reason) => reason,
    };
    term::reason_atom(env, meaning)
}

/// The peer's proven long-term key, from connected on: `{ok, Key} | {error, wrong_state}`.
#[rustler::nif]
fn peer_public_key<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    let peer = handle.peer.get().ok_or(Error::WrongState);
    reply(env, peer.map(|key| binary(env, &key.0)))
}

/// The peer's long-term key from its proof on, also if it is refused then: `{ok, Key} | none`.
#[rustler::nif]
fn proven_public_key<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    match handle.proven.get() {
        Some(key) => (term::ok(), binary(env, &key.0)).encode(env),
        None => term::none().encode(env),
    }
}

/// Keeps the role of a connection that has ended, `client | server`, and why: an atom, or
/// `{aborted, Code}`. The first reason stays.
#[rustler::nif]
fn ended<'a>(handle: Handle, role: Atom, reason: Term<'a>) -> NifResult<Atom> {
    let end = match reason.decode::<(Atom, Term)>() {
        Ok((_, code)) => End::Aborted(term::small(code)?),
        Err(_) => End::Reason(reason.decode()?),
    };
    handle.end.get_or_init(|| (role, end));
    Ok(term::ok())
}

/// What `ended` has kept: `{Role, Reason} | none`.
#[rustler::nif]
fn end_of<'a>(env: Env<'a>, handle: Handle) -> Term<'a> {
    match handle.end.get() {
        Some((role, End::Reason(reason))) => (*role, *reason).encode(env),
        Some((role, End::Aborted(code))) => (*role, (term::aborted(), *code)).encode(env),
        None => term::none().encode(env),
    }
}

/// Ends the connection and wipes its secrets. The handshake's place on the server is free when this
/// returns.
#[rustler::nif]
fn close(handle: Handle) -> Atom {
    shut(&handle);
    term::ok()
}

fn shut(handle: &ConnectionResource) {
    // A part that a panic left behind is dropped with the resource.
    if let Ok(mut part) = lock(&handle.handshake) {
        *part = None;
    }
    if let Ok(mut part) = lock(&handle.sending) {
        part.end();
    }
    if let Ok(mut part) = lock(&handle.receiving) {
        *part = None;
    }
    if let Some(Ok(mut stream)) = handle.stream.get().map(|stream| lock(stream)) {
        stream.shut();
    }
}

fn take_pending<'a>(env: Env<'a>, connection: &mut Connection) -> Term<'a> {
    let bytes = binary(env, connection.send_buffer());
    connection.sent(connection.send_buffer().len());
    bytes
}

fn state_atom(state: ConnectionState) -> Atom {
    match state {
        ConnectionState::Ready => term::ready(),
        ConnectionState::Initiating => term::initiating(),
        ConnectionState::Accepting => term::accepting(),
        ConnectionState::Connected => term::connected(),
        ConnectionState::Closed => term::closed(),
    }
}

/// A request, with what a vault of the original's kind needs: whole nonces, or the prefix of one.
fn encode_request<'a>(env: Env<'a>, request: &Request) -> Term<'a> {
    let bin = |bytes: &[u8]| binary(env, bytes);
    let whole = |purpose: Purpose, part: &[u8]| bin(&purpose.nonce(part).unwrap_or_default());
    let prefix = |purpose: Purpose| {
        let nonce = purpose.nonce(&[0; 16]).unwrap_or_default();
        bin(&nonce[..nonce.len() - purpose.nonce_len()])
    };
    match request {
        Request::AnswerHello { client_short, hello, cookie } => {
            let hello_nonce = whole(Purpose::Hello, &[0; 8]);
            let tag = term::answer_hello();
            (tag, bin(&client_short.0), bin(hello), hello_nonce, bin(cookie), prefix(Purpose::Cookie))
                .encode(env)
        }
        Request::SealVouch { server, message } => {
            (term::seal_vouch(), bin(&server.0), bin(message), prefix(Purpose::Vouch)).encode(env)
        }
        Request::OpenVouch { client, nonce, vouch } => {
            (term::open_vouch(), bin(&client.0), bin(vouch), whole(Purpose::Vouch, nonce)).encode(env)
        }
        Request::Verify(candidate) => {
            let address = address_term(env, candidate.address);
            (term::verify(), address, bin(&candidate.key.0), bin(candidate.listener.as_bytes())).encode(env)
        }
    }
}

fn decode_answer(answer: Term) -> NifResult<Answer> {
    if let Ok((kind, nonce, sealed)) = answer.decode::<(Atom, Binary, Binary)>() {
        if kind == term::hello_answered() {
            return Ok(Answer::HelloAnswered(exactly(&nonce)?, exactly(&sealed)?));
        }
        if kind == term::vouch_sealed() {
            return Ok(Answer::VouchSealed(exactly(&nonce)?, exactly(&sealed)?));
        }
        return Err(rustler::Error::BadArg);
    }
    let (kind, value) = answer.decode::<(Atom, Term)>()?;
    if kind == term::vouch_opened() {
        Ok(Answer::VouchOpened(exactly(&value.decode::<Binary>()?)?))
    } else if kind == term::verdict() {
        Ok(Answer::Verdict(value.decode()?))
    } else if kind == term::failed() {
        let reason = value.decode::<Atom>()?;
        Ok(Answer::Failed(if reason == term::verify() { Error::RegistryFailed } else { Error::VaultFailed }))
    } else {
        Err(rustler::Error::BadArg)
    }
}
