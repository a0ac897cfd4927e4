//! Streams over real sockets: ends, cuts, aborts, large messages, peers that do not read.

use curve_tun::net::{Connector, Listener, PendingStream, Socket, Stream};
use curve_tun::registry::MemoryRegistry;
use curve_tun::stream::{AbortCode, Event, Machine, Mode, Options};
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, PublicKey};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Longer than anything takes.
const SOON: Option<Duration> = Some(Duration::from_secs(60));
const SHORT: Option<Duration> = Some(Duration::from_millis(50));

struct House {
    listener: Listener,
    client: Arc<MemoryVault>,
    key: PublicKey,
}

impl House {
    fn new() -> House {
        let vault = Arc::new(MemoryVault::generate().unwrap());
        let client = Arc::new(MemoryVault::generate().unwrap());
        let registry = Arc::new(MemoryRegistry::new());
        registry.add_anywhere(client.public_key());
        let key = vault.public_key();
        let listener = Listener::builder(vault, registry).bind("127.0.0.1", 0).unwrap();
        House { listener, client, key }
    }

    fn connect(&self, port: u16) -> Socket {
        let connector = Connector::new(self.client.clone()).server_key(self.key);
        connector.timeout(Duration::from_secs(60)).connect("127.0.0.1", port).unwrap()
    }

    /// Two ends of a tunnel by way of `port`.
    fn sockets_by(&self, port: u16) -> (Socket, Socket) {
        thread::scope(|scope| {
            let client = scope.spawn(|| self.connect(port));
            let server = self.listener.accept(SOON).unwrap();
            (client.join().unwrap(), server)
        })
    }

    fn sockets(&self) -> (Socket, Socket) {
        self.sockets_by(self.listener.port())
    }
}

fn options(mode: Mode) -> Options {
    if mode == Mode::Stream { Options::stream() } else { Options::messages() }
}

/// The client's end, whose OPEN is on its way, and the server's before it has taken the stream.
fn pending(sockets: (Socket, Socket), mode: Mode) -> (Stream, PendingStream) {
    let client = Stream::client(sockets.0, &options(mode));
    (&client).flush().unwrap();
    let server = Stream::server(sockets.1, &options(mode), SOON).unwrap();
    (client, server)
}

fn streams_over(sockets: (Socket, Socket), mode: Mode) -> (Stream, Stream) {
    let (client, server) = pending(sockets, mode);
    let server = server.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(SOON);
        stream.set_write_timeout(SOON);
    }
    (client, server)
}

fn streams(mode: Mode) -> (Stream, Stream) {
    streams_over(House::new().sockets(), mode)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// The error inside.
fn ours(error: &io::Error) -> Option<Error> {
    error.get_ref()?.downcast_ref().copied()
}

#[test]
fn what_is_written_is_read_and_then_the_end_each_time() {
    let (mut client, mut server) = streams(Mode::Stream);
    client.write_all(b"request").unwrap();
    client.finish_write().unwrap();
    let mut request = Vec::new();
    server.read_to_end(&mut request).unwrap();
    assert_eq!(request, b"request");
    assert_eq!(server.read(&mut [0; 9]).unwrap(), 0);
    assert_eq!(server.read(&mut []).unwrap(), 0);
    assert_eq!(client.write(b"more").unwrap_err().kind(), io::Error::from(Error::WrongState).kind());
    let answer = bytes(8 << 20);
    thread::scope(|scope| {
        scope.spawn(|| {
            (&server).write_all(&answer).unwrap();
            server.finish_write().unwrap();
        });
        let mut got = Vec::new();
        // In pieces that fit nothing.
        let mut piece = [0; 10_007];
        loop {
            match client.read(&mut piece).unwrap() {
                0 => break,
                count => got.extend_from_slice(&piece[..count]),
            }
        }
        assert!(got == answer);
        assert_eq!(client.read(&mut piece).unwrap(), 0);
    });
    let ended = thread::spawn(move || server.finish());
    client.finish().unwrap();
    ended.join().unwrap().unwrap();
}

#[test]
fn the_halves_of_a_stream_copy_both_ways_at_once() {
    let (client, server) = streams(Mode::Stream);
    let sent = bytes(3 << 20);
    let (mut reader, mut writer) = server.split();
    let echo = thread::spawn(move || {
        let count = io::copy(&mut reader, &mut writer).unwrap();
        writer.finish().unwrap();
        count
    });
    let (mut reader, mut writer) = client.split();
    let (sent, count) = (Arc::new(sent.clone()), sent.len());
    let writing = {
        let sent = sent.clone();
        thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.finish().unwrap();
        })
    };
    let mut got = Vec::new();
    reader.read_to_end(&mut got).unwrap();
    assert!(got == *sent);
    assert_eq!(echo.join().unwrap(), count as u64);
    writing.join().unwrap();
}

