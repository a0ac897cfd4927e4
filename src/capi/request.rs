//! # Requests
//!
//! A connection without I/O whose vault or registry answers later stops in its handshake with a
//! request, and goes on with the answer. Requests and answers are plain values: they may be copied,
//! and passed to another thread or process. Nothing in a request is secret.

use super::boundary::{catch_ok, flag, object, zero};
use super::growing::{self, growing};
use super::keys::CURVE_TUN_KEY_BYTES;
use super::registry::curve_tun_registry;
use super::result::curve_tun_result;
use super::vault::{CURVE_TUN_NONCE_BYTES, curve_tun_vault, vault_error};
use crate::connection::{Answer, Request};
use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::protocol::packet::{CookieBox, CookieMessage, HELLO_COUNTER, HelloBox};
use crate::registry::Candidate;
use std::ffi::c_char;

/// Request to a server's vault: open `sealed` with `CURVE_TUN_PURPOSE_HELLO`; it must hold 64
/// zeros; then seal `message` with `CURVE_TUN_PURPOSE_COOKIE`. Both boxes have the same peer, and
/// so the same shared key. Answer: `nonce`, and the 144 bytes of the new box in `bytes`.
pub const CURVE_TUN_REQUEST_ANSWER_HELLO: u32 = 1;
/// Request to a client's vault: seal `message` with `CURVE_TUN_PURPOSE_VOUCH`. Answer: `nonce`, and
/// the 48 bytes of the new box in `bytes`.
pub const CURVE_TUN_REQUEST_SEAL_VOUCH: u32 = 2;
/// Request to a server's vault: open `sealed` with `CURVE_TUN_PURPOSE_VOUCH`. Answer: the 32 bytes
/// that it holds in `bytes`.
pub const CURVE_TUN_REQUEST_OPEN_VOUCH: u32 = 3;
/// Request to a server's registry: may the client, which has proven to hold the secret of
/// `peer_public_key`, come in from `address` to the server named `listener`? Answer: `accepted`.
pub const CURVE_TUN_REQUEST_VERIFY: u32 = 4;

/// The largest `sealed` of a request.
pub const CURVE_TUN_REQUEST_SEALED_MAX: usize = 80;
/// The largest `message` of a request.
pub const CURVE_TUN_REQUEST_MESSAGE_MAX: usize = 128;
/// The largest `bytes` of an answer.
pub const CURVE_TUN_ANSWER_BYTES_MAX: usize = 144;
/// Enough for the text of any address, with a port and with the zero after it.
pub const CURVE_TUN_ADDRESS_TEXT_SIZE: usize = 64;
/// Enough for the name of any listener with the zero after it.
pub const CURVE_TUN_LISTENER_SIZE: usize = 256;

const _: () = assert!(CURVE_TUN_REQUEST_SEALED_MAX == size_of::<HelloBox>());
const _: () = assert!(CURVE_TUN_REQUEST_MESSAGE_MAX == size_of::<CookieMessage>());
const _: () = assert!(CURVE_TUN_ANSWER_BYTES_MAX == size_of::<CookieBox>());

/// A connection's request to a vault or a registry that answers later.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_request {
    /// `sizeof(curve_tun_request)`.
    pub size: usize,
    /// One of the kinds of request above, which says who is asked, and for what.
    pub kind: u32,
    /// Bytes in `nonce`: 8, 16 or 0.
    pub nonce_len: u32,
    /// Bytes in `sealed`.
    pub sealed_len: u32,
    /// Bytes in `message`.
    pub message_len: u32,
    /// The peer of the boxes, or the client to be verified.
    pub peer_public_key: [u8; CURVE_TUN_KEY_BYTES],
    /// What follows the purpose's prefix in the nonce of `sealed`.
    pub nonce: [u8; CURVE_TUN_NONCE_BYTES],
    /// A box to be opened.
    pub sealed: [u8; CURVE_TUN_REQUEST_SEALED_MAX],
    /// The message to be sealed.
    pub message: [u8; CURVE_TUN_REQUEST_MESSAGE_MAX],
    /// Where the client comes from, a string.
    pub address: [c_char; CURVE_TUN_ADDRESS_TEXT_SIZE],
    /// The server's name (`listener` of `curve_tun_options`), a string; empty if it has none.
    pub listener: [c_char; CURVE_TUN_LISTENER_SIZE],
}

