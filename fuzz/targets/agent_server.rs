//! The agent, given the bytes of a client that follows no rule: over a real socket, with each
//! response compared with the vault's own result. An honest client is served after each.
#![no_main]

use curve_tun::vault::{Agent, AgentVault, MemoryVault, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// docs/VAULTS.md, "The agent's protocol".
const FRAME_MAX: usize = 65_569;
const PATIENCE: Duration = Duration::from_secs(5);

/// What a response must be.
enum Expected {
    Failure(Error),
    Body(Vec<u8>),
    /// A long-term nonce and a box of this message.
    Box(Purpose, PublicKey, Vec<u8>),
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Error> {
    let (first, rest) = bytes.split_first_chunk().ok_or(Error::InvalidArgument)?;
    *bytes = rest;
    Ok(*first)
}

/// Returns how the agent has to answer one request.
fn expected(vault: &MemoryVault, mut request: &[u8]) -> Result<Expected, Error> {
    let [kind] = array(&mut request)?;
    let purpose = |bytes: &mut &[u8]| Purpose::from_code(array::<1>(bytes)?[0].into());
    match kind {
        1 if request.len() != 1 => Err(Error::InvalidArgument),
        1 if request[0] != 1 => Err(Error::VaultVersion),
        1 => Ok(Expected::Body([&[1], &vault.public_key().0[..]].concat())),
        2 => {
            let (purpose, peer) = (purpose(&mut request)?, PublicKey(array(&mut request)?));
            vault.box_seal(purpose, &peer, request, &mut vec![0; request.len() + 16])?;
            Ok(Expected::Box(purpose, peer, request.to_vec()))
        }
        3 => {
            let (purpose, peer) = (purpose(&mut request)?, PublicKey(array(&mut request)?));
            let at = if purpose == Purpose::Hello { 8 } else { 16 };
            let (nonce, sealed) = request.split_at_checked(at).ok_or(Error::InvalidArgument)?;
            let mut message = vec![0; sealed.len().checked_sub(16).ok_or(Error::InvalidArgument)?];
            vault.box_open(purpose, &peer, nonce, sealed, &mut message)?;
            Ok(Expected::Body(message))
        }
        4 => {
            let (peer, hello) = (PublicKey(array(&mut request)?), array::<80>(&mut request)?);
            let cookie: [u8; 128] = request.try_into().map_err(|_| Error::InvalidArgument)?;
            vault.answer_hello(&peer, &hello, &mut || Ok(cookie))?;
            Ok(Expected::Box(Purpose::Cookie, peer, cookie.to_vec()))
        }
        _ => Err(Error::InvalidArgument),
    }
}

fn check(vault: &MemoryVault, request: &[u8], response: &[u8]) {
    let (status, body) = response.split_first().expect("a status");
    match expected(vault, request).unwrap_or_else(Expected::Failure) {
        Expected::Failure(error) => assert_eq!((i32::from(*status), body), (error.code(), &[][..])),
        Expected::Body(expected) => assert_eq!((*status, body), (0, &expected[..])),
        Expected::Box(purpose, peer, message) => {
            assert_eq!((*status, body.len()), (0, 16 + message.len() + 16));
            let (nonce, sealed) = body.split_at(16);
            // Both ends of a box share one key.
            let mut opened = vec![0; message.len()];
            vault.box_open(purpose, &peer, nonce, sealed, &mut opened).unwrap();
            assert_eq!(opened, message);
        }
    }
}

/// Returns the frames at the start of `bytes`, up to one that is incomplete or has an invalid
/// length.
fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((field, rest)) = bytes.split_first_chunk() {
        let length = u32::from_be_bytes(*field) as usize;
        if length == 0 || length > FRAME_MAX || length > rest.len() {
            break;
        }
        frames.push(&rest[..length]);
        bytes = &rest[length..];
    }
    frames
}

/// Sends `requests` and returns everything that the agent answers. Answers are read meanwhile,
/// since an agent takes no more requests from a client that reads no responses.
fn talk(socket: &Path, requests: &[u8], pieces: usize) -> Vec<u8> {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut responses = Vec::new();
            match (&stream).read_to_end(&mut responses) {
                // It hung up with unread bytes.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                ended => drop(ended.expect("the agent hangs up")),
            }
            responses
        });
        for piece in requests.chunks(pieces) {
            // It may have hung up by now.
            if (&stream).write_all(piece).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
        reader.join().unwrap()
    })
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((pieces, requests)) = input.split_first() else { return };
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let socket = folder.path().join("socket");
    let vault = Arc::new(MemoryVault::generate().unwrap());
    let agent = Agent::bind(&socket, vault.clone()).unwrap();
    let (stop, stopping) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| agent.run(stopping.as_fd()).unwrap());
        let honest = AgentVault::open_with_timeout(&socket, PATIENCE).unwrap();
        let responses = talk(&socket, requests, usize::from(*pieces).pow(2) + 1);
        let (requests, responded) = (frames(requests), frames(&responses));
        assert_eq!(responded.iter().map(|response| 4 + response.len()).sum::<usize>(), responses.len());
        assert_eq!(responded.len(), requests.len(), "one response each");
        for (request, response) in requests.iter().zip(responded) {
            check(&vault, request, response);
        }
        honest.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16]).unwrap();
        drop(stop);
        // Joined, or the memory that it still holds counts as leaked.
        running.join().unwrap();
    });
    drop(agent);
    assert!(!socket.exists());
});
