//! Sockets: real TCP on loopback.

use curve_tun::connection::{Connection, Options};
use curve_tun::net::{Connector, Listener, Socket, TimedServer, Timeout};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, PublicKey};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Long enough for everything expected; a test that takes this long has failed.
const SOON: Timeout = Some(Duration::from_secs(20));
const SHORT: Timeout = Some(Duration::from_millis(50));
const NOW: Timeout = Some(Duration::ZERO);

/// A listener, and a client's vault that its registry knows.
struct House {
    listener: Arc<Listener>,
    client: Arc<MemoryVault>,
    key: PublicKey,
    options: Options,
}

impl House {
    fn with(host: &str, options: Options) -> House {
        let (vault, client) =
            (Arc::new(MemoryVault::generate().unwrap()), Arc::new(MemoryVault::generate().unwrap()));
        let registry = Arc::new(MemoryRegistry::new());
        registry.add_anywhere(client.public_key());
        let key = vault.public_key();
        let server = TimedServer::new(vault, registry, options.clone()).unwrap();
        let listener = Arc::new(Listener::bind(host, 0, server).unwrap());
        House { listener, client, key, options }
    }

    fn new() -> House {
        House::with("127.0.0.1", Options::default())
    }

    fn connect(&self) -> Result<Socket, Error> {
        self.connect_by("127.0.0.1")
    }

    fn connect_by(&self, host: &str) -> Result<Socket, Error> {
        Connector::new(self.client.clone())
            .server_key(self.key)
            .options(self.options.clone())
            .timeout(SOON)
            .connect(host, self.listener.port())
    }

    fn dial_raw(&self) -> TcpStream {
        TcpStream::connect(self.listener.local_addr()).unwrap()
    }

    /// Makes both ends of a tunnel.
    fn tunnel(&self) -> (Socket, Socket) {
        thread::scope(|scope| {
            let client = scope.spawn(|| self.connect().unwrap());
            let server = self.listener.accept(SOON).unwrap();
            (client.join().unwrap(), server)
        })
    }
}

/// Whether the other end closes the connection without sending anything. Silence for a while is not
/// a close.
fn is_closed(mut stream: &TcpStream, within: Timeout) -> bool {
    stream.set_read_timeout(within).unwrap();
    match stream.read(&mut [0; 1]) {
        Ok(count) => count == 0,
        Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn recv(socket: &Socket) -> Result<Vec<u8>, Error> {
    socket.recv_with(SOON, |message| Ok(message.to_vec()))
}

#[test]
fn messages_go_both_ways_and_both_ends_know_each_other() {
    let house = House::new();
    let (client, server) = house.tunnel();
    assert_eq!(client.peer_key(), Ok(house.key));
    assert_eq!(server.peer_key(), Ok(house.client.public_key()));
    assert_eq!(server.peer_addr(), client.local_addr());
    client.send(b"", SOON).unwrap();
    client.send(&[7; 65503], SOON).unwrap();
    assert_eq!(recv(&server).unwrap(), b"");
    assert_eq!(recv(&server).unwrap(), [7; 65503]);
    server.send_many([&b"one"[..], b"two"], SOON).unwrap();
    assert_eq!(recv(&client).unwrap(), b"one");
    assert_eq!(recv(&client).unwrap(), b"two");
}

/// Returns an option of a socket, as the system reports it.
fn option(socket: &Socket, level: libc::c_int, name: libc::c_int) -> libc::c_int {
    let (mut value, mut size) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: `value` has room for the `size` bytes that may be written.
    let done =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut size) };
    assert_eq!(done, 0);
    value
}

#[test]
fn both_ends_have_the_transport_that_the_options_ask_for() {
    for asked in [false, true] {
        let options = Options::default().no_delay(asked).keep_alive(asked);
        let (client, server) = House::with("127.0.0.1", options).tunnel();
        for end in [client, server] {
            assert_eq!(option(&end, libc::IPPROTO_TCP, libc::TCP_NODELAY) != 0, asked);
            assert_eq!(option(&end, libc::SOL_SOCKET, libc::SO_KEEPALIVE) != 0, asked);
            if asked && cfg!(target_os = "linux") {
                assert_eq!(option(&end, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), 60);
                assert_eq!(option(&end, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL), 15);
            }
        }
    }
}

#[test]
fn a_dual_stack_listener_takes_ipv4_ipv6_and_a_name_of_several_addresses() {
    let house = House::with("::", Options::default());
    for host in ["127.0.0.1", "::1", "localhost"] {
        thread::scope(|scope| {
            let client = scope.spawn(|| house.connect_by(host).unwrap());
            let server = house.listener.accept(SOON).unwrap();
            let client = client.join().unwrap();
            assert_eq!(server.peer_addr(), client.local_addr(), "{host}");
        });
    }
}

