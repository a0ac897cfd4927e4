//! Secrets are gone when they are no longer needed: the whole address space is searched for them.
//! There is only one test, since the search sees whatever else a test process does.

#[path = "../support/mod.rs"]
mod support;

use curve_tun::connection::{Connection, ConnectionState, Options, Server};
use curve_tun::net::{Listener, TimedServer};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, test_util};
use libsodium_sys as sodium;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use support::memory::Needle;
use support::{HOME, carry};

/// Makes a random secret, and the needle that remembers it.
fn secret() -> ([u8; 32], Needle) {
    let mut bytes = [0; 32];
    // SAFETY: the pointer and length are those of one array.
    unsafe { sodium::randombytes_buf(bytes.as_mut_ptr().cast(), 32) };
    let mut copy = bytes;
    (bytes, Needle::take(&mut copy))
}

/// Computes on another thread's stack, so that what the crate leaves on this one can still be
/// found.
fn aside<R: Send>(compute: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let result = compute();
            // SAFETY: it writes only below the stack pointer.
            unsafe { sodium::sodium_stackzero(1 << 16) }
            result
        });
        thread.join().unwrap()
    })
}

fn count(needle: &Needle) -> usize {
    aside(|| needle.count())
}

/// The raw X25519 secret of two pairs, and the box key made of it.
fn shared(secret: &Needle, public: &[u8; 32]) -> [Needle; 2] {
    let (mut raw, mut key) = ([0; 32], [0; 32]);
    aside(|| {
        secret.with(|secret| {
            // SAFETY: all are 32 bytes.
            unsafe {
                assert_eq!(sodium::crypto_scalarmult(raw.as_mut_ptr(), secret.as_ptr(), public.as_ptr()), 0);
                assert_eq!(
                    sodium::crypto_box_beforenm(key.as_mut_ptr(), public.as_ptr(), secret.as_ptr()),
                    0
                );
            }
        })
    });
    [Needle::take(&mut raw), Needle::take(&mut key)]
}

/// The key of the messages of one direction.
fn message_key(shared: &Needle, prefix: &[u8; 16]) -> Needle {
    let mut key = [0; 32];
    aside(|| {
        shared.with(|shared| {
            // SAFETY: 32, 16 and 32 bytes.
            unsafe {
                sodium::crypto_core_hsalsa20(
                    key.as_mut_ptr(),
                    prefix.as_ptr(),
                    shared.as_ptr(),
                    std::ptr::null(),
                );
            }
        })
    });
    Needle::take(&mut key)
}

fn public(secret: &Needle) -> [u8; 32] {
    let mut public = [0; 32];
    // SAFETY: both are 32 bytes.
    aside(|| {
        secret.with(|secret| unsafe { sodium::crypto_scalarmult_base(public.as_mut_ptr(), secret.as_ptr()) })
    });
    public
}

fn absent(needles: &[&Needle], when: &str) {
    for (index, needle) in needles.iter().enumerate() {
        assert_eq!(count(needle), 0, "secret {index}, {when}");
    }
}

/// Scripts the next draws of random bytes, and wipes them here.
fn script(mut draws: Vec<[u8; 32]>) {
    test_util::script(draws.iter().map(|draw| &draw[..]));
    draws.iter_mut().for_each(|draw| draw.fill(0));
    std::hint::black_box(&draws);
}

struct Secrets {
    vault: Arc<MemoryVault>,
    server: Arc<Server>,
    server_long: Needle,
    client_long: Needle,
    minute: Needle,
}

/// Makes a vault with a known key, which is wiped here.
fn vault() -> (Arc<MemoryVault>, Needle) {
    let (mut bytes, needle) = secret();
    let vault = Arc::new(MemoryVault::from_secret(&bytes).unwrap());
    bytes.fill(0);
    std::hint::black_box(&bytes);
    (vault, needle)
}

fn secrets() -> Secrets {
    let (server_vault, server_long) = vault();
    let (client_vault, client_long) = vault();
    let registry = Arc::new(MemoryRegistry::new());
    registry.add(HOME.into(), client_vault.public_key());
    let minute = scripted();
    let server = Server::new(server_vault, registry, Options::default(), 0).unwrap();
    assert_eq!(test_util::remaining(), 0);
    Secrets { vault: client_vault, server, server_long, client_long, minute }
}

/// Makes the next secret drawn a known one.
fn scripted() -> Needle {
    let needle = draw_and_script();
    overwrite_stack();
    needle
}

#[inline(never)]
fn draw_and_script() -> Needle {
    let (mut draw, needle) = secret();
    script(vec![draw]);
    draw.fill(0);
    std::hint::black_box(&draw);
    needle
}

/// Clears what this test itself has left below its frames.
#[inline(never)]
fn overwrite_stack() {
    std::hint::black_box(&mut [0xa5_u8; 16384]);
}

/// Both ends before the first byte, and the client's secret.
fn pair(world: &Secrets) -> (Connection, Connection, Needle) {
    let client_short = scripted();
    let key = world.server.vault().public_key();
    let client = Connection::client(world.vault.clone(), key, &Options::default()).unwrap();
    (client, Connection::server(&world.server, HOME).unwrap(), client_short)
}

/// Carries the hello; returns the server's short-term secret.
fn say_hello(client: &mut Connection, server: &mut Connection) -> Needle {
    let server_short = scripted();
    carry(client, server).unwrap();
    server_short
}

