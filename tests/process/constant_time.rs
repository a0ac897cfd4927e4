//! No branch and no index depends on a secret. Memcheck verifies it: every random byte and every
//! message is marked as undefined, and memcheck reports each jump and each address computed from
//! one.
//!
//! Bytes that go over the wire are public, and so is what the crate itself declares public
//! (`crypto::public`). The tests run themselves again under valgrind; suppressions are in
//! `constant_time.supp`.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "../support/mod.rs"]
mod support;

use curve_tun::connection::Connection;
use curve_tun::vault::{MemoryVault, Purpose, Vault};
use curve_tun::{Error, test_util};
use std::ffi::c_char;
use std::fs::File;
use std::io::Read;
use std::process::Command;
use support::World;
use support::memcheck;
use support::random_source;

/// Set in the process that valgrind watches.
const WATCHED: &str = "CURVE_TUN_WATCHED";
/// Valgrind's exit status when it has found an error.
const FOUND: i32 = 99;

unsafe extern "C" {
    fn curve_tun_secret_key_to_text(secret_key: *const u8, text: *mut c_char) -> i32;
    fn curve_tun_secret_key_from_text(text: *const c_char, len: usize, secret_key: *mut u8) -> i32;
}

/// Makes all randomness of this process secret, and what the crate publishes public.
fn watch() {
    // libsodium's own random values, such as the canary of its guarded memory, are drawn before.
    MemoryVault::generate().unwrap();
    random_source::install(|bytes| {
        File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
        memcheck::make_secret(bytes.as_mut_ptr(), bytes.len());
    });
    test_util::on_public(memcheck::make_public);
}

/// Carries the output of `from`, which is public from then on.
fn carry(from: &mut Connection, to: &mut Connection) -> Result<(), Error> {
    let mut bytes = from.send_buffer().to_vec();
    memcheck::make_public(bytes.as_mut_ptr(), bytes.len());
    from.sent(bytes.len());
    to.feed(&bytes).map(|count| assert_eq!(count, bytes.len()))
}

fn secret_message(len: usize) -> Vec<u8> {
    let message = vec![0x5a; len];
    memcheck::make_secret(message.as_ptr(), len);
    message
}

/// Handshakes, messages of many sizes both ways, and packets that do not open.
fn tunnel() {
    let world = World::new();
    // The second time the vaults know each other.
    for _ in 0..2 {
        let (mut client, mut server) = world.pair();
        for _ in 0..2 {
            carry(&mut client, &mut server).unwrap();
            carry(&mut server, &mut client).unwrap();
        }
        for len in (0..=130).chain([479, 480, 481, 544, 545, 1000, 4096, 65503]) {
            client.send(&secret_message(len)).unwrap();
            server.send(&secret_message(len)).unwrap();
            carry(&mut client, &mut server).unwrap();
            carry(&mut server, &mut client).unwrap();
            for end in [&mut client, &mut server] {
                let mut message = end.peek().unwrap().to_vec();
                memcheck::make_public(message.as_mut_ptr(), len);
                assert_eq!(message, vec![0x5a; len]);
                end.consume();
            }
        }
        client.send(&secret_message(100)).unwrap();
        let mut frame = client.send_buffer().to_vec();
        memcheck::make_public(frame.as_mut_ptr(), frame.len());
        *frame.last_mut().unwrap() ^= 1;
        assert_eq!(server.feed(&frame), Err(Error::BadPacket));
    }
    // Each packet of the handshake with a bit changed.
    for (packet, at) in [(0, 20), (0, 100), (1, 20), (1, 100), (2, 20), (2, 100), (2, 200)] {
        let (mut client, mut server) = world.pair();
        let mut ends = [&mut client, &mut server];
        for number in 0..=packet {
            let mut frame = ends[0].send_buffer().to_vec();
            memcheck::make_public(frame.as_mut_ptr(), frame.len());
            ends[0].sent(frame.len());
            if number == packet {
                frame[at] ^= 1;
            }
            assert_eq!(ends[1].feed(&frame).is_err(), number == packet);
            ends.swap(0, 1);
        }
    }
}

