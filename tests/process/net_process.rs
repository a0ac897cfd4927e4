//! What affects a whole process: its descriptors, and its children. There is only one test, since
//! it changes the process.

#[path = "../support/mod.rs"]
mod support;

use curve_tun::Error;
use curve_tun::connection::Options;
use curve_tun::net::{Connector, Listener, TimedServer, Timeout};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{MemoryVault, Vault};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const SOON: Timeout = Some(Duration::from_secs(20));

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn limit_descriptors(limit: u64) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit.max(1024) };
    // SAFETY: the pointer is to a valid rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

#[test]
fn descriptors_run_out_and_come_back_and_a_forked_child_is_refused() {
    let (vault, client) =
        (Arc::new(MemoryVault::generate().unwrap()), Arc::new(MemoryVault::generate().unwrap()));
    let registry = Arc::new(MemoryRegistry::new());
    registry.add_anywhere(client.public_key());
    let server = TimedServer::new(vault.clone(), registry, Options::default()).unwrap();
    let listener = Listener::bind("127.0.0.1", 0, server).unwrap();
    let connect = || {
        Connector::new(client.clone())
            .server_key(vault.public_key())
            .timeout(SOON)
            .connect("127.0.0.1", listener.port())
    };
    let tunnel = || {
        thread::scope(|scope| {
            let client = scope.spawn(connect);
            (listener.accept(SOON).unwrap(), client.join().unwrap().unwrap())
        })
    };
    let before = descriptors();

    let (first, peer) = tunnel();
    // Fills the table except for one place, then lets more clients come than it can hold.
    let waiting: Vec<TcpStream> =
        (0..3).map(|_| TcpStream::connect(listener.local_addr()).unwrap()).collect();
    limit_descriptors(descriptors() as u64);
    let mut reported = 0;
    for _ in 0..3 {
        match listener.accept(Some(Duration::from_millis(250))) {
            Err(Error::TooManyFiles) => reported += 1,
            Err(Error::Timeout) => {}
            other => panic!("{:?}", other.map(|_| ())),
        }
    }
    assert!(reported > 0, "the lack of descriptors is reported");
    first.send(b"still here", SOON).unwrap();
    assert_eq!(peer.recv(&mut [0; 16], SOON), Ok(10));
    limit_descriptors(1024);
    drop(waiting);
    let (second, _peer) = tunnel();
    drop((first, peer, second, _peer));
    // Clients that left during their handshake are noticed by the accepting threads.
    let end = Instant::now() + SOON.unwrap();
    while descriptors() != before {
        assert!(Instant::now() < end, "every descriptor is given back");
        assert!(matches!(listener.accept(Some(Duration::from_millis(50))), Err(Error::Timeout)));
    }

    let (ours, theirs) = tunnel();
    // SAFETY: the child uses no other threads, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = ours.send(b"x", SOON) == Err(Error::Forked)
            && ours.recv(&mut [0; 8], SOON) == Err(Error::Forked)
            && ours.peer_key() == Err(Error::Forked)
            && matches!(listener.accept(SOON), Err(Error::Forked))
            && vault.box_seal(curve_tun::vault::Purpose::Vouch, &client.public_key(), &[0; 32], &mut [0; 48])
                == Err(Error::Forked);
        // Objects freed by the child must not end its parent's tunnel, nor wait for threads that it
        // does not have.
        ours.shutdown();
        drop((ours, listener));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `child` is a child of this process, the pointer valid.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child was refused everywhere");
    ours.send(b"unharmed", SOON).unwrap();
    assert_eq!(theirs.recv(&mut [0; 16], SOON), Ok(8));
}
