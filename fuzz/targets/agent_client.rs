//! A client of an agent that sends anything: only an exact response is accepted, and the client
//! does not wait for an agent that has hung up.
#![no_main]

use curve_tun::vault::{AgentVault, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// docs/VAULTS.md, "The agent's protocol".
const FRAME_MAX: usize = 65_569;
/// The key of the agent, and of the one that replaces it after it has hung up.
const KEY: [u8; 32] = [1; 32];
const OTHER_KEY: [u8; 32] = [2; 32];
/// Longer than an input may take.
const TIMEOUT: Duration = Duration::from_secs(60);

fn greeting(key: &[u8; 32]) -> Vec<u8> {
    [&34u32.to_be_bytes()[..], &[0, 1], key].concat()
}

/// What a response turns out to be.
#[derive(Debug)]
enum Heard<'a> {
    Body(&'a [u8]),
    Refused(Error),
    /// It ends prematurely, or is missing.
    Cut,
    Nonsense,
}

fn hear<'a>(bytes: &mut &'a [u8], body: usize) -> Heard<'a> {
    let Some((field, rest)) = bytes.split_first_chunk() else { return Heard::Cut };
    let length = u32::from_be_bytes(*field) as usize;
    if length == 0 || length > FRAME_MAX {
        return Heard::Nonsense;
    }
    let Some((status, rest)) = rest.split_first() else { return Heard::Cut };
    *bytes = rest;
    match (*status, length) {
        (0, length) if length != 1 + body => Heard::Nonsense,
        (0, _) => match rest.split_at_checked(body) {
            Some((body, rest)) => {
                *bytes = rest;
                Heard::Body(body)
            }
            None => Heard::Cut,
        },
        (status, 1) => Error::from_code(status.into()).map_or(Heard::Nonsense, Heard::Refused),
        _ => Heard::Nonsense,
    }
}

/// The agent: sends `bytes` to the first client, whatever it asks, and hangs up; to later ones, it
/// greets as another agent.
fn answer(listener: &UnixListener, bytes: &[u8], done: &AtomicBool) {
    let mut first = true;
    let mut streams: Vec<UnixStream> = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        if done.load(Ordering::Acquire) {
            return;
        }
        // The client may have hung up first.
        let _ = stream.write_all(if first { bytes } else { &[] });
        if !first {
            let _ = stream.write_all(&greeting(&OTHER_KEY));
        }
        let _ = stream.shutdown(Shutdown::Write);
        streams.push(stream);
        first = false;
    }
}

/// Makes one call. Its result has to match `body`.
fn call(vault: &AgentVault, which: u8) -> Result<Vec<u8>, Error> {
    let peer = PublicKey([9; 32]);
    match which % 3 {
        0 => {
            let mut sealed = [0; 48];
            let nonce = vault.box_seal(Purpose::Vouch, &peer, &[5; 32], &mut sealed)?;
            Ok([&nonce[..], &sealed].concat())
        }
        1 => {
            let mut message = [0; 32];
            vault.box_open(Purpose::Vouch, &peer, &[6; 16], &[7; 48], &mut message)?;
            Ok(message.to_vec())
        }
        _ => {
            let (nonce, sealed) = vault.answer_hello(&peer, &[8; 80], &mut || Ok([9; 128]))?;
            Ok([&nonce[..], &sealed].concat())
        }
    }
}

fn body_len(which: u8) -> usize {
    [16 + 48, 32, 16 + 144][usize::from(which % 3)]
}

fn talk(socket: &std::path::Path, mut bytes: &[u8], calls: &[u8]) {
    let opened = AgentVault::open_with_timeout(socket, TIMEOUT);
    let key = match hear(&mut bytes, 33) {
        Heard::Body([1, key @ ..]) => Ok(PublicKey(key.try_into().unwrap())),
        Heard::Body(_) | Heard::Nonsense => Err(Error::VaultFailed),
        Heard::Refused(error) => Err(error),
        // It tries again, and finds the agent of the next connection.
        Heard::Cut => Ok(PublicKey(OTHER_KEY)),
    };
    let vault = match (opened, key) {
        (Ok(vault), Ok(key)) => {
            assert_eq!(vault.public_key(), key);
            vault
        }
        (Err(error), Err(expected)) => return assert_eq!(error, expected),
        (opened, expected) => panic!("{:?}, not {expected:?}", opened.map(|vault| vault.public_key())),
    };
    if vault.public_key() == PublicKey(OTHER_KEY) {
        // Otherwise the next agent would not differ.
        return;
    }
    let mut connected = true;
    for &which in calls {
        // A connection that was cut, or that brought garbage, is not used again; the agent of the
        // next one is another.
        let expected = match if connected { hear(&mut bytes, body_len(which)) } else { Heard::Cut } {
            Heard::Body(body) => Ok(body.to_vec()),
            Heard::Refused(error) => Err(error),
            Heard::Cut | Heard::Nonsense => {
                connected = false;
                Err(Error::VaultFailed)
            }
        };
        assert_eq!(call(&vault, which), expected);
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let [honest, calls @ ..] = input else { return };
    let Some((calls, bytes)) = calls.split_at_checked(3) else { return };
    // Half of the inputs get a proper greeting.
    let bytes = if honest % 2 == 0 { [&greeting(&KEY), bytes].concat() } else { bytes.to_vec() };
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let answering = scope.spawn(|| answer(&listener, &bytes, &done));
        talk(&socket, &bytes, calls);
        done.store(true, Ordering::Release);
        UnixStream::connect(&socket).unwrap();
        // Joined, or the memory that it still holds counts as leaked.
        answering.join().unwrap();
    });
});
