//! What the allocator sees: no allocation for a message in the steady state, and little memory for
//! an idle connection.

#[path = "../support/mod.rs"]
mod support;

use curve_tun::Error;
use curve_tun::connection::{Connection, Options};
use curve_tun::net::{Connector, Listener, TimedServer};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{MemoryVault, Vault};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support::{World, message, recv, settle, take};

thread_local! {
    /// Allocations of this thread, and the bytes that it holds.
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(calls: usize, bytes: isize) {
    CALLS.set(CALLS.get() + calls);
    BYTES.set(BYTES.get() + bytes);
}

#[allow(unsafe_code, reason = "an allocator is unsafe by its trait")]
// SAFETY: every call is passed on unchanged to the system's allocator; the counters are
// thread-local and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as isize - layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One message from end to end, the bytes moved by `memcpy` alone.
fn pass(from: &mut Connection, to: &mut Connection, message: &[u8]) {
    from.send(message).unwrap();
    while from.wants_write() {
        let room = to.recv_buffer().unwrap();
        let count = room.len().min(from.send_buffer().len());
        room[..count].copy_from_slice(&from.send_buffer()[..count]);
        to.received(count).unwrap();
        from.sent(count);
    }
    assert_eq!(to.peek(), Ok(message));
    to.consume();
}

#[test]
fn the_allocator_is_watched() {
    let before = (CALLS.get(), BYTES.get());
    let memory = std::hint::black_box(vec![0u8; 1000]);
    assert_eq!((CALLS.get() - before.0, BYTES.get() - before.1), (1, 1000));
    drop(memory);
    assert_eq!(BYTES.get(), before.1);
}

#[test]
fn no_message_costs_an_allocation_in_the_steady_state() {
    let (mut client, mut server) = World::new().connected();
    let messages: Vec<_> = [0, 1, 64, 1024, 16_384, 65_503].map(|size| message(size, size)).into();
    let mut round = || {
        for message in &messages {
            pass(&mut client, &mut server, message);
            pass(&mut server, &mut client, message);
        }
    };
    // The buffers grow to what the traffic needs.
    (0..20).for_each(|_| round());
    let before = CALLS.get();
    (0..100).for_each(|_| round());
    assert_eq!(CALLS.get() - before, 0);
}

#[test]
fn no_message_of_a_batch_costs_an_allocation_either() {
    let (mut client, mut server) = World::new().connected();
    let message = message(100, 1);
    let mut round = || {
        (0..500).for_each(|_| client.send(&message).unwrap());
        while client.wants_write() {
            let count = server.feed(client.send_buffer()).unwrap();
            client.sent(count);
            while server.peek().is_ok() {
                server.consume();
            }
        }
    };
    (0..10).for_each(|_| round());
    let before = CALLS.get();
    (0..20).for_each(|_| round());
    assert_eq!(CALLS.get() - before, 0);
}

#[test]
fn an_idle_connection_gives_its_buffers_back_and_is_small() {
    const COUNT: usize = 100;
    let world = World::new();
    let mut clients = Vec::with_capacity(COUNT);
    let mut servers = Vec::with_capacity(COUNT);
    let before = BYTES.get();
    for _ in 0..COUNT {
        let (mut client, mut server) = world.connected();
        pass(&mut client, &mut server, &message(65_503, 1));
        pass(&mut server, &mut client, &message(65_503, 2));
        clients.push(Box::new(client));
        servers.push(Box::new(server));
    }
    let busy = BYTES.get() - before;
    for connection in clients.iter_mut().chain(&mut servers) {
        // The first tick sees the traffic; after a second of silence the buffers are freed.
        assert_eq!(connection.tick(0), Ok(Some(1000)));
        assert_eq!(connection.tick(999), Ok(Some(1000)));
        assert_eq!(connection.tick(1000), Ok(None));
    }
    let idle = BYTES.get() - before;
    let each = idle / (2 * COUNT as isize);
    println!("an idle connection: {each} bytes; with its buffers: {}", busy / (2 * COUNT as isize));
    assert!(busy > idle && each <= 600, "{each} bytes for an idle connection");
    // And it works as before.
    let (mut client, mut server) = (clients.pop().unwrap(), servers.pop().unwrap());
    pass(&mut client, &mut server, b"awake");
    settle(&mut client, &mut server).unwrap();
    drop((client, server, clients, servers));
}

#[test]
fn a_connection_gives_back_the_one_buffer_that_it_has() {
    let (mut client, mut server) = World::new().connected();
    for end in [&mut client, &mut server] {
        assert_eq!(end.tick(0), Ok(Some(1000)));
        assert_eq!(end.tick(1000), Ok(None));
        assert_eq!(end.tick(2000), Ok(None), "there is nothing to give back");
    }
    let before = BYTES.get();
    // Only the client sends, only the server receives.
    pass(&mut client, &mut server, b"one way");
    assert!(BYTES.get() > before);
    for end in [&mut client, &mut server] {
        assert_eq!(end.tick(5000), Ok(Some(6000)));
        assert_eq!(end.tick(6000), Ok(None));
    }
    assert_eq!(BYTES.get(), before);
}

#[test]
fn a_connection_in_use_keeps_its_buffers() {
    let (mut client, mut server) = World::new().connected();
    for now in (0..5000).step_by(600) {
        pass(&mut client, &mut server, b"now and then");
        assert_eq!((client.tick(now), server.tick(now)), (Ok(Some(now + 1000)), Ok(Some(now + 1000))));
    }
}

#[test]
fn room_doubles_each_time_that_it_is_filled_and_is_small_again_after_a_rest() {
    let (mut client, mut server) = World::new().connected();
    for now in [0, 5000] {
        client.send(&message(60_000, 1)).unwrap();
        let bytes = take(&mut client);
        let (mut at, mut sizes) = (0, Vec::new());
        while at < bytes.len() {
            let room = server.recv_buffer().unwrap();
            let count = room.len().min(bytes.len() - at);
            room[..count].copy_from_slice(&bytes[at..at + count]);
            sizes.push(room.len());
            server.received(count).unwrap();
            at += count;
        }
        assert_eq!(sizes, [4096, 8192, 16_384, 32_768], "{now}");
        // A message that does not fill it changes nothing.
        assert_eq!(recv(&mut server).unwrap(), message(60_000, 1));
        assert_eq!(server.recv_buffer().unwrap().len(), 32_768);
        server.tick(now).unwrap();
        assert_eq!(server.tick(now + 1000), Ok(None));
    }
}

#[test]
fn buffers_that_hold_something_are_kept_however_long_it_waits() {
    let (mut client, mut server) = World::new().connected();
    client.send(b"unread").unwrap();
    settle(&mut client, &mut server).unwrap();
    client.send(b"unsent").unwrap();
    for now in (0..20_000).step_by(500) {
        client.tick(now).unwrap();
        server.tick(now).unwrap();
    }
    assert_eq!(server.peek(), Ok(&b"unread"[..]));
    server.consume();
    settle(&mut client, &mut server).unwrap();
    assert_eq!(server.peek(), Ok(&b"unsent"[..]));
}

#[test]
fn a_peer_that_sends_without_end_costs_a_few_packets_of_memory() {
    let world = World::new();
    let (mut client, mut server) = world.connected();
    let message = message(60_000, 1);
    let before = BYTES.get();
    let mut bytes = 0;
    for _ in 0..10_000 {
        client.send(&message).unwrap();
        let count = server.feed(client.send_buffer()).unwrap();
        bytes += count;
        // Bytes that the server would not take are dropped here: the sender's memory is not what is
        // measured.
        client.sent(usize::MAX);
        if count == 0 {
            break;
        }
    }
    assert!(!server.wants_read() && bytes >= world.options.receive_high_water);
    let held = BYTES.get() - before;
    assert!(held <= (world.options.receive_high_water + 4 * 65_537) as isize, "{held} bytes");
}

#[test]
fn a_socket_that_waits_gives_its_buffers_back() {
    const LARGE: usize = 60_000;
    let (server, client) =
        (Arc::new(MemoryVault::generate().unwrap()), Arc::new(MemoryVault::generate().unwrap()));
    let key = server.public_key();
    let registry = Arc::new(MemoryRegistry::new());
    registry.add_anywhere(client.public_key());
    let server = TimedServer::new(server, registry, Options::default()).unwrap();
    let listener = Listener::bind("127.0.0.1", 0, server).unwrap();
    let soon = Some(Duration::from_secs(20));
    thread::scope(|scope| {
        let echo = scope.spawn(|| {
            let socket = listener.accept(soon).unwrap();
            let mut message = vec![0; LARGE];
            let len = socket.recv(&mut message, soon).unwrap();
            socket.send(&message[..len], soon).unwrap();
            // Until the client has checked what it came for.
            assert_eq!(socket.recv(&mut message, soon), Err(Error::Closed));
        });
        let client = Connector::new(client)
            .server_key(key)
            .timeout(soon)
            .connect("127.0.0.1", listener.port())
            .unwrap();
        let mut message = vec![0; LARGE];
        let before = BYTES.get();
        client.send(&message, soon).unwrap();
        let sent = BYTES.get() - before;
        assert_eq!(client.recv(&mut message, soon), Ok(LARGE));
        let received = BYTES.get() - before - sent;
        // Minus what the handshake left.
        let least = LARGE as isize - 1000;
        assert!(sent >= least && received >= least, "{sent} and {received} bytes while busy");
        assert_eq!(client.recv(&mut message, Some(Duration::from_millis(1500))), Err(Error::Timeout));
        let idle = BYTES.get() - before;
        assert!(idle <= 0, "{idle} bytes kept");
        drop(client);
        echo.join().unwrap();
    });
}
