//! The server's process: an echo on a thread for each client, a changing registry, rotating minute
//! keys.

use super::Field;
use curve_tun::connection::Options;
use curve_tun::net::{Listener, Socket, TimedServer};
use curve_tun::registry::{MemoryRegistry, Place};
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, KEY_BYTES, MINUTE_MS, PublicKey};
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

/// Makes this program the server.
pub const ARGUMENT: &str = "--as-server";
/// The number of distinct keys of honest clients.
const FRIENDS: usize = 16;
/// A client's thread needs little.
const STACK: usize = 128 * 1024;
/// A client that does not take an echo for this long is ended.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));
/// How often the registry changes, and how many keys it has beside those of the friends.
const CHANGE: Duration = Duration::from_millis(2);
const STRANGERS: usize = 1000;

/// The server's process, which ends when this is dropped.
pub struct Process(Child);

impl Process {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Closes its input, which tells it to end, and checks that it ends successfully.
    pub fn end(&mut self) {
        drop(self.0.stdin.take());
        let status = self.0.wait().expect("the server can be waited for");
        assert!(status.success(), "the server ended with {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the server, which lets in new friends.
pub fn start() -> (&'static Field, Process) {
    let friends: Vec<_> = (0..FRIENDS).map(|_| Arc::new(MemoryVault::generate().expect("a vault"))).collect();
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(ARGUMENT).args(friends.iter().map(|friend| friend.public_key().to_string()));
    let mut process = Process(
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the server's process starts"),
    );
    let mut line = String::new();
    let stdout = process.0.stdout.as_mut().expect("its output is piped");
    BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
    let (port, key) = line.trim().split_once(' ').expect("a port and a key");
    let field = Field {
        port: port.parse().expect("a port"),
        server_key: key.parse().expect("a key"),
        friends,
        end: AtomicBool::new(false),
        actions: AtomicU64::new(0),
        echoes: AtomicU64::new(0),
        attacks_due: AtomicU64::new(0),
        hostile: AtomicBool::new(false),
        resting: AtomicBool::new(false),
    };
    raise_limit();
    // One for the whole run, shared by all its threads.
    (Box::leak(Box::new(field)), process)
}

/// Raises this process's limit of open files to its maximum.
fn raise_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a valid struct.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

/// Serves until the input ends. The arguments are the friends' keys.
pub fn run() {
    raise_limit();
    let vault = Arc::new(MemoryVault::generate().expect("a vault"));
    let registry = Arc::new(MemoryRegistry::new());
    for key in std::env::args().skip_while(|argument| argument != ARGUMENT).skip(1) {
        registry.add(Place::Anywhere, key.parse().expect("a key"));
    }
    let server = TimedServer::new(vault.clone(), registry.clone(), Options::default()).expect("a server");
    let listener = Arc::new(Listener::bind("127.0.0.1", 0, server.clone()).expect("a port"));
    println!("{} {}", listener.port(), vault.public_key());

    thread::spawn(move || change(&registry));
    thread::spawn(move || rotate(&server));
    let accepting = listener.clone();
    thread::spawn(move || accept(&accepting));
    // The other end ends it.
    std::io::stdin().read_to_end(&mut Vec::new()).expect("the input ends");
}

fn accept(listener: &Listener) {
    loop {
        match listener.accept(None) {
            Ok(socket) => {
                thread::Builder::new().stack_size(STACK).spawn(move || echo(&socket)).expect("a thread");
            }
            Err(error @ (Error::TooManyFiles | Error::OutOfMemory)) => eprintln!("accept: {error}"),
            Err(error) => panic!("accept: {error}"),
        }
    }
}

fn echo(socket: &Socket) {
    // It ends with any error that ends the connection.
    while socket.recv_with(None, |message| socket.send(message, PATIENCE)).is_ok() {}
}

/// Adds and removes keys of strangers, from anywhere and from networks.
fn change(registry: &MemoryRegistry) {
    let stranger = |n: usize| {
        let mut key = [0; KEY_BYTES];
        key[..8].copy_from_slice(&(n as u64 + 1).to_le_bytes());
        let place = if n.is_multiple_of(2) {
            Place::Anywhere
        } else {
            IpAddr::from([10, (n >> 8) as u8, n as u8, 1]).into()
        };
        (place, PublicKey(key))
    };
    for n in 0.. {
        let (place, key) = stranger(n);
        registry.add(place, key);
        if n >= STRANGERS {
            let (place, key) = stranger(n - STRANGERS);
            registry.remove(place, &key).expect("it is there");
        }
        thread::sleep(CHANGE);
    }
}

/// Drives the server by a clock on which each second is a minute.
fn rotate(server: &TimedServer) {
    let start = Instant::now();
    loop {
        let minutes = start.elapsed().as_secs();
        server.server().tick(minutes * MINUTE_MS).expect("a minute key");
        thread::sleep(Duration::from_millis(100));
    }
}
