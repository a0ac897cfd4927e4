//! Connections that end as they should: halves, crowds, and what is behind them.

use super::target::{Got, Target, bytes, exchange, read_all};
use super::tool::{Forwarder, Keys, PATIENCE};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn each_direction_ends_by_itself() {
    // The service answers only after it has seen the end of the question.
    let target = Target::of(|stream| {
        let got = read_all(&stream);
        (&mut &stream).write_all(&bytes(9, got.bytes.len())).unwrap();
        got
    });
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let connect = keys.connect(serve.address());
    let got = exchange(&TcpStream::connect(connect.address()).unwrap(), &bytes(1, 300_000));
    assert!(got.is_whole(&bytes(9, 300_000)));
    assert!(target.next().is_whole(&bytes(1, 300_000)));
    connect.await_log("ended: done", 1);
    serve.await_log("ended: done", 1);

    // And the other way: the client speaks on after the service has ended.
    let target = Target::of(|mut stream| {
        stream.write_all(b"that is all").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(stream)
    });
    let serve = keys.serve(&target.at.to_string());
    let connect = keys.connect(serve.address());
    let mut stream = patient(TcpStream::connect(connect.address()).unwrap());
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"that is all");
    stream.write_all(&bytes(5, 200_000)).unwrap();
    drop(stream);
    assert!(target.next().is_whole(&bytes(5, 200_000)));
}

/// Counts the descriptors that a process has open.
fn descriptors(of: &Forwarder) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", of.child.id())).unwrap().count()
}

#[test]
fn halves_end_at_any_time_and_nothing_stays() {
    // It answers before, while and after the question comes.
    let target = Target::of(|stream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let early = read_some(&stream, 1);
        (&mut &stream).write_all(&bytes(2, usize::from(early) * 700)).unwrap();
        if early.is_multiple_of(2) {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        read_all(&stream)
    });
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let connect = keys.connect(serve.address());
    let before = [&serve, &connect].map(descriptors);
    let at = connect.address();
    thread::scope(|scope| {
        for thread in 0..4_u8 {
            scope.spawn(move || {
                for round in 0..100_u8 {
                    let first = round.wrapping_mul(37).wrapping_add(thread);
                    let mut stream = patient(TcpStream::connect(at).unwrap());
                    stream.write_all(&[first]).unwrap();
                    stream.write_all(&bytes(1, usize::from(round) * 500)).unwrap();
                    if round % 7 == 3 {
                        // It vanishes with one direction ended, and takes the answer with it.
                        stream.shutdown(Shutdown::Write).unwrap();
                        disconnect(&stream);
                        continue;
                    }
                    if round % 3 != 0 {
                        thread::sleep(Duration::from_micros(u64::from(first) * 20));
                    }
                    stream.shutdown(Shutdown::Write).unwrap();
                    let got = read_all(&stream);
                    assert!(got.is_whole(&bytes(2, usize::from(first) * 700)), "{thread} {round}: {got:?}");
                }
            });
        }
    });
    for forwarder in [&serve, &connect] {
        forwarder.await_log("ended: ", 400);
    }
    let until = std::time::Instant::now() + PATIENCE;
    while [&serve, &connect].map(descriptors) != before {
        assert!(std::time::Instant::now() < until, "{before:?}: {:?}", [&serve, &connect].map(descriptors));
        thread::sleep(Duration::from_millis(20));
    }
}

fn read_some(mut stream: &TcpStream, count: usize) -> u8 {
    let mut buffer = vec![0; count];
    // Whoever vanished may have said nothing.
    stream.read_exact(&mut buffer).map_or(0, |()| buffer[0])
}

#[test]
fn a_reset_at_one_side_is_a_reset_at_the_other() {
    let (tell, accepted) = mpsc::channel::<TcpStream>();
    let target = Target::of(move |stream| {
        tell.send(stream.try_clone().unwrap()).unwrap();
        let got = read_all(&stream);
        Got { bytes: got.bytes, ended: got.ended }
    });
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let connect = keys.connect(serve.address());
    let reset = |stream: TcpStream| {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    };

    let mut client = TcpStream::connect(connect.address()).unwrap();
    client.write_all(b"first").unwrap();
    let _kept = accepted.recv_timeout(PATIENCE).unwrap();
    reset(client);
    let got = target.next();
    assert!(got.ended.is_err(), "{got:?}");
    serve.await_log("ended: the connection behind the peer was reset", 1);
    connect.await_log("ended: the local side was reset", 1);

    let mut client = patient(TcpStream::connect(connect.address()).unwrap());
    client.write_all(b"second").unwrap();
    let served = accepted.recv_timeout(PATIENCE).unwrap();
    serve.await_log("opened", 2);
    // The thread that reads it has it open too: only this resets it now.
    served.set_read_timeout(Some(PATIENCE)).unwrap();
    disconnect(&served);
    drop(served);
    let ended = client.read(&mut [0; 16]);
    assert!(ended.is_err(), "{ended:?}");
    serve.await_log("ended: the local side was reset", 1);
}

/// Has a socket reset its connection, though others have it open.
fn disconnect(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    let unspecified = nix::libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let len = size_of::<nix::libc::sockaddr>() as u32;
    // SAFETY: the descriptor is open, and the address is whole.
    unsafe { nix::libc::connect(stream.as_raw_fd(), &raw const unspecified, len) };
}

#[test]
fn a_crowd_is_served_at_once() {
    let answer = bytes(2, 50_000);
    let target = Target::start(answer.clone());
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let connect = keys.connect(serve.address());
    let at = connect.address();
    thread::scope(|scope| {
        for n in 0..100 {
            let answer = &answer;
            scope.spawn(move || {
                let got = exchange(&TcpStream::connect(at).unwrap(), &bytes(n, 20_000));
                assert!(got.is_whole(answer), "{n}");
            });
        }
    });
    for _ in 0..100 {
        assert_eq!(target.next().bytes.len(), 20_000);
    }
    connect.await_log("ended: done", 100);
}

#[test]
fn a_reader_that_does_not_read_holds_its_writer() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let target = Target::of(move |stream| {
        wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        read_all(stream)
    });
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let connect = keys.connect(serve.address());
    let mut stream = TcpStream::connect(connect.address()).unwrap();
    // Until nothing has been taken for a while: sockets' buffers are full, and the forwarder's.
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let all = bytes(7, 64 << 20);
    let mut sent = 0;
    while let Ok(count) = stream.write(&all[sent..]) {
        sent += count;
    }
    assert!(sent < all.len(), "somebody takes everything");
    go.send(()).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&all[sent..]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(target.next().is_whole(&all));
}

#[test]
fn unix_sockets_are_forwarded_from_and_to() {
    let keys = Keys::new();
    let service = keys.path("service.sock");
    let listener = UnixListener::bind(&service).unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let got = read_all(&stream);
        stream.write_all(b"heard").unwrap();
        got
    });
    let serve = keys.serve(service.to_str().unwrap());
    let front = keys.path("front.sock");
    let mut connect = keys.connect_with(&format!("unix:{}", front.display()), serve.address(), &[]);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&front).unwrap());
    assert_eq!(mode & 0o777, 0o600, "only this user may connect");
    let mut stream = UnixStream::connect(&front).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&bytes(3, 100_000)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "heard");
    assert!(served.join().unwrap().is_whole(&bytes(3, 100_000)));

    connect.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(connect.wait().code(), Some(0));
    assert!(!front.exists(), "its socket is gone with it");
}