growing!(given curve_tun_request, size_of::<curve_tun_request>());

/// The answer of a vault or a registry to a request.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_answer {
    /// `sizeof(curve_tun_answer)`.
    pub size: usize,
    /// The request's kind, so that a late answer is not taken for the answer to a later request.
    pub kind: u32,
    /// `CURVE_TUN_OK`, or why there is no answer. The connection then closes with
    /// `CURVE_TUN_ERR_BAD_PACKET` (a box did not open), `CURVE_TUN_ERR_WEAK_KEY`,
    /// `CURVE_TUN_ERR_TIMEOUT`, or, for any other value, with `CURVE_TUN_ERR_VAULT_FAILED` or
    /// `CURVE_TUN_ERR_REGISTRY_FAILED`.
    pub result: i32,
    /// Flag: whether the client may come in.
    pub accepted: u32,
    /// 0.
    pub reserved: u32,
    /// The long-term nonce of the box that was sealed.
    pub nonce: [u8; CURVE_TUN_NONCE_BYTES],
    /// The box that was sealed, or what the box that was opened holds.
    pub bytes: [u8; CURVE_TUN_ANSWER_BYTES_MAX],
}

growing!(given curve_tun_answer, size_of::<curve_tun_answer>());

/// Lets a vault answer a request to a vault, on a thread that may block.
///
/// Returns `CURVE_TUN_OK` also if the vault fails: the answer says so. May return
/// `CURVE_TUN_ERR_INVALID_ARGUMENT` for a wrong size, an invalid request, or one to a registry.
/// Threads: any. Blocks as long as a custom vault's functions do.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_vault_answer(
    vault: *const curve_tun_vault,
    request: *const curve_tun_request,
    answer: *mut curve_tun_answer,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers; the struct has integers only.
        let (vault, request, mut answer) =
            unsafe { (object(vault)?, growing::read(request)?, growing::out(answer)?) };
        match request.to_request()? {
            Request::Verify(_) => Err(Error::InvalidArgument),
            request => {
                answer.set(curve_tun_answer::new(kind(&request), request.perform_by_vault(&*vault.0)));
                Ok(())
            }
        }
    })
}

/// Lets a registry answer a request to a registry, on a thread that may block.
///
/// Returns `CURVE_TUN_OK` also if the registry fails: the answer says so. May return
/// `CURVE_TUN_ERR_INVALID_ARGUMENT` for a wrong size, an invalid request, or one to a vault.
/// Threads: any. Blocks as long as a custom registry's function does.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_registry_answer(
    registry: *const curve_tun_registry,
    request: *const curve_tun_request,
    answer: *mut curve_tun_answer,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers; the struct has integers only.
        let (registry, request, mut answer) =
            unsafe { (object(registry)?, growing::read(request)?, growing::out(answer)?) };
        match request.to_request()? {
            Request::Verify(candidate) => {
                let verdict = registry.shared().verify(&candidate);
                let verdict = verdict.map_or_else(Answer::Failed, Answer::Verdict);
                answer.set(curve_tun_answer::new(CURVE_TUN_REQUEST_VERIFY, verdict));
                Ok(())
            }
            _ => Err(Error::InvalidArgument),
        }
    })
}

fn kind(request: &Request) -> u32 {
    match request {
        Request::AnswerHello { .. } => CURVE_TUN_REQUEST_ANSWER_HELLO,
        Request::SealVouch { .. } => CURVE_TUN_REQUEST_SEAL_VOUCH,
        Request::OpenVouch { .. } => CURVE_TUN_REQUEST_OPEN_VOUCH,
        Request::Verify(_) => CURVE_TUN_REQUEST_VERIFY,
    }
}

/// Returns the start of a longer array.
fn first<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.first_chunk().copied().ok_or(Error::Internal)
}

/// Copies `from` to the start of `to`, which is at least as long, and returns its length.
fn fill(to: &mut [u8], from: &[u8]) -> u32 {
    to[..from.len()].copy_from_slice(from);
    from.len() as u32
}

/// Writes a string that fits, with a zero after it, into zeros.
fn put(to: &mut [c_char], from: &str) {
    for (to, from) in to.iter_mut().zip(from.bytes()) {
        *to = from as c_char;
    }
}