#[test]
fn silent_clients_keep_nobody_waiting_and_the_oldest_gives_way_at_the_limit() {
    let options = Options::default().handshakes_max(8);
    let house = House::with("127.0.0.1", options);
    let silent: Vec<TcpStream> = (0..20).map(|_| house.dial_raw()).collect();
    for _ in 0..4 {
        let (client, server) = house.tunnel();
        client.send(b"hi", SOON).unwrap();
        assert_eq!(recv(&server).unwrap(), b"hi");
    }
    assert!(is_closed(&silent[0], SOON), "the oldest handshake was not closed");
}

#[test]
fn a_hello_that_comes_a_byte_a_segment_is_a_hello() {
    let house = House::new();
    let between = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = between.local_addr().unwrap().port();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut near, _) = between.accept().unwrap();
            let mut far = house.dial_raw();
            far.set_nodelay(true).unwrap();
            // The hello and its length field, in 130 segments.
            for _ in 0..130 {
                let mut byte = [0];
                near.read_exact(&mut byte).unwrap();
                far.write_all(&byte).unwrap();
                thread::sleep(Duration::from_millis(5));
            }
            let (mut back, mut from) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            scope.spawn(move || std::io::copy(&mut from, &mut back));
            let _ = std::io::copy(&mut near, &mut far);
        });
        let client = scope.spawn(|| {
            Connector::new(house.client.clone())
                .server_key(house.key)
                .options(house.options.clone())
                .timeout(SOON)
                .connect("127.0.0.1", port)
                .unwrap()
        });
        let server = house.listener.accept(SOON).unwrap();
        let client = client.join().unwrap();
        client.send(b"hi", SOON).unwrap();
        assert_eq!(recv(&server).unwrap(), b"hi");
        client.shutdown();
        server.shutdown();
    });
}

#[test]
fn a_handshake_has_one_deadline_however_slowly_bytes_come() {
    let options = Options::default().handshake_timeout(Duration::from_millis(300));
    let house = House::with("127.0.0.1", options);
    let hello = Connection::client(house.client.clone(), house.key, &house.options).unwrap();
    let hello = hello.send_buffer();
    thread::scope(|scope| {
        scope.spawn(|| while !matches!(house.listener.accept(SOON), Err(Error::Closed)) {});
        let mut slow = house.dial_raw();
        // A byte every 50 ms would extend any deadline counted from the last byte. None of these
        // bytes can be refused, and without the last one nothing is decided.
        let cut = hello[..hello.len() - 1]
            .iter()
            .any(|byte| slow.write_all(&[*byte]).is_err() || is_closed(&slow, SHORT));
        house.listener.shutdown();
        assert!(cut, "the slow client was not closed");
    });
}

#[test]
fn transport_accept_leaves_the_handshake_to_the_caller() {
    let house = House::new();
    thread::scope(|scope| {
        let client = scope.spawn(|| house.connect().unwrap());
        let server = house.listener.transport_accept(SOON).unwrap();
        assert_eq!(server.send(b"early", SOON), Err(Error::WrongState));
        assert_eq!(server.recv(&mut [0; 8], SOON), Err(Error::WrongState));
        assert_eq!(server.peer_key(), Err(Error::WrongState));
        server.handshake(SOON).unwrap();
        assert_eq!(server.handshake(SOON), Err(Error::WrongState));
        client.join().unwrap().send(b"hi", SOON).unwrap();
        assert_eq!(recv(&server).unwrap(), b"hi");
    });
}

#[test]
fn a_wrong_server_key_an_unknown_client_and_a_silent_server_are_told_apart() {
    let house = House::new();
    let stranger = Arc::new(MemoryVault::generate().unwrap());
    let port = house.listener.port();
    thread::scope(|scope| {
        scope.spawn(|| while !matches!(house.listener.accept(SOON), Err(Error::Closed)) {});
        let wrong = Connector::new(stranger.clone())
            .server_key(stranger.public_key())
            .options(house.options.clone())
            .timeout(SOON)
            .connect("127.0.0.1", port);
        assert_eq!(wrong.err(), Some(Error::WrongServerKey));
        let unknown = Connector::new(stranger)
            .server_key(house.key)
            .options(house.options.clone())
            .timeout(SOON)
            .connect("127.0.0.1", port)
            .unwrap();
        assert_eq!(recv(&unknown), Err(Error::Closed));
        house.listener.shutdown();
    });
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let late = Connector::new(house.client.clone())
        .server_key(house.key)
        .options(house.options.clone())
        .timeout(SHORT)
        .connect("127.0.0.1", port);
    assert_eq!(late.err(), Some(Error::Timeout));
    drop(silent);
    let refused = Connector::new(house.client.clone())
        .server_key(house.key)
        .options(house.options.clone())
        .timeout(SOON)
        .connect("127.0.0.1", port);
    assert_eq!(refused.err(), Some(Error::ConnectionRefused));
}