/// The vault's own calls.
fn vault() {
    let (ours, theirs) = (MemoryVault::generate().unwrap(), MemoryVault::generate().unwrap());
    for purpose in [Purpose::Cookie, Purpose::Vouch] {
        let (message, mut sealed) = (secret_message(32), [0; 48]);
        let nonce = ours.box_seal(purpose, &theirs.public_key(), &message, &mut sealed).unwrap();
        memcheck::make_public(sealed.as_mut_ptr(), sealed.len());
        let mut opened = [0; 32];
        theirs.box_open(purpose, &ours.public_key(), &nonce, &sealed, &mut opened).unwrap();
        sealed[3] ^= 1;
        let refused = theirs.box_open(purpose, &ours.public_key(), &nonce, &sealed, &mut opened);
        assert_eq!(refused, Err(Error::BadPacket));
    }
}

/// The text of a secret key, written and read.
fn text() {
    let secret = secret_message(32);
    let (mut text, mut again) = ([0u8; 45], [0u8; 32]);
    // SAFETY: a key has 32 bytes, its text 44 characters and a zero.
    unsafe {
        assert_eq!(curve_tun_secret_key_to_text(secret.as_ptr(), text.as_mut_ptr().cast()), 0);
        assert_eq!(curve_tun_secret_key_from_text(text.as_ptr().cast(), 44, again.as_mut_ptr()), 0);
    }
    memcheck::make_public(again.as_mut_ptr(), again.len());
    assert_eq!(again, [0x5a; 32]);
}

/// A branch and an index on a random byte, which must be found, or the test detects nothing.
fn leak() {
    let vault = MemoryVault::generate().unwrap();
    let mut sealed = [0; 48];
    vault.box_seal(Purpose::Vouch, &vault.public_key(), &secret_message(32), &mut sealed).unwrap();
    let table = std::hint::black_box([1u8; 256]);
    if std::hint::black_box(sealed[7]) > 128 {
        std::hint::black_box(());
    }
    assert_eq!(table[usize::from(std::hint::black_box(sealed[0]))], 1);
}

/// Runs `test` of this file again, under valgrind, and returns its output; `None` in the watched
/// process.
fn again_under_valgrind(test: &str) -> Option<(Option<i32>, String)> {
    if std::env::var_os(WATCHED).is_some() {
        watch();
        return None;
    }
    let suppressions =
        concat!("--suppressions=", env!("CARGO_MANIFEST_DIR"), "/tests/process/constant_time.supp");
    let output = Command::new("valgrind")
        .args(["--quiet", "--error-exitcode=99", suppressions])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads=1"])
        .env(WATCHED, "1")
        .output()
        .expect("valgrind; scripts/bootstrap test installs it");
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(said.contains("1 passed"), "{said}");
    Some((output.status.code(), said))
}

/// Checks that nothing is found.
fn holds(test: &str, run: fn()) {
    match again_under_valgrind(test) {
        Some((status, said)) => assert_eq!(status, Some(0), "{said}"),
        None => run(),
    }
}

#[test]
fn handshakes_and_messages() {
    holds("handshakes_and_messages", tunnel);
}

#[test]
fn boxes_of_a_vault() {
    holds("boxes_of_a_vault", vault);
}

#[test]
fn the_text_of_a_secret_key() {
    holds("the_text_of_a_secret_key", text);
}

#[test]
fn a_leak_is_found() {
    match again_under_valgrind("a_leak_is_found") {
        Some((status, said)) => {
            assert_eq!(status, Some(FOUND), "{said}");
            assert!(
                said.contains("Conditional jump") && said.contains("Use of uninitialised value"),
                "{said}"
            );
        }
        None => leak(),
    }
}