/// Returns the string that an array holds.
fn text(from: &[c_char]) -> Result<String> {
    let bytes: Vec<_> = from.iter().map(|c| *c as u8).collect();
    let text = std::ffi::CStr::from_bytes_until_nul(&bytes).map_err(|_| Error::InvalidArgument)?;
    text.to_str().map(str::to_owned).map_err(|_| Error::InvalidArgument)
}

impl curve_tun_request {
    pub(super) fn new(request: &Request) -> curve_tun_request {
        let mut c = curve_tun_request {
            size: 0,
            kind: kind(request),
            nonce_len: 0,
            sealed_len: 0,
            message_len: 0,
            peer_public_key: [0; _],
            nonce: [0; _],
            sealed: [0; _],
            message: [0; _],
            address: [0; _],
            listener: [0; _],
        };
        match request {
            Request::AnswerHello { client_short, hello, cookie } => {
                c.peer_public_key = client_short.0;
                c.nonce_len = fill(&mut c.nonce, &HELLO_COUNTER);
                c.sealed_len = fill(&mut c.sealed, hello);
                c.message_len = fill(&mut c.message, cookie);
            }
            Request::SealVouch { server, message } => {
                c.peer_public_key = server.0;
                c.message_len = fill(&mut c.message, message);
            }
            Request::OpenVouch { client, nonce, vouch } => {
                c.peer_public_key = client.0;
                c.nonce_len = fill(&mut c.nonce, nonce);
                c.sealed_len = fill(&mut c.sealed, vouch);
            }
            Request::Verify(candidate) => {
                c.peer_public_key = candidate.key.0;
                put(&mut c.address, &candidate.address.to_string());
                put(&mut c.listener, &candidate.listener);
            }
        }
        c
    }

    fn to_request(self) -> Result<Request> {
        let peer = PublicKey(self.peer_public_key);
        match self.kind {
            CURVE_TUN_REQUEST_ANSWER_HELLO => {
                Ok(Request::AnswerHello { client_short: peer, hello: self.sealed, cookie: self.message })
            }
            CURVE_TUN_REQUEST_SEAL_VOUCH => {
                Ok(Request::SealVouch { server: peer, message: first(&self.message)? })
            }
            CURVE_TUN_REQUEST_OPEN_VOUCH => {
                Ok(Request::OpenVouch { client: peer, nonce: self.nonce, vouch: first(&self.sealed)? })
            }
            CURVE_TUN_REQUEST_VERIFY => {
                let address = text(&self.address)?.parse().map_err(|_| Error::InvalidArgument)?;
                Ok(Request::Verify(Candidate::new(address, peer).at(text(&self.listener)?)))
            }
            _ => Err(Error::InvalidArgument),
        }
    }
}

impl curve_tun_answer {
    fn new(kind: u32, answer: Answer) -> curve_tun_answer {
        let (nonce, bytes) = ([0; _], [0; _]);
        let mut c = curve_tun_answer { size: 0, kind, result: 0, accepted: 0, reserved: 0, nonce, bytes };
        match answer {
            Answer::HelloAnswered(nonce, sealed) => (c.nonce, c.bytes) = (nonce, sealed),
            Answer::VouchSealed(nonce, vouch) => {
                c.nonce = nonce;
                fill(&mut c.bytes, &vouch);
            }
            Answer::VouchOpened(message) => {
                fill(&mut c.bytes, &message);
            }
            Answer::Verdict(accepted) => c.accepted = accepted.into(),
            Answer::Failed(error) => c.result = error.code(),
        }
        c
    }

    /// Converts this to the answer to `request`; `InvalidArgument` if it answers another kind.
    pub(super) fn to_answer(self, request: &Request) -> Result<Answer> {
        zero(self.reserved)?;
        if self.kind != kind(request) {
            return Err(Error::InvalidArgument);
        }
        Ok(match request {
            Request::Verify(_) if self.result != 0 => Answer::Failed(Error::RegistryFailed),
            _ if self.result != 0 => Answer::Failed(vault_error(self.result)),
            Request::AnswerHello { .. } => Answer::HelloAnswered(self.nonce, self.bytes),
            Request::SealVouch { .. } => Answer::VouchSealed(self.nonce, first(&self.bytes)?),
            Request::OpenVouch { .. } => Answer::VouchOpened(first(&self.bytes)?),
            Request::Verify(_) => Answer::Verdict(flag(self.accepted)?),
        })
    }
}
