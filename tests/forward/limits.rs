//! Descriptors that run out, times that pass, signals.

use super::target::{Target, bytes, exchange, read_all};
use super::tool::{Forwarder, Keys, PATIENCE, TOOL};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;

fn connected(forwarder: &Forwarder) -> TcpStream {
    let stream = TcpStream::connect(forwarder.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A service that sends back what comes.
fn echo() -> Target {
    Target::of(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        read_all(stream)
    })
}

fn say(stream: &mut TcpStream, words: &[u8]) {
    stream.write_all(words).unwrap();
    let mut heard = vec![0; words.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, words);
}

#[test]
fn descriptors_that_run_out_cut_nobody() {
    let target = echo();
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 40 && exec \"$@\"", "sh", TOOL]);
    command.args(["connect", "--listen", "127.0.0.1:0", "--to", &serve.at]).args(keys.client_args());
    let connect = Forwarder::start(command, keys.path("few.log"));
    let mut open = Vec::new();
    // Each is served until there is no more room; the next one waits.
    loop {
        let mut stream = connected(&connect);
        stream.write_all(b"there?").unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        let answered = stream.read_exact(&mut [0; 6]).is_ok();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        open.push(stream);
        if !answered && connect.log().contains("new connections wait") {
            break;
        }
        assert!(open.len() < 40, "there is room for all");
    }
    let mut waiting = open.pop().unwrap();
    assert!(open.len() >= 4, "{}", open.len());
    for stream in &mut open {
        say(stream, b"still there");
    }
    // One that leaves makes room.
    drop(open.remove(0));
    waiting.read_exact(&mut [0; 6]).unwrap();
    say(&mut waiting, b"and now me");
    assert_eq!(connect.log().matches("new connections wait").count(), 1, "once a minute");
    assert!(!connect.log().contains("cut"), "{}", connect.log());
}

#[test]
fn sigterm_lets_connections_end_and_takes_no_new_ones() {
    let target = echo();
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let mut connect = keys.connect(serve.address());
    let mut stream = connected(&connect);
    say(&mut stream, b"before");
    connect.signal(Signal::SIGTERM);
    connect.await_log("no new connections", 1);
    assert!(
        (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            TcpStream::connect(connect.address()).is_err()
        }),
        "it still listens"
    );
    say(&mut stream, b"after");
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&stream).ended.is_ok());
    assert_eq!(connect.wait().code(), Some(0));
    assert!(connect.log().contains("done 1, cut 0"), "{}", connect.log());
}

#[test]
fn what_has_not_ended_in_time_is_aborted() {
    let target = echo();
    let keys = Keys::new();
    let mut serve = keys.serve_with(&target.at.to_string(), &["--drain", "1s"]);
    let connect = keys.connect(serve.address());
    let mut stream = connected(&connect);
    say(&mut stream, b"before");
    serve.signal(Signal::SIGINT);
    let ended = stream.read(&mut [0; 16]);
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(serve.wait().code(), Some(5), "{}", serve.log());
    connect.await_log("ended: the peer is shutting down", 1);
}

#[test]
fn a_second_signal_ends_at_once() {
    let target = echo();
    let keys = Keys::new();
    let mut serve = keys.serve(&target.at.to_string());
    let connect = keys.connect(serve.address());
    let mut stream = connected(&connect);
    say(&mut stream, b"before");
    serve.signal(Signal::SIGTERM);
    serve.await_log("no new connections", 1);
    serve.signal(Signal::SIGTERM);
    assert_eq!(serve.wait().code(), Some(5), "{}", serve.log());
    assert!(stream.read(&mut [0; 16]).is_err());
    connect.await_log("ended: the peer is shutting down", 1);
    assert!(serve.log().contains("stopped: accepted 1"), "{}", serve.log());
}

#[test]
fn a_process_that_is_killed_resets_what_it_had() {
    // Both the service and its client: none of them takes it for an end.
    for killed in [true, false] {
        let target = Target::of(|stream| {
            (&mut &stream).write_all(b"part").unwrap();
            read_all(&stream)
        });
        let keys = Keys::new();
        let serve = keys.serve(&target.at.to_string());
        let connect = keys.connect(serve.address());
        let mut stream = connected(&connect);
        stream.write_all(b"part").unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        (if killed { &serve } else { &connect }).signal(Signal::SIGKILL);
        assert!(stream.read(&mut [0; 16]).is_err());
        let got = target.next();
        assert!(got.ended.is_err(), "{got:?}");
    }
}

#[test]
fn a_check_is_of_a_configuration() {
    let keys = Keys::new();
    let mut command = Command::new(TOOL);
    command.args(["connect", "--check", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"]);
    command.args(keys.client_args());
    let (code, said) = super::tool::run(command);
    assert!(code == Some(2) && said.contains("--check reads a configuration"), "{said}");
}

#[test]
fn sighup_reads_the_registry_and_disturbs_nobody() {
    let target = echo();
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let connect = keys.connect(serve.address());
    let mut stream = connected(&connect);
    say(&mut stream, b"before");
    serve.signal(Signal::SIGHUP);
    serve.await_log("reloaded", 1);
    std::fs::write(keys.path("registry"), "what is this\n").unwrap();
    serve.signal(Signal::SIGHUP);
    serve.await_log("what was read before stays", 1);
    say(&mut stream, b"after");
    // Who was let in before still is.
    say(&mut connected(&connect), b"another");
}

#[test]
fn an_idle_connection_ends_where_it_is_wanted() {
    let target = echo();
    let keys = Keys::new();
    let serve = keys.serve_with(&target.at.to_string(), &["--idle", "1s"]);
    let connect = keys.connect(serve.address());
    let mut stream = connected(&connect);
    say(&mut stream, b"once");
    assert!(stream.read(&mut [0; 16]).is_err());
    serve.await_log("ended: idle for longer than --idle", 1);
    connect.await_log("ended: a limit of time has passed at the peer", 1);
}

#[test]
fn a_health_check_is_no_news() {
    let target = Target::start(Vec::new());
    let keys = Keys::new();
    let serve = keys.serve_with(&target.at.to_string(), &["-v"]);
    // Connects and goes away, before a handshake.
    drop(TcpStream::connect(serve.address()).unwrap());
    serve.await_log("closed before the first byte", 1);
    assert!(!serve.log().contains("WARN"), "{}", serve.log());
    let connect = keys.connect_with("127.0.0.1:0", serve.address(), &["-v"]);
    drop(TcpStream::connect(connect.address()).unwrap());
    connect.await_log("closed before the first byte", 1);
    let log = connect.log();
    assert!(!log.contains("WARN"), "{log}");
    assert!(exchange(&connected(&connect), &bytes(1, 10)).is_whole(b""));
}
