//! The example servers with more clients than is comfortable: thousands, silent ones, and more than
//! there are descriptors.
#![cfg(all(feature = "capi", target_os = "linux"))]

#[path = "../support/mod.rs"]
mod support;

use curve_tun::net::Socket;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use support::c::examples::{Keys, PATIENCE, Server, keygen, wait_until};

#[track_caller]
fn echo(socket: &Socket, message: &[u8]) {
    let mut buffer = vec![0; message.len()];
    socket.send(message, PATIENCE).unwrap();
    assert_eq!(socket.recv(&mut buffer, PATIENCE), Ok(message.len()));
    assert!(buffer == message);
}

/// Raises this process's limit of open files to its maximum.
fn raise_limit(needed: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a valid struct.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        assert!(limit.rlim_max >= needed, "this test needs `ulimit -Hn` of {needed}");
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

/// Opens many tunnels at once, all of which stay open.
fn connect_crowd(server: &Server, client: &Keys, size: usize) -> Vec<Socket> {
    const THREADS: usize = 16;
    thread::scope(|scope| {
        let dial = || (0..size / THREADS).map(|_| server.connect(client)).collect::<Vec<_>>();
        let dialing: Vec<_> = (0..THREADS).map(|_| scope.spawn(dial)).collect();
        dialing.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn two_thousand_clients_at_once_leave_nothing_behind() {
    const CLIENTS: usize = 2000;
    raise_limit(CLIENTS as u64 + 100);
    let (keys, client) = (keygen(), keygen());
    let server = Server::start("epoll_server", &[], &keys, &[&client]);
    let descriptors = server.descriptors();
    echo(&server.connect(&client), b"the first client");
    wait_until("the first client is gone", || server.descriptors() == descriptors);
    let resident = server.resident();
    // A crowd needs far more than this; the same crowd twice needs it only once.
    for most in [resident + 4096, resident + 5120] {
        let crowd = connect_crowd(&server, &client, CLIENTS);
        assert_eq!(crowd.len(), CLIENTS);
        // All messages are sent before the first answer is read.
        let message = |i: usize| vec![i as u8; 1 + i % 3000];
        for (i, socket) in crowd.iter().enumerate() {
            socket.send(&message(i), PATIENCE).unwrap();
        }
        let mut buffer = [0; 3000];
        for (i, socket) in crowd.iter().enumerate() {
            let len = socket.recv(&mut buffer, PATIENCE).unwrap();
            assert!(buffer[..len] == message(i));
        }
        assert_eq!(server.descriptors(), descriptors + CLIENTS);
        assert!(server.resident() > most);
        drop(crowd);
        wait_until("descriptors are back to the start", || server.descriptors() == descriptors);
        wait_until("memory is back to the start", || server.resident() <= most);
    }
    server.ends_by_sigterm();
}

#[test]
fn silent_clients_keep_no_honest_one_out() {
    for name in ["echo_server", "epoll_server"] {
        let (keys, client) = (keygen(), keygen());
        let server = Server::start(name, &["--handshakes", "100"], &keys, &[&client]);
        let descriptors = server.descriptors();
        echo(&server.connect(&client), b"before");
        let silent: Vec<_> = (0..200).map(|_| server.connect_tcp()).collect();
        for i in 0..20u8 {
            echo(&server.connect(&client), &[i; 100]);
            thread::sleep(Duration::from_millis(20));
        }
        assert!(server.descriptors() >= descriptors + 50, "silent clients are waited for");
        assert!(server.descriptors() <= descriptors + 110, "but no more than the limit");
        drop(silent);
        wait_until("descriptors are back to the start", || server.descriptors() == descriptors);
        server.ends_by_sigterm();
    }
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_and_loses_nothing() {
    const MESSAGES: usize = 1000;
    for name in ["echo_server", "epoll_server"] {
        let (keys, client) = (keygen(), keygen());
        let server = Server::start(name, &[], &keys, &[&client]);
        let slow = server.connect(&client);
        let resident = server.resident();
        let sent = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..MESSAGES {
                    slow.send(&[i as u8; 60_000], PATIENCE).unwrap();
                    sent.store(i + 1, Ordering::Relaxed);
                }
            });
            let mut before = usize::MAX;
            wait_until("the transport is full", || {
                thread::sleep(Duration::from_millis(300));
                let now = sent.load(Ordering::Relaxed);
                now > 0 && now == std::mem::replace(&mut before, now)
            });
            assert!(
                sent.load(Ordering::Relaxed) < MESSAGES,
                "{name} reads on, although nothing is taken from it"
            );
            assert!(server.resident() < resident + 4096, "{name} keeps what is not taken from it");
            echo(&server.connect(&client), b"others are served");
            let mut buffer = vec![0; 60_000];
            for i in 0..MESSAGES {
                assert_eq!(slow.recv(&mut buffer, PATIENCE), Ok(60_000));
                assert!(buffer == [i as u8; 60_000]);
            }
        });
        server.ends_by_sigterm();
    }
}

#[test]
fn a_server_out_of_descriptors_serves_on_and_recovers() {
    const DESCRIPTORS: u32 = 40;
    const CLIENTS: usize = 60;
    for name in ["echo_server", "epoll_server"] {
        let (keys, client) = (keygen(), keygen());
        let server = Server::start_limited(DESCRIPTORS, name, &keys, &[&client]);
        thread::scope(|scope| {
            let (served, wait) = mpsc::channel();
            let mut release = Vec::new();
            for _ in 0..CLIENTS {
                let (go, gone) = mpsc::channel::<()>();
                release.push(go);
                let served = served.clone();
                let (server, client) = (&server, &client);
                scope.spawn(move || {
                    let socket = server.connect(client);
                    echo(&socket, b"let in");
                    served.send(()).unwrap();
                    // The sender was dropped.
                    gone.recv().unwrap_err();
                    echo(&socket, b"still there");
                });
            }
            wait_until("descriptors run out", || server.descriptors() >= DESCRIPTORS as usize);
            for _ in 0..20 {
                wait.recv_timeout(PATIENCE.unwrap()).unwrap();
            }
            // A busy loop would use a hundred.
            let before = server.ticks();
            thread::sleep(Duration::from_secs(1));
            let used = server.ticks() - before;
            assert!(used < 50, "{name}: {used} clock ticks in a second of waiting");
            // As the first ones leave, the others come in.
            drop(release);
            for _ in 20..CLIENTS {
                wait.recv_timeout(PATIENCE.unwrap()).unwrap();
            }
        });
        let said = server.ends_by_sigterm();
        assert!(said.contains("accept: "), "{name} says that descriptors ran out: {said}");
    }
}
