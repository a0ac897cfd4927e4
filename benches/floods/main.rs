//! How long an honest client takes while a client without a key floods the server with hellos,
//! compared with its time on the same server when idle; and how many descriptors the server has
//! meanwhile. `make floods` runs it.
//!
//! `cargo bench --bench floods -- [HELLOS] [ROUNDS]`. A round consists of some honest clients on
//! the idle server, then a flood of HELLOS from one address with honest clients from another, one
//! after the other. Each client's time is that from its first packet to its echo. For comparison a
//! plain TCP connection makes as many round trips to a port of the server that nobody floods: any
//! extra time of it under the flood is due to the machine and not the server.

mod server;

use curve_tun::PublicKey;
use curve_tun::connection::{Connection, Options};
use curve_tun::net::Connector;
use curve_tun::vault::MemoryVault;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use server::{Driver, Process, Slow};
use socket2::{Domain, Type};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const FLOODER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Distinct hellos, which are sent again and again.
const MADE: usize = 500;
/// Honest clients of a round before the flood.
const IDLE: usize = 5;
const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

/// What happens to a flooder's connection after its hello.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Closed,
    /// It is closed when this many others have been opened.
    ClosedAfter(usize),
}

impl Fate {
    const ALL: [Fate; 3] = [Fate::Closed, Fate::ClosedAfter(16), Fate::ClosedAfter(800)];

    fn keeps(self) -> usize {
        match self {
            Fate::Closed => 0,
            Fate::ClosedAfter(others) => others,
        }
    }
}

/// Hellos of the right form that do not open.
fn forged(server: PublicKey) -> Vec<Vec<u8>> {
    let vault = Arc::new(MemoryVault::generate().unwrap());
    let one = |i: usize| {
        let client = Connection::client(vault.clone(), server, &Options::default()).unwrap();
        let mut hello = client.send_buffer().to_vec();
        let last = hello.len() - 1 - i % 80;
        hello[last] ^= 1;
        hello
    };
    (0..MADE).map(one).collect()
}

fn flood(port: u16, hellos: &[Vec<u8>], count: usize, fate: Fate) {
    let mut kept = VecDeque::new();
    for n in 0..count {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Allows ports of closed connections to be reused; without it many floods would use them
        // all up.
        setsockopt(&socket, IpBindAddressNoPort, &true).unwrap();
        socket.bind(&SocketAddr::from((FLOODER, 0)).into()).unwrap();
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
        let mut stream = TcpStream::from(socket);
        // The server may have closed it already.
        let _ = stream.write_all(&hellos[n % hellos.len()]);
        kept.push_back(stream);
        if kept.len() > fate.keeps() {
            kept.pop_front();
        }
    }
}

/// The times of honest clients, and of connections without a tunnel.
struct Times {
    tunnel: Vec<Duration>,
    plain: Vec<Duration>,
    /// How often a client was refused, and tried again.
    refused: usize,
}

impl Times {
    const fn new() -> Times {
        Times { tunnel: Vec::new(), plain: Vec::new(), refused: 0 }
    }

    fn add(&mut self, server: &Process, vault: &Arc<MemoryVault>) {
        let began = Instant::now();
        let options = Options::default().handshake_timeout(Duration::from_secs(60));
        let served = || {
            let vault = vault.clone();
            let socket = Connector::new(vault)
                .server_key(server.key)
                .options(options.clone())
                .timeout(PATIENCE)
                .connect("127.0.0.1", server.port)?;
            let mut echo = [0; 8];
            socket.send(b"honest", PATIENCE)?;
            socket.recv(&mut echo, PATIENCE).map(|len| assert_eq!(&echo[..len], b"honest"))
        };
        while let Err(error) = served() {
            assert!(Some(began.elapsed()) < PATIENCE, "not served: {error}");
            self.refused += 1;
        }
        self.tunnel.push(began.elapsed());

        let began = Instant::now();
        let mut stream = TcpStream::connect(("127.0.0.1", server.plain_port)).unwrap();
        stream.set_nodelay(true).unwrap();
        for _ in 0..2 {
            stream.write_all(&[1; 200]).unwrap();
            stream.read_exact(&mut [0; 200]).unwrap();
        }
        self.plain.push(began.elapsed());
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// Returns how many connections the system had no place for, so that their clients tried again
/// after a second.
fn overflows() -> u64 {
    let text = std::fs::read_to_string("/proc/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "ListenOverflows").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

fn measure(driver: Driver, slow: Slow, fate: Fate, count: usize, rounds: usize) {
    let (mut idle, mut flooded) = (Times::new(), Times::new());
    let (mut most, mut flooding_ms) = (0, 0.0);
    let vault = Arc::new(MemoryVault::generate().unwrap());
    let overflows_before = overflows();
    let server = Process::start(driver, slow);
    let hellos = forged(server.key);
    idle.add(&server, &vault);
    idle = Times::new();
    let before = server.descriptors();
    for _ in 0..rounds {
        (0..IDLE).for_each(|_| idle.add(&server, &vault));
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                let began = Instant::now();
                flood(server.port, &hellos, count, fate);
                began.elapsed()
            });
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    most = most.max(server.descriptors());
                    thread::sleep(Duration::from_millis(2));
                }
            });
            // It begins while the flood is in progress.
            thread::sleep(Duration::from_millis(20));
            let begun = flooded.tunnel.len();
            while flooded.tunnel.len() == begun || !flooding.is_finished() {
                flooded.add(&server, &vault);
            }
            over.store(true, Ordering::Relaxed);
            flooding_ms += flooding.join().unwrap().as_secs_f64() * 1000.0;
        });
    }
    let (alone, beside) = (median(&mut idle.tunnel), median(&mut flooded.tunnel));
    let (plain_alone, plain_beside) = (median(&mut idle.plain), median(&mut flooded.plain));
    let worst = flooded.tunnel.last().unwrap().as_secs_f64() * 1000.0;
    let row = format!(
        "| {driver:?} | {slow} | {fate:?} | {alone:.2} | {beside:.2} | {:.1} | {worst:.1} | {}, {} | {plain_alone:.2} | \
         {plain_beside:.2} | {} | {:.0} | {} |",
        beside / alone,
        flooded.tunnel.len(),
        flooded.refused,
        most.saturating_sub(before),
        count as f64 * rounds as f64 / flooding_ms,
        overflows() - overflows_before,
    );
    println!("{row}");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let Some((name, rest)) = arguments.split_first()
        && name == server::ARGUMENT
    {
        return server::run(rest);
    }
    let number = |at: usize, default| {
        arguments.get(at).map_or(default, |n: &String| n.parse().expect("HELLOS and ROUNDS are numbers"))
    };
    let (count, rounds) = (number(0, 2000), number(1, 5));
    println!("{count} hellos in each of {rounds} floods; times in ms");
    println!(
        "| driver | slow | flooder's sockets | idle | flooded | ratio | worst | clients, refusals | TCP idle | TCP flooded | \
         most descriptors | hellos/ms | overflows |"
    );
    println!("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let only = std::env::var("FLOODS_ONLY").unwrap_or_default();
    for driver in Driver::ALL {
        for fate in Fate::ALL {
            for slow in Slow::ALL {
                if format!("{driver:?} {slow} {fate:?}").contains(&only) {
                    measure(driver, slow, fate, count, rounds);
                }
            }
        }
    }
}