#[inline(never)]
fn run(world: &Secrets) {
    let server_key = world.server.vault().public_key().0;

    // While they are needed they can be found, which shows that the search works.
    let (mut client, mut server, client_short) = pair(world);
    assert!(count(&client_short) >= 1, "the client's short-term secret is in use");
    let hello = shared(&client_short, &server_key);
    assert_eq!(count(&hello[0]), 0, "the raw agreement of hello and cookie");
    assert_eq!(count(&hello[1]), 1, "the key of hello and cookie is in use");
    let server_short = say_hello(&mut client, &mut server);
    absent(&[&server_short], "after the cookie was made");
    carry(&mut server, &mut client).unwrap();
    assert_eq!(client.state(), ConnectionState::Connected);
    absent(&[&client_short, &hello[0], &hello[1]], "after the initiate was made");
    carry(&mut client, &mut server).unwrap();
    assert_eq!(server.state(), ConnectionState::Connected);
    let ephemeral = shared(&client_short, &public(&server_short));
    let vouch = shared(&world.client_long, &server_key);
    let messages =
        [message_key(&ephemeral[1], b"CurveCP-client-M"), message_key(&ephemeral[1], b"CurveCP-server-M")];
    absent(&[&client_short, &server_short, &ephemeral[0], &ephemeral[1], &vouch[0]], "once connected");
    assert_eq!(count(&vouch[1]), 2, "both vaults keep what they agreed");
    for key in &messages {
        assert_eq!(count(key), 2, "a message key is in use at both ends");
    }
    client.send(b"a message").unwrap();
    carry(&mut client, &mut server).unwrap();
    client.close();
    drop(server);
    absent(&[&messages[0], &messages[1], &ephemeral[1]], "after the close");

    // Nor does a handshake that ends at any of its steps leave anything.
    for step in 0..4 {
        let (mut client, mut server, client_short) = pair(world);
        let hello = shared(&client_short, &server_key);
        let mut server_short = None;
        if step > 0 {
            server_short = Some(say_hello(&mut client, &mut server));
        }
        match step {
            2 => assert!(client.feed(&[0, 168, 1, 2, 3]).is_ok() && client.feed(&[0; 200]).is_err()),
            3 => assert!(server.feed(&[0; 10]).is_err()),
            _ => {}
        }
        drop((client, server));
        absent(&[&client_short, &hello[0], &hello[1]], "after an aborted handshake");
        server_short.iter().for_each(|secret| absent(&[secret], "after an aborted handshake"));
    }

    // A minute key is gone after its second minute, without any traffic.
    assert_eq!(count(&world.minute), 1, "the minute key is current");
    world.server.tick(60_000).unwrap();
    assert_eq!(count(&world.minute), 1, "the minute key is still accepted");
    world.server.tick(120_000).unwrap();
    absent(&[&world.minute], "after its time");

    for long in [&world.client_long, &world.server_long] {
        assert_eq!(count(long), 1, "the vault's guarded copy and no other");
    }
    world.vault.forget_shared_keys();
    assert_eq!(count(&vouch[1]), 1, "the client's vault forgot");
}

/// A socket whose connection has failed holds no key, even while its program holds the socket.
#[inline(never)]
fn fail_a_socket(world: &Secrets) {
    let soon = Some(Duration::from_secs(20));
    let registry = Arc::new(MemoryRegistry::new());
    registry.add_anywhere(world.vault.public_key());
    let server = TimedServer::new(world.server.vault().clone(), registry, Options::default()).unwrap();
    let listener = Listener::bind("127.0.0.1", 0, server).unwrap();
    let mut stream = TcpStream::connect(listener.local_addr()).unwrap();
    let client_short = scripted();
    let key = world.server.vault().public_key();
    let mut client = Connection::client(world.vault.clone(), key, &Options::default()).unwrap();
    let (socket, server_short) = std::thread::scope(|scope| {
        let accepted = scope.spawn(|| {
            let short = scripted();
            (listener.accept(soon).unwrap(), short)
        });
        let mut came = [0; 512];
        while client.state() != ConnectionState::Connected {
            stream.write_all(client.send_buffer()).unwrap();
            client.sent(client.send_buffer().len());
            let count = stream.read(&mut came).unwrap();
            assert_eq!(client.feed(&came[..count]), Ok(count));
        }
        stream.write_all(client.send_buffer()).unwrap();
        client.sent(client.send_buffer().len());
        accepted.join().unwrap()
    });
    let ephemeral = shared(&client_short, &public(&server_short));
    let messages =
        [message_key(&ephemeral[1], b"CurveCP-client-M"), message_key(&ephemeral[1], b"CurveCP-server-M")];
    drop(client);
    messages.iter().for_each(|key| assert_eq!(count(key), 1, "a message key is in use at the server"));
    stream.write_all(&[&[0, 40][..], &[7; 40]].concat()).unwrap();
    assert_eq!(socket.recv(&mut [0; 100], soon), Err(Error::BadPacket));
    absent(&[&messages[0], &messages[1], &ephemeral[1]], "after a packet that is none");
    drop(socket);
}

#[test]
fn no_secret_is_in_memory_after_its_time() {
    let world = secrets();
    run(&world);
    fail_a_socket(&world);
    let Secrets { vault, server, server_long, client_long, .. } = world;
    drop((vault, server));
    absent(&[&server_long, &client_long], "after the vaults were dropped");
}
