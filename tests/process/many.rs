//! Many connections, and first calls from many threads. There is only one test, since it changes
//! the limits of its process.

#[path = "../support/mod.rs"]
mod support;

use std::sync::Barrier;
use support::{World, recv, settle};

#[test]
#[allow(unsafe_code, reason = "the limit on locked memory is set through libc")]
fn sixteen_threads_begin_at_once_and_twenty_thousand_connections_need_no_locked_memory() {
    let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
    // SAFETY: the pointer is to a whole rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }, 0);

    // The very first calls of this process.
    let barrier = Barrier::new(16);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                barrier.wait();
                let (mut client, mut server) = World::new().connected();
                client.send(b"first").unwrap();
                settle(&mut client, &mut server).unwrap();
                assert_eq!(recv(&mut server).unwrap(), b"first");
            });
        }
    });

    let world = World::new();
    let mut pairs: Vec<_> = (0..10_000).map(|_| world.connected()).collect();
    for (client, server) in &mut pairs {
        server.send(b"one of many").unwrap();
        settle(client, server).unwrap();
        assert_eq!(recv(client).unwrap(), b"one of many");
    }
}