#[test]
fn a_peer_that_resets_during_the_handshake_is_closed_not_a_wrong_key() {
    let house = House::new();
    let rude = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = rude.local_addr().unwrap().port();
    thread::scope(|scope| {
        scope.spawn(move || {
            let (stream, _) = rude.accept().unwrap();
            // Closes with the hello unread: the system sends a reset.
            stream.peek(&mut [0; 1]).unwrap();
        });
        let client = Connector::new(house.client.clone())
            .server_key(house.key)
            .options(house.options.clone())
            .timeout(SOON)
            .connect("127.0.0.1", port);
        assert_eq!(client.err(), Some(Error::Closed));
    });
}

#[test]
fn names_that_do_not_exist_are_said_so() {
    let house = House::new();
    let client = Connector::new(house.client.clone())
        .server_key(house.key)
        .options(house.options.clone())
        .timeout(SOON)
        .connect("no-such-host.invalid", 1);
    assert_eq!(client.err(), Some(Error::NameNotFound));
}

#[test]
fn a_receive_that_times_out_loses_nothing() {
    let (client, server) = House::new().tunnel();
    assert_eq!(server.recv(&mut [0; 8], NOW), Err(Error::Timeout));
    assert_eq!(server.recv(&mut [0; 8], SHORT), Err(Error::Timeout));
    client.send(b"one", SOON).unwrap();
    client.send(b"two", SOON).unwrap();
    assert_eq!(server.recv(&mut [0; 2], SOON), Err(Error::TooSmall));
    assert_eq!(recv(&server).unwrap(), b"one");
    assert_eq!(recv(&server).unwrap(), b"two");
}

#[test]
fn a_message_that_is_too_large_changes_nothing() {
    let (client, server) = House::new().tunnel();
    assert_eq!(client.send(&[0; 65504], SOON), Err(Error::TooLarge));
    assert_eq!(client.send_many([&b"no"[..], &[0; 65504]], SOON), Err(Error::TooLarge));
    client.send(b"yes", SOON).unwrap();
    assert_eq!(recv(&server).unwrap(), b"yes");
}

#[test]
fn queued_messages_wait_for_a_flush_a_send_or_the_close() {
    let (client, server) = House::new().tunnel();
    client.queue(b"1", SOON).unwrap();
    assert_eq!(client.queue(&[0; 65504], SOON), Err(Error::TooLarge));
    assert_eq!(server.recv(&mut [0; 2], Some(Duration::ZERO)), Err(Error::Timeout));
    client.flush(SOON).unwrap();
    assert_eq!(recv(&server).unwrap(), b"1");
    client.queue(b"2", SOON).unwrap();
    client.send(b"3", SOON).unwrap();
    client.queue(b"4", SOON).unwrap();
    client.close();
    for message in [b"2", b"3", b"4"] {
        assert_eq!(recv(&server).unwrap(), message);
    }
    assert_eq!(recv(&server), Err(Error::Closed));
    assert_eq!(server.queue(b"x", SOON), Err(Error::Closed));
    assert_eq!(server.flush(SOON), Err(Error::Closed));
}

#[test]
fn sockets_have_no_high_water_mark_of_sending() {
    let house = House::with("127.0.0.1", Options::default().send_high_water(1));
    let (client, server) = house.tunnel();
    server.send_many([&b"1"[..], b"2", b"3"], SOON).unwrap();
    for message in [b"1", b"2", b"3"] {
        assert_eq!(recv(&client).unwrap(), message);
    }
}

#[test]
fn waiting_messages_come_before_the_close_and_closed_stays_closed() {
    let (client, server) = House::new().tunnel();
    client.send_many([&b"1"[..], b"2", b"3", b"4", b"5"], SOON).unwrap();
    client.close();
    for message in [b"1", b"2", b"3", b"4", b"5"] {
        assert_eq!(recv(&server).unwrap(), message);
    }
    for _ in 0..3 {
        assert_eq!(recv(&server), Err(Error::Closed));
        assert_eq!(server.send(b"x", SOON), Err(Error::Closed));
        assert_eq!(server.handshake(SOON), Err(Error::Closed));
    }
}

