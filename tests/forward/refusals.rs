//! What cannot be had, and what is said of it.

use super::target::Target;
use super::tool::{Keys, PATIENCE, TOOL, listener, run};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;

/// Runs `ping` and checks its exit code and its words.
fn refused(command: Command, words: &[&str]) {
    let (code, said) = run(command);
    assert_eq!(code, Some(1), "{said}");
    for words in words {
        assert!(said.contains(words), "{words:?} is not in {said:?}");
    }
    assert!(said.starts_with("curve-tun: ") && said.lines().count() >= 2, "{said}");
}

/// Something else than curve_tun, which says `greeting` to whoever connects.
fn stranger(greeting: &'static [u8]) -> SocketAddr {
    let (listener, at) = listener();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Who came may be gone.
            let _ = stream.write_all(greeting);
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    at
}

#[test]
fn ping_says_how_long_it_takes() {
    let target = Target::start(b"hello".to_vec());
    let keys = Keys::new();
    let serve = keys.serve_with(&target.at.to_string(), &["-v"]);
    let output = keys.ping(serve.address()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    for words in
        ["connected to", "handshake in", "the server has connected to its service in", "round trip 3 in"]
    {
        assert!(said.contains(words), "{said}");
    }
    // To the operator of the server it is no reason to worry.
    serve.await_log("INFO ended: closed before the first byte", 1);
}

#[test]
fn ping_says_why_there_is_no_tunnel() {
    let keys = Keys::new();
    let (closed, free) = listener();
    drop(closed);
    refused(keys.ping(free), &["nobody listens there"]);

    let target = Target::start(Vec::new());
    let serve = keys.serve(&target.at.to_string());
    let stranger_key = keys.another("other");
    let mut ping = Command::new(TOOL);
    ping.args(["ping", &serve.at, "--server", &stranger_key, "--secret-file"]).arg(keys.path("client"));
    refused(ping, &["closed the connection without an answer", "--server is not its key"]);

    let mut ping = Command::new(TOOL);
    ping.args(["ping", &serve.at, "--server", &keys.server_key, "--secret-file"]).arg(keys.path("other"));
    let line = format!("curve-tun peers add --registry FILE '*' {stranger_key}");
    refused(ping, &["did not let us in", &line]);
    serve.await_log("refused: the registry does not accept", 1);

    let strangers: [(&[u8], &str); 3] = [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH server answers there"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP server answers there"),
        (&[0x15, 3, 1, 0, 2, 2, 22], "a TLS server answers there"),
    ];
    for (greeting, words) in strangers {
        refused(keys.ping(stranger(greeting)), &[words]);
    }

    let (closed, free) = listener();
    drop(closed);
    let serve = keys.serve(&free.to_string());
    refused(keys.ping(serve.address()), &["the target behind the peer refused", "The tunnel works"]);
}

#[test]
fn a_service_is_had_by_its_name_alone() {
    let target = Target::start(b"hello".to_vec());
    let keys = Keys::new();
    let serve = keys.serve_with(&target.at.to_string(), &["--service", "db"]);
    for name in ["db", "default"] {
        let (code, said) = run({
            let mut ping = keys.ping(serve.address());
            ping.args(["--service", name]);
            ping
        });
        assert_eq!(code, Some(0), "{said}");
    }
    let mut ping = keys.ping(serve.address());
    ping.args(["--service", "web"]);
    refused(ping, &["no such service"]);
    serve.await_log("ended: there is no service web here", 1);
}

#[test]
fn connect_resets_who_cannot_be_forwarded() {
    let keys = Keys::new();
    let (closed, free) = listener();
    drop(closed);
    let connect = keys.connect(free);
    let mut stream = TcpStream::connect(connect.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let ended = stream.read(&mut [0; 16]);
    assert!(ended.is_err(), "{ended:?}");
    connect.await_log("nobody listens there", 1);
}

#[test]
fn a_server_of_messages_gets_no_stream() {
    use curve_tun::net::Listener;
    use curve_tun::registry::MemoryRegistry;
    use curve_tun::vault::MemoryVault;
    let keys = Keys::new();
    let text = std::fs::read(keys.path("server")).unwrap();
    let vault = MemoryVault::new(curve_tun::SecretKey::from_text(&text).unwrap()).unwrap();
    let registry = MemoryRegistry::new();
    registry.add_anywhere(keys.client_key.parse().unwrap());
    let listener = Listener::builder(Arc::new(vault), Arc::new(registry)).bind("127.0.0.1", 0).unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], listener.port()));
    thread::spawn(move || {
        let socket = listener.accept(Some(PATIENCE)).unwrap();
        socket.send(b"hello, who is there?", Some(PATIENCE)).unwrap();
        // Until the peer is gone.
        while socket.recv(&mut [0; 100], Some(PATIENCE)).is_ok() {}
    });
    let connect = keys.connect(at);
    let mut stream = TcpStream::connect(connect.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"anything").unwrap();
    assert!(stream.read(&mut [0; 16]).is_err());
    connect.await_log("does not speak", 1);
}

#[test]
fn a_wrong_command_line_is_named() {
    let keys = Keys::new();
    let secret = keys.path("client");
    for (args, words) in [
        (vec!["serve", "--listen", "nowhere"], "the port is missing"),
        (vec!["connect", "--to", "h:0"], "nothing listens at port 0"),
        (vec!["pipe", "--server", "abc"], "44 characters"),
        (vec!["connect", "--service", "A B"], "1 to 64 of a-z"),
        (vec!["serve", "--idle", "1"], "90s, 15m, 2h"),
    ] {
        let output = Command::new(TOOL).args(args).arg("--secret-file").arg(&secret).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_place_that_is_taken_is_left_alone() {
    let keys = Keys::new();
    let (_taken, at) = listener();
    let mut command = Command::new(TOOL);
    command.args(["connect", "--listen", &at.to_string(), "--to", "127.0.0.1:9"]).args(keys.client_args());
    refused(command, &["cannot listen on", "Another process listens there"]);

    let path = keys.path("sock");
    let listen = format!("unix:{}", path.display());
    let first = keys.connect_with(&listen, at, &[]);
    let again = || {
        let mut command = Command::new(TOOL);
        command.args(["connect", "--listen", &listen, "--to", "127.0.0.1:9"]).args(keys.client_args());
        command
    };
    refused(again(), &["Another process listens there"]);
    // It is killed: its socket stays, and is replaced.
    drop(first);
    assert!(path.exists());
    drop(keys.connect_with(&listen, at, &[]));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    refused(again(), &["It is not a socket"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}