#[test]
fn ends_that_finish_at_once_lose_nothing() {
    let house = House::new();
    for len in [0, 1, 65_502, 65_503, 300_000] {
        let (client, server) = streams_over(house.sockets(), Mode::Stream);
        let run = |stream: Stream| {
            move || {
                (&stream).write_all(&bytes(len)).unwrap();
                stream.finish_write().unwrap();
                let mut got = Vec::new();
                (&stream).read_to_end(&mut got).unwrap();
                stream.finish().unwrap();
                got
            }
        };
        let other = thread::spawn(run(server));
        assert!(run(client)() == bytes(len));
        assert!(other.join().unwrap() == bytes(len));
    }
}

/// Between the two ends: passes on so many bytes of one direction, and then ends the transport.
struct Cut {
    after: usize,
    by_reset: bool,
    of_client: bool,
}

/// Copies until the end, or until `cut` bytes are over; says whether it was cut.
fn copy_until(from: &TcpStream, to: &TcpStream, mut left: usize, cut: &AtomicBool) {
    let mut buffer = [0; 4096];
    loop {
        let most = buffer.len().min(left);
        if most == 0 {
            cut.store(true, Ordering::SeqCst);
            return;
        }
        let Ok(count) = (&*from).read(&mut buffer[..most]) else { return };
        if count == 0 || (&*to).write_all(&buffer[..count]).is_err() {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        left -= count;
    }
}

fn meddle(listener: &TcpListener, server: u16, cut: &Cut) {
    let (client, _) = listener.accept().unwrap();
    let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
    let done = AtomicBool::new(false);
    let (of_client, of_server) =
        if cut.of_client { (cut.after, usize::MAX) } else { (usize::MAX, cut.after) };
    let end = || {
        if !done.load(Ordering::SeqCst) {
            return;
        }
        for socket in [&client, &server] {
            if cut.by_reset {
                socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
            } else {
                let _ = socket.shutdown(Shutdown::Write);
            }
            // The other direction ends, too.
            let _ = socket.shutdown(Shutdown::Read);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            copy_until(&client, &server, of_client, &done);
            end();
        });
        scope.spawn(|| {
            copy_until(&server, &client, of_server, &done);
            end();
        });
    });
}

#[test]
fn a_cut_anywhere_is_no_end() {
    let house = House::new();
    let sent = bytes(20_000);
    // Handshake, OPEN and the rest take less than a thousand bytes.
    let whole = sent.len() + 1_000;
    for by_reset in [false, true] {
        for of_client in [false, true] {
            for after in (600..whole + 1_000).step_by(1_000) {
                let middle = TcpListener::bind("127.0.0.1:0").unwrap();
                let port = middle.local_addr().unwrap().port();
                let cut = Cut { after, by_reset, of_client };
                // Either end sends all, finishes, and reads what comes.
                let talk = |stream: &Stream| -> (Vec<u8>, io::Result<()>) {
                    let mut stream = stream;
                    let _ = stream.write_all(&sent).and_then(|()| Ok(stream.finish_write()?));
                    let mut got = Vec::new();
                    let ended = stream.read_to_end(&mut got).map(drop);
                    (got, ended)
                };
                thread::scope(|scope| {
                    scope.spawn(|| meddle(&middle, house.listener.port(), &cut));
                    let (client, server) = house.sockets_by(port);
                    let client = Stream::client(client, &Options::stream());
                    client.set_read_timeout(SOON);
                    client.set_write_timeout(SOON);
                    let serving = scope.spawn(|| {
                        let server = Stream::server(server, &Options::stream(), SOON)?.accept()?;
                        server.set_read_timeout(SOON);
                        server.set_write_timeout(SOON);
                        Ok::<_, Error>(talk(&server))
                    });
                    let what = format!("reset {by_reset}, of client {of_client}, after {after}");
                    let (got, ended) = talk(&client);
                    drop(client);
                    let mut heard = vec![(got, ended)];
                    match serving.join().unwrap() {
                        Ok(served) => heard.push(served),
                        Err(error) => assert_eq!(error, Error::Truncated, "{what}"),
                    }
                    for (got, ended) in heard {
                        assert!(sent.starts_with(&got), "{what}");
                        match ended {
                            Ok(()) => assert!(got == sent, "an end before it: {what}"),
                            Err(error) => {
                                let known = [Some(Error::Truncated), Some(Error::Aborted)];
                                assert!(known.contains(&ours(&error)), "{error:?}: {what}");
                            }
                        }
                    }
                });
            }
        }
    }
}

