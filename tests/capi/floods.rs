//! The example servers under floods of hellos, from one address and from many, while honest clients come as well.
//!
//! Each flood is small here. `make floods` sends 100,000 hellos in each, and prints what a hello
//! costs the server.

use crate::support::c::examples::{Keys, PATIENCE, Server, keygen, wait_until};
use curve_tun::connection::{Connection, Options};
use curve_tun::net::Connector;
use curve_tun::{Error, PublicKey};
use socket2::{Domain, Type};
use std::collections::VecDeque;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Threads that flood, and the connections that each keeps open: together more than the server's limit.
const FLOODERS: usize = 4;
const KEPT: usize = 400;
const LIMIT: usize = 1024;
/// From the first try to the echo. A handshake alone has 10 seconds by default; this allows for a
/// busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
/// Distinct hellos, sent again and again: more than fit into any cache.
const HELLOS: usize = 2000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    OneAddress,
    ManyAddresses,
}

impl From {
    /// The address of the flood's `n`th connection; honest clients come from 127.0.0.1.
    fn address(self, n: usize) -> Ipv4Addr {
        match self {
            From::OneAddress => Ipv4Addr::new(127, 0, 0, 2),
            From::ManyAddresses => {
                // Spread over 127.128.0.0/10. The factor is odd, so no address repeats before all
                // have been used.
                Ipv4Addr::from(0x7f80_0000 | (n as u32).wrapping_mul(2_654_435_761) & 0x003f_ffff)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Hellos {
    /// They open: the server answers each with a cookie, and waits in vain.
    Valid,
    /// They have the right form, but do not open.
    Forged,
}

impl Hellos {
    fn make(self, server: PublicKey) -> Vec<Vec<u8>> {
        let vault = Arc::new(keygen().vault());
        let one = |i: usize| {
            let client = Connection::client(vault.clone(), server, &Options::default()).unwrap();
            let mut hello = client.send_buffer().to_vec();
            if self == Hellos::Forged {
                let last = hello.len() - 1 - i % 80;
                hello[last] ^= 1;
            }
            hello
        };
        (0..HELLOS).map(one).collect()
    }
}

/// How many hellos a flood has.
fn size() -> usize {
    std::env::var("FLOOD_HELLOS").map_or(4000, |n| n.parse().expect("FLOOD_HELLOS is a number"))
}

/// Opens a connection from `address` that is reset when dropped, so that it leaves nothing behind
/// in the system.
fn dial(address: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    Ok(socket.into())
}

fn flood(from: From, port: u16, hellos: &[Vec<u8>], sent: &AtomicUsize) {
    let mut kept = VecDeque::new();
    loop {
        let n = sent.fetch_add(1, Ordering::Relaxed);
        if n >= size() {
            return;
        }
        let mut stream = dial(from.address(n), port).unwrap();
        // The server may have closed it already.
        let _ = stream.write_all(&hellos[n % hellos.len()]);
        kept.push_back(stream);
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }
}

/// Runs one honest client, which tries until its deadline; returns how often it had to try.
fn be_served(server: &Server, client: &Keys, key: PublicKey) -> usize {
    let end = Instant::now() + DEADLINE;
    let vault = Arc::new(client.vault());
    let options = Options::default().handshake_timeout(DEADLINE);
    for tries in 1.. {
        let left = end.checked_duration_since(Instant::now());
        let left = Some(left.unwrap_or_else(|| panic!("not served within its deadline, {tries} tries")));
        let served = || {
            let socket = Connector::new(vault.clone())
                .server_key(key)
                .options(options.clone())
                .timeout(left)
                .connect("127.0.0.1", server.port)?;
            let mut echo = [0; 6];
            socket.send(b"honest", left)?;
            let len = socket.recv(&mut echo, left)?;
            assert_eq!(&echo[..len], b"honest");
            Ok(())
        };
        match served() {
            Ok(()) => return tries,
            // Its handshake was evicted.
            Err(Error::Closed | Error::WrongServerKey) => {}
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("it panics at its deadline")
}

fn honest_clients_are_served(name: &str, from: From, hellos: Hellos) {
    let (keys, client) = (keygen(), keygen());
    let server = Server::start(name, &[], &keys, &[&client]);
    be_served(&server, &client, keys.public);
    let descriptors = server.descriptors();
    let made = hellos.make(keys.public);
    let (ticks, started, sent) = (server.ticks(), Instant::now(), AtomicUsize::new(0));
    let (mut served, mut tries, mut longest, mut most_open) = (0, 0, Duration::ZERO, 0);
    thread::scope(|scope| {
        let flooding: Vec<_> =
            (0..FLOODERS).map(|_| scope.spawn(|| flood(from, server.port, &made, &sent))).collect();
        while served < 5 || !flooding.iter().all(|flooder| flooder.is_finished()) {
            let begun = Instant::now();
            tries += be_served(&server, &client, keys.public);
            served += 1;
            longest = longest.max(begun.elapsed());
            most_open = most_open.max(server.descriptors());
            thread::sleep(Duration::from_millis(20));
        }
    });
    let (seconds, cost) = (started.elapsed().as_secs_f64(), (server.ticks() - ticks) as f64 * 10_000.0);
    println!(
        "{name}, {hellos:?}, {from:?}: {} hellos in {seconds:.1} s, {:.0} us of CPU each; \
         {served} honest clients served in {tries} tries, the slowest after {} ms",
        size(),
        cost / size() as f64,
        longest.as_millis(),
    );
    if from == From::OneAddress {
        assert_eq!(tries, served, "a flood from one address costs others nothing");
    }
    assert!(most_open <= descriptors + LIMIT + 100, "{most_open} descriptors with a limit of {LIMIT}");
    wait_until("descriptors are back to the start", || server.descriptors() <= descriptors);
    let mut echo = [0; 5];
    let after = server.connect(&client);
    after.send(b"after", PATIENCE).unwrap();
    assert_eq!(after.recv(&mut echo, PATIENCE), Ok(5));
    server.ends_by_sigterm();
}

#[test]
fn valid_hellos_from_one_address_keep_no_honest_client_out() {
    for name in ["echo_server", "epoll_server"] {
        honest_clients_are_served(name, From::OneAddress, Hellos::Valid);
    }
}

#[test]
fn valid_hellos_from_many_addresses_keep_no_honest_client_out() {
    for name in ["echo_server", "epoll_server"] {
        honest_clients_are_served(name, From::ManyAddresses, Hellos::Valid);
    }
}

#[test]
fn forged_hellos_from_one_address_keep_no_honest_client_out() {
    for name in ["echo_server", "epoll_server"] {
        honest_clients_are_served(name, From::OneAddress, Hellos::Forged);
    }
}

#[test]
fn forged_hellos_from_many_addresses_keep_no_honest_client_out() {
    for name in ["echo_server", "epoll_server"] {
        honest_clients_are_served(name, From::ManyAddresses, Hellos::Forged);
    }
}
