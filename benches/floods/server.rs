//! The server's process: an echo on a thread for each client, with a slow vault or registry.

use curve_tun::connection::Options;
use curve_tun::net::{Listener, Socket, TimedServer};
use curve_tun::registry::{Candidate, Registry};
use curve_tun::vault::{LongTermNonce, MemoryVault, Purpose, Vault};
use curve_tun::{PublicKey, Result};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Makes this program the server.
pub const ARGUMENT: &str = "--as-server";
/// How many calls the vault or the registry works on at once.
const AT_ONCE: usize = 2;

#[derive(Clone, Copy, Debug)]
pub enum Driver {
    /// `Listener::accept`.
    Accept,
    /// `Listener::transport_accept`, and `Socket::handshake` on a thread for each.
    TransportAccept,
}

impl Driver {
    pub const ALL: [Driver; 2] = [Driver::Accept, Driver::TransportAccept];
}

/// The provider that is slow, with the milliseconds of a call.
#[derive(Clone, Copy)]
pub enum Slow {
    Vault(u64),
    Registry(u64),
}

impl Slow {
    pub const ALL: [Slow; 5] =
        [Slow::Vault(0), Slow::Vault(1), Slow::Vault(20), Slow::Vault(200), Slow::Registry(200)];
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slow::Vault(ms) => write!(f, "vault {ms} ms"),
            Slow::Registry(ms) => write!(f, "registry {ms} ms"),
        }
    }
}

/// The server's process, which ends when this is dropped.
pub struct Process {
    child: Child,
    pub port: u16,
    pub plain_port: u16,
    pub key: PublicKey,
}

impl Process {
    pub fn start(driver: Driver, slow: Slow) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let (kind, ms) = match slow {
            Slow::Vault(ms) => ("vault", ms),
            Slow::Registry(ms) => ("registry", ms),
        };
        command.args([ARGUMENT, &format!("{driver:?}"), kind, &ms.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let said: Vec<&str> = line.split_whitespace().collect();
        let [port, plain_port, key] = said[..] else { panic!("the server said {line:?}") };
        let (port, plain_port) = (port.parse().unwrap(), plain_port.parse().unwrap());
        Process { child, port, plain_port, key: key.parse().unwrap() }
    }

    /// Returns how many files it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct SlowVault {
    inner: MemoryVault,
    /// `None`: it answers at once.
    each: Option<Duration>,
}

impl Vault for SlowVault {
    fn public_key(&self) -> PublicKey {
        self.inner.public_key()
    }

    fn box_seal(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<LongTermNonce> {
        self.inner.box_seal(purpose, peer, message, sealed)
    }

    fn box_open(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &[u8],
        sealed: &[u8],
        message: &mut [u8],
    ) -> Result<()> {
        // Opening a hello and a vouch takes time; sealing the cookie afterwards belongs to the same
        // call.
        self.each.into_iter().for_each(thread::sleep);
        self.inner.box_open(purpose, peer, nonce, sealed, message)
    }

    fn deferred(&self) -> bool {
        self.each.is_some()
    }

    fn max_concurrency(&self) -> usize {
        AT_ONCE
    }
}

/// Lets everybody in.
struct SlowRegistry(Option<Duration>);

impl Registry for SlowRegistry {
    fn verify(&self, _: &Candidate) -> Result<bool> {
        self.0.into_iter().for_each(thread::sleep);
        Ok(true)
    }

    fn deferred(&self) -> bool {
        self.0.is_some()
    }

    fn max_concurrency(&self) -> usize {
        AT_ONCE
    }
}

fn echo(socket: &Socket) {
    let mut message = [0; 64];
    while let Ok(len) = socket.recv(&mut message, None) {
        if socket.send(&message[..len], None).is_err() {
            return;
        }
    }
}

fn plain(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        stream.set_nodelay(true).unwrap();
        let mut bytes = [0; 200];
        while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
    }
}

/// The server, until it is killed.
pub fn run(arguments: &[String]) {
    let [driver, kind, ms] = arguments else { panic!("DRIVER, KIND and MS, not {arguments:?}") };
    let each = Some(Duration::from_millis(ms.parse().unwrap()));
    let (of_vault, of_registry) = if kind == "vault" { (each, None) } else { (None, each) };
    let vault = Arc::new(SlowVault { inner: MemoryVault::generate().unwrap(), each: of_vault });
    let key = vault.public_key();
    let options = Options::default().handshakes_max(16).handshakes_per_source(8);
    let server = TimedServer::new(vault, Arc::new(SlowRegistry(of_registry)), options).unwrap();
    let listener = Listener::bind("127.0.0.1", 0, server).unwrap();
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    println!("{} {} {key}", listener.port(), tcp.local_addr().unwrap().port());
    thread::spawn(move || plain(&tcp));
    let transport = driver == "TransportAccept";
    loop {
        let accepted = if transport { listener.transport_accept(None) } else { listener.accept(None) };
        let socket = accepted.unwrap();
        thread::spawn(move || {
            if !transport || socket.handshake(None).is_ok() {
                echo(&socket);
            }
        });
    }
}