#[test]
fn a_stream_that_is_dropped_is_aborted() {
    let (mut client, mut server) = streams(Mode::Stream);
    client.write_all(b"half of it").unwrap();
    drop(client);
    let mut got = Vec::new();
    let error = server.read_to_end(&mut got).unwrap_err();
    assert_eq!((error.kind(), ours(&error)), (ErrorKind::ConnectionAborted, Some(Error::Aborted)));
    assert_eq!(got, b"half of it");
    assert_eq!(server.abort_received().unwrap().code, AbortCode::GivenUp);
    assert_eq!(ours(&server.write(b"x").unwrap_err()), Some(Error::Aborted));

    // A writing half that has not finished, too.
    let (client, mut server) = streams(Mode::Stream);
    let (reader, writer) = client.split();
    drop(writer);
    assert_eq!(server.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    drop(reader);

    // One that has finished leaves the rest to be read.
    let (client, mut server) = streams(Mode::Stream);
    let (mut reader, writer) = client.split();
    writer.finish().unwrap();
    assert_eq!(server.read(&mut [0; 9]).unwrap(), 0);
    server.write_all(b"answer").unwrap();
    server.finish_write().unwrap();
    let mut got = String::new();
    reader.read_to_string(&mut got).unwrap();
    assert_eq!(got, "answer");
}

#[test]
fn an_abort_wakes_whoever_reads_and_tells_the_peer_why() {
    let (client, mut server) = streams(Mode::Stream);
    thread::scope(|scope| {
        let reading = scope.spawn(|| (&client).read(&mut [0; 9]).unwrap_err());
        client.abort(AbortCode::Internal);
        assert_eq!(reading.join().unwrap().kind(), io::Error::from(Error::Closed).kind());
    });
    assert_eq!(server.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(server.abort_received().unwrap().code, AbortCode::Internal);
    client.abort(AbortCode::GivenUp);
}

#[test]
fn a_server_says_why_it_refuses_a_stream() {
    let house = House::new();
    let service = "web".parse().unwrap();
    let asked = Options::stream().service(Some(service)).client_address("192.0.2.7:9".parse().ok());
    let (client, server) = house.sockets();
    let mut client = Stream::client(client, &asked);
    client.set_read_timeout(SOON);
    client.write_all(b"with the OPEN").unwrap();
    let server = Stream::server(server, &Options::stream(), SOON).unwrap();
    let peer = server.peer().unwrap();
    assert_eq!((peer.service, peer.client_address), (asked.service, asked.client_address));
    server.refuse(AbortCode::NoService, "ask the operator");
    assert_eq!(client.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    let abort = client.abort_received().unwrap();
    assert_eq!((abort.code, abort.text.as_str()), (AbortCode::NoService, "ask the operator"));
    // One that nobody takes is refused, too.
    let (client, server) = pending(house.sockets(), Mode::Stream);
    drop(server);
    assert_eq!((&client).read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn a_program_that_speaks_no_streams_is_told_nothing() {
    let house = House::new();
    let (client, server) = house.sockets();
    client.send(b"hello", SOON).unwrap();
    assert_eq!(Stream::server(server, &Options::stream(), SOON).unwrap_err(), Error::NotAStream);
    assert_eq!(client.recv(&mut [0; 100], SOON), Err(Error::Closed));

    let (client, server) = house.sockets();
    server.send(b"hello", SOON).unwrap();
    let client = Stream::client(client, &Options::messages());
    client.set_read_timeout(SOON);
    assert_eq!(client.recv_message(&mut Vec::new()), Err(Error::NotAStream));
    drop(client);
    // The OPEN, which it takes for a message, and nothing after it.
    assert_eq!(server.recv(&mut [0; 100], SOON), Ok(14));
    assert_eq!(server.recv(&mut [0; 100], SOON), Err(Error::Closed));
}

#[test]
fn messages_of_any_size_arrive_whole() {
    let (client, server) = streams(Mode::Messages);
    let sizes = [0, 1, 65_502, 65_503, 65_504, 131_000, 1 << 20, 16 << 20];
    thread::scope(|scope| {
        scope.spawn(|| {
            for size in sizes {
                client.send_message(&bytes(size)).unwrap();
            }
            assert_eq!(client.send_message(&vec![0; (16 << 20) + 1]), Err(Error::TooLarge));
            client.send_message(b"the last").unwrap();
            client.finish_write().unwrap();
        });
        let mut message = vec![9; 100];
        for size in sizes {
            assert!(server.recv_message(&mut message).unwrap());
            assert!(message == bytes(size), "{size}");
        }
        assert!(server.recv_message(&mut message).unwrap());
        assert_eq!(message, b"the last");
        assert!(!server.recv_message(&mut message).unwrap());
        assert!(!server.recv_message(&mut message).unwrap());
    });
    assert_eq!((&client).write(b"x").unwrap_err().kind(), io::Error::from(Error::WrongState).kind());
    assert_eq!((&client).read(&mut [0; 9]).unwrap_err().kind(), io::Error::from(Error::WrongState).kind());
    let (client, _server) = streams(Mode::Stream);
    assert_eq!(client.send_message(b"x"), Err(Error::WrongState));
    assert_eq!(client.recv_message(&mut Vec::new()), Err(Error::WrongState));
}

#[test]
fn a_large_message_waits_for_the_peers_word_whoever_reads() {
    let house = House::new();
    for reads in [false, true] {
        let (client, server) = pending(house.sockets(), Mode::Messages);
        client.set_write_timeout(SHORT);
        assert_eq!(client.send_message(&bytes(70_000)), Err(Error::Timeout), "before the server's OPEN");
        client.send_message(b"a small one").unwrap();
        client.set_write_timeout(SOON);
        client.set_read_timeout(SOON);
        thread::scope(|scope| {
            if reads {
                scope.spawn(|| {
                    let mut message = Vec::new();
                    assert!(client.recv_message(&mut message).unwrap());
                    assert_eq!(message, b"an answer");
                });
            }
            scope.spawn(|| client.send_message(&bytes(70_000)).unwrap());
            let server = server.accept().unwrap();
            let mut message = Vec::new();
            assert!(server.recv_message(&mut message).unwrap());
            assert_eq!(message, b"a small one");
            assert!(server.recv_message(&mut message).unwrap());
            assert!(message == bytes(70_000));
            server.send_message(b"an answer").unwrap();
            if !reads {
                assert!(client.recv_message(&mut message).unwrap());
            }
        });
    }
}

#[test]
fn a_call_that_times_out_loses_nothing() {
    let (mut client, mut server) = streams(Mode::Stream);
    client.set_read_timeout(SHORT);
    assert_eq!(client.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::TimedOut);
    // Until the transport takes no more.
    client.set_write_timeout(SHORT);
    let (sent, mut count) = (bytes(64 << 20), 0);
    let full = loop {
        match client.write(&sent[count..]) {
            Ok(taken) => count += taken,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::TimedOut);
    assert!(count < sent.len());
    client.set_write_timeout(SOON);
    thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&sent[count..]).unwrap();
            client.finish_write().unwrap();
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).unwrap();
        assert!(got == sent);
    });
}

#[test]
fn a_ping_is_answered_by_who_reads_and_by_who_writes() {
    let house = House::new();
    let (socket, server) = house.sockets();
    let mut machine = Machine::client(&Options::stream());
    let send = |machine: &mut Machine| {
        while let Some(message) = machine.next_message() {
            socket.send(&message, SOON).unwrap();
        }
    };
    send(&mut machine);
    let server = Stream::server(server, &Options::stream(), SOON).unwrap().accept().unwrap();
    server.set_write_timeout(SOON);
    thread::scope(|scope| {
        // Blocked, as long as nobody reads at the other end.
        let sent = bytes(32 << 20);
        let (writer, reader) = (&server, &server);
        scope.spawn(move || {
            (&*writer).write_all(&sent).unwrap();
            writer.finish_write().unwrap();
        });
        scope.spawn(move || assert_eq!((&*reader).read(&mut [0; 9]).unwrap(), 0));
        machine.ping(*b"12345678").unwrap();
        send(&mut machine);
        let (mut count, mut answered) = (0, false);
        while machine.received_end() != Ok(true) {
            let event = |machine: &mut Machine, message: &[u8]| match machine.receive(message) {
                Ok(Event::Bytes(bytes)) => (bytes.len(), false),
                Ok(event) => (0, event == Event::Pong),
                Err(error) => panic!("{error:?}"),
            };
            let (len, pong) = socket.recv_with(SOON, |message| Ok(event(&mut machine, message))).unwrap();
            count += len;
            answered |= pong;
        }
        assert!(answered && count == 32 << 20);
        machine.finish().unwrap();
        send(&mut machine);
    });
    server.finish().unwrap();
}
