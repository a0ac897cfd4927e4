//! The numbers of a process, as Prometheus reads them.

use super::middle::{Cut, Direction, How, Middle};
use super::target::{Target, bytes, exchange};
use super::tool::{Keys, PATIENCE, TOOL, run};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;

/// Asks for a page; gives the head and the body of the answer.
fn asked(mut stream: impl Read + Write, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn tcp(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn they_count_how_connections_end() {
    let target = Target::start(bytes(1, 3000));
    let keys = Keys::new();
    let serve = keys.serve(&target.at.to_string());
    let middle = Middle::before(serve.address());
    let mut connect = keys.connect_with("127.0.0.1:0", middle.at, &["--metrics", "127.0.0.1:0"]);
    let at = connect.next_line().strip_prefix("metrics on ").unwrap().trim_end().parse().unwrap();
    let metrics = || asked(tcp(at), "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");

    let (head, body) = metrics();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("openmetrics-text"), "{head}");
    assert!(body.contains("curve_tun_connections_ended_total{how=\"cut\"} 0"), "{body}");
    let transfer = || exchange(&TcpStream::connect(connect.address()).unwrap(), &bytes(2, 2000));
    assert!(transfer().is_whole(&bytes(1, 3000)));
    middle.set(Some(Cut { direction: Direction::Down, after: 1500, how: How::Fin }));
    assert!(transfer().ended.is_err());
    connect.await_log("ended: ", 2);
    let (_, body) = metrics();
    for line in [
        "curve_tun_connections_accepted_total 2",
        "curve_tun_connections_opened_total 2",
        "curve_tun_connections_open 0",
        "curve_tun_connections_ended_total{how=\"done\"} 1",
        "curve_tun_connections_ended_total{how=\"cut\"} 1",
        "curve_tun_forwarded_bytes_total{direction=\"up\"} 4000",
    ] {
        assert!(body.lines().any(|found| found == line), "{line} is not in\n{body}");
    }
    assert!(body.ends_with("# EOF\n") && !body.contains(&keys.server_key), "{body}");

    assert!(asked(tcp(at), "GET / HTTP/1.1\r\n\r\n").0.starts_with("HTTP/1.1 404 "));
    assert!(asked(tcp(at), "POST /metrics HTTP/1.1\r\n\r\n").0.starts_with("HTTP/1.1 405 "));
    // Who says too much is let go.
    let mut noisy = tcp(at);
    let _ = noisy.write_all(&[b'x'; 20_000]);
    assert_eq!(noisy.read(&mut [0; 16]).unwrap_or(0), 0);
    metrics();
}

#[test]
fn they_are_shown_to_this_machine_alone() {
    let keys = Keys::new();
    let path = keys.path("metrics.sock");
    let at = SocketAddr::from(([127, 0, 0, 1], 9));
    let shown = format!("unix:{}", path.display());
    let _connect = keys.connect_with("127.0.0.1:0", at, &["--metrics", &shown]);
    let (head, _) = asked(UnixStream::connect(&path).unwrap(), "GET /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");

    let mut command = Command::new(TOOL);
    command.args(["connect", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9", "--metrics", "0.0.0.0:0"]);
    let (code, said) = run({
        command.args(keys.client_args());
        command
    });
    assert!(code == Some(1) && said.contains("metrics are not served at 0.0.0.0:0"), "{said}");
}
