//! The PROXY protocol: what a service hears of who is behind a connection.

use super::target::{Target, bytes, exchange, read_all};
use super::tool::{Keys, PATIENCE};
use curve_tun::PublicKey;
use std::io::Write;
use std::net::TcpStream;

#[test]
fn the_header_comes_first_and_once() {
    let keys = Keys::new();
    let key: PublicKey = keys.client_key.parse().unwrap();
    for version in ["v1", "v2"] {
        let target = Target::of(|stream| {
            let got = read_all(&stream);
            (&mut &stream).write_all(b"heard").unwrap();
            got
        });
        let serve = keys.serve_with(&target.at.to_string(), &["--proxy", version]);
        let connect = keys.connect(serve.address());
        let stream = TcpStream::connect(connect.address()).unwrap();
        assert!(exchange(&stream, &bytes(1, 100_000)).is_whole(b"heard"));
        let heard = target.next().bytes;
        // Who came is the client's end of the tunnel, which is logged.
        let log = serve.await_log("opened", 1);
        let from = log.split("from=").nth(1).unwrap().split_whitespace().next().unwrap();
        let (ip, port) = from.split_once(':').unwrap();
        let (client, server): (u16, u16) = (port.parse().unwrap(), serve.address().port());
        let header = if version == "v1" {
            format!("PROXY TCP4 {ip} 127.0.0.1 {client} {server}\r\n").into_bytes()
        } else {
            let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x2f\x7f\0\0\x01\x7f\0\0\x01";
            let ports = [client.to_be_bytes(), server.to_be_bytes()].concat();
            [&head[..], &ports, &[0xe0, 0, 32], &key.0].concat()
        };
        assert_eq!(heard[..header.len()], header, "{version}");
        assert!(heard[header.len()..] == bytes(1, 100_000));
    }
}

#[test]
fn a_service_that_speaks_first_has_the_header_before_its_client_says_anything() {
    let target = Target::of(|stream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut line = [0; 6];
        std::io::Read::read_exact(&mut &stream, &mut line).unwrap();
        (&mut &stream).write_all(&line).unwrap();
        read_all(&stream)
    });
    let keys = Keys::new();
    let serve = keys.serve_with(&target.at.to_string(), &["--proxy", "v1"]);
    let connect = keys.connect(serve.address());
    let mut stream = TcpStream::connect(connect.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut greeting = [0; 6];
    std::io::Read::read_exact(&mut stream, &mut greeting).unwrap();
    assert_eq!(&greeting, b"PROXY ");
}
