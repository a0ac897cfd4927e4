//! Peers and programs that do what is rare: a reset after an answer, a service that reads nothing,
//! an agent for the key, a server that is slow to be found.

use super::target::{Got, Target, bytes, read_all};
use super::tool::{Forwarder, Keys, PATIENCE, TOOL, listener, run, wait};
use curve_tun::net::Connector;
use curve_tun::vault::MemoryVault;
use curve_tun::{PublicKey, SecretKey};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

fn patient(at: &Forwarder) -> TcpStream {
    let stream = TcpStream::connect(at.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn the_key_may_be_an_agents() {
    let keys = Keys::new();
    let agents = ["server", "client"].map(|name| {
        let socket = keys.path(&format!("{name}.sock"));
        let mut command = Command::new(TOOL);
        command.args(["agent", "--secret"]).arg(keys.path(name)).arg("--socket").arg(&socket);
        (Forwarder::start_after(command, keys.path("agent.log"), 1), socket)
    });
    let target = Target::start(b"hello".to_vec());
    let mut command = Command::new(TOOL);
    command.args(["serve", "--listen", "127.0.0.1:0", "--to", &target.at.to_string(), "--agent"]);
    command.arg(&agents[0].1).arg("--registry").arg(keys.path("registry"));
    let serve = Forwarder::start(command, keys.path("serve.log"));
    let with_agent = |kind: &[&str]| {
        let mut command = Command::new(TOOL);
        command.args(kind).args(["--server", &keys.server_key, "--agent"]).arg(&agents[1].1);
        command
    };
    let (code, said) = run(with_agent(&["ping", &serve.at]));
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(with_agent(&["pipe", "--to", &serve.at]));
    assert_eq!(code, Some(0), "{said}");
    let connect = Forwarder::start(
        with_agent(&["connect", "--listen", "127.0.0.1:0", "--to", &serve.at]),
        keys.path("connect.log"),
    );
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let stream = patient(&connect);
                stream.shutdown(Shutdown::Write).unwrap();
                assert!(read_all(&stream).is_whole(b"hello"));
            });
        }
    });
}

#[test]
fn an_answer_comes_though_the_service_resets_after_it() {
    let answer = bytes(3, 60_000);
    let sent = answer.clone();
    let target = Target::of(move |mut stream| {
        // It closes with the question unread, so its system sends a reset.
        stream.peek(&mut [0; 1]).unwrap();
        stream.write_all(&sent).unwrap();
        Got { bytes: Vec::new(), ended: Ok(()) }
    });
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let connect = keys.connect(serve.address());
    for _ in 0..30 {
        let mut stream = patient(&connect);
        stream.write_all(b"question").unwrap();
        let got = read_all(&stream);
        assert_eq!(got.bytes.len(), answer.len(), "{:?}", got.ended);
        assert!(got.bytes == answer && got.ended.is_err(), "{:?}", got.ended);
    }
}

#[test]
fn the_last_bytes_arrive_though_their_sender_is_gone() {
    // The service answers and leaves; the client reads slowly, says its last, and leaves, too.
    let answer = bytes(4, 3_000_000);
    let sent = answer.clone();
    let target = Target::of(move |mut stream| {
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(&stream)
    });
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let connect = keys.connect(serve.address());
    thread::scope(|scope| {
        for n in 0..16_u64 {
            let (answer, connect) = (&answer, &connect);
            scope.spawn(move || {
                let mut stream = patient(connect);
                let mut first = vec![0; 100_000];
                stream.read_exact(&mut first).unwrap();
                thread::sleep(Duration::from_millis(n));
                stream.write_all(&bytes(5, 50_000)).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let rest = read_all(&stream);
                assert!(rest.ended.is_ok() && [first, rest.bytes].concat() == *answer);
            });
        }
    });
    for _ in 0..16 {
        assert!(target.next().is_whole(&bytes(5, 50_000)));
    }
    connect.await_log("ended: done", 16);
    serve.await_log("ended: done", 16);
}

#[test]
fn pipe_does_not_say_done_before_everything_has_arrived() {
    let (tell, tells) = mpsc::channel::<()>();
    let tells = std::sync::Mutex::new(tells);
    let target = Target::of(move |stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        tells.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        // It has read nothing, so this resets.
        Got { bytes: Vec::new(), ended: Ok(()) }
    });
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let mut pipe = keys.pipe(serve.address()).spawn().unwrap();
    // The service's end is here before anything is said.
    assert_eq!(pipe.stdout.take().unwrap().read(&mut [0; 16]).unwrap(), 0);
    let mut input = pipe.stdin.take().unwrap();
    let writes = thread::spawn(move || input.write_all(&bytes(1, 300_000)));
    // All of it is in buffers on the way, or waits for room there.
    let _ = writes.join();
    tell.send(()).unwrap();
    assert_eq!(wait(&mut pipe).code(), Some(4));
}

/// Returns the processor time that a process has taken, in hundredths of a second.
fn processor_time(of: &Forwarder) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", of.child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn nothing_spins_while_a_server_does_not_answer() {
    // Its backlog is full: it is connected to, and never answers.
    let busy = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    busy.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    busy.listen(0).unwrap();
    let at = TcpListener::from(busy);
    let address = at.local_addr().unwrap();
    let _first = TcpStream::connect(address).unwrap();
    let keys = Keys::new();
    let connect = keys.connect(address);
    let before = processor_time(&connect);
    let _waiting: Vec<_> = (0..5).map(|_| TcpStream::connect(connect.address()).unwrap()).collect();
    thread::sleep(Duration::from_secs(1));
    let taken = processor_time(&connect) - before;
    assert!(taken < 20, "{taken} hundredths of a second");
}

/// A client of messages, which says the layer's bytes by hand.
fn by_hand(keys: &Keys, serve: &Forwarder) -> curve_tun::net::Socket {
    let secret = SecretKey::from_text(&fs::read(keys.path("client")).unwrap()).unwrap();
    let server: PublicKey = keys.server_key.parse().unwrap();
    let connector = Connector::new(Arc::new(MemoryVault::new(secret).unwrap())).server_key(server);
    let at = serve.address();
    connector.connect(&at.ip().to_string(), at.port()).unwrap()
}

#[test]
fn who_breaks_a_rule_is_told_so() {
    let open: &[u8] = b"\x03ctstrm01\x00\x00\x00\x00\x00";
    let keys = Keys::new();
    let target = Target::of(|stream| read_all(&stream));
    let serve = keys.serve(&target.at.to_string());
    for wrong in [&[&b"\x00data"[..], b"\x01", b"\x00more"][..], &[b"\x01", b"\x01"], &[b"\x09"], &[open]] {
        let socket = by_hand(&keys, &serve);
        for message in [open].iter().chain(wrong) {
            socket.send(message, Some(PATIENCE)).unwrap();
        }
        let mut buffer = [0; 1024];
        // The server's OPEN may come first, and END if the service is quick.
        let abort = loop {
            let count = socket.recv(&mut buffer, Some(PATIENCE)).unwrap();
            if buffer[0] == 2 {
                break &buffer[..count];
            }
        };
        assert_eq!(abort, [2, 0, 1], "{wrong:?}");
    }
}

#[test]
fn pipe_says_that_a_server_says_nothing() {
    let (_silent, at) = listener();
    let keys = Keys::new();
    let (code, said) = run(keys.pipe(at));
    assert!(code == Some(1) && said.contains("sent nothing: no answer within 10 s"), "{said}");
}