#[test]
fn what_was_sent_arrives_although_the_sender_closes_with_bytes_unread() {
    let (client, server) = House::new().tunnel();
    server.send(&[1; 50_000], SOON).unwrap();
    client.send_many((0..4).map(|_| &[2; 50_000][..]), SOON).unwrap();
    client.close();
    for _ in 0..4 {
        assert_eq!(recv(&server).unwrap(), [2; 50_000]);
    }
    assert_eq!(recv(&server), Err(Error::Closed));
}

#[test]
fn a_peer_that_does_not_read_stops_the_sender_and_bounds_our_memory() {
    let (client, server) = House::new().tunnel();
    let mut result = Ok(());
    for _ in 0..100_000 {
        result = client.send(&[0; 60_000], SHORT);
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, Err(Error::Timeout));
    assert_eq!(client.send(b"x", SOON), Err(Error::Closed), "half a packet cannot be taken back");
    drop(server);
}

#[test]
fn fifty_megabytes_each_way_before_either_reads() {
    let (client, server) = House::new().tunnel();
    let message = [9; 50_000];
    thread::scope(|scope| {
        for (from, to) in [(&client, &server), (&server, &client)] {
            scope.spawn(|| (0..1000).for_each(|_| from.send(&message, SOON).unwrap()));
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(200));
                (0..1000).for_each(|_| assert_eq!(to.recv_with(SOON, |m| Ok(m == message)), Ok(true)));
            });
        }
    });
}

#[test]
fn shutdown_from_a_third_thread_wakes_both_directions() {
    let (client, _server) = House::new().tunnel();
    thread::scope(|scope| {
        let receiver = scope.spawn(|| client.recv(&mut [0; 8], None));
        let sender = scope.spawn(|| {
            loop {
                if let Err(error) = client.send(&[0; 60_000], None) {
                    return error;
                }
            }
        });
        thread::sleep(Duration::from_millis(100));
        client.shutdown();
        assert_eq!(receiver.join().unwrap(), Err(Error::Closed));
        assert_eq!(sender.join().unwrap(), Error::Closed);
    });
}

#[test]
fn a_second_receiver_keeps_its_own_deadline() {
    let (client, _server) = House::new().tunnel();
    thread::scope(|scope| {
        let first = scope.spawn(|| client.recv(&mut [0; 8], None));
        thread::sleep(Duration::from_millis(50));
        assert_eq!(client.recv(&mut [0; 8], SHORT), Err(Error::Timeout));
        client.shutdown();
        assert_eq!(first.join().unwrap(), Err(Error::Closed));
    });
}

#[test]
fn an_accept_that_times_out_takes_no_client_with_it() {
    let house = House::new();
    assert!(matches!(house.listener.accept(NOW), Err(Error::Timeout)));
    thread::scope(|scope| {
        scope.spawn(|| assert!(matches!(house.listener.accept(SHORT), Err(Error::Timeout))));
        thread::sleep(Duration::from_millis(100));
        let (client, server) = house.tunnel();
        client.send(b"hi", SOON).unwrap();
        assert_eq!(recv(&server).unwrap(), b"hi");
    });
}

#[test]
fn several_threads_accept_and_shutdown_wakes_them() {
    let house = House::new();
    thread::scope(|scope| {
        let accepting: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    loop {
                        match house.listener.accept(None) {
                            Ok(_) => count += 1,
                            Err(error) => return (count, error),
                        }
                    }
                })
            })
            .collect();
        let clients: Vec<_> = (0..20).map(|_| house.connect().unwrap()).collect();
        clients.iter().for_each(|client| assert_eq!(recv(client), Err(Error::Closed)));
        house.listener.shutdown();
        let results: Vec<_> = accepting.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(results.iter().map(|(count, _)| count).sum::<i32>(), 20);
        assert!(results.iter().all(|(_, error)| *error == Error::Closed));
    });
    assert!(matches!(house.listener.transport_accept(SOON), Err(Error::Closed)));
}

#[test]
fn garbage_ends_one_connection_and_no_other() {
    let house = House::new();
    let (client, server) = house.tunnel();
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(matches!(house.listener.accept(SOON), Err(Error::Closed)), "garbage was let in")
        });
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0], &[0, 7, 1, 2, 3, 4, 5, 6, 7], &[0; 400]] {
            let mut raw = house.dial_raw();
            raw.write_all(garbage).unwrap();
            assert!(is_closed(&raw, SOON), "not closed, or something sent");
            client.send(garbage, SOON).unwrap();
            assert_eq!(recv(&server).unwrap(), garbage);
        }
        house.listener.shutdown();
    });
}
