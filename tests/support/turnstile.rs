//! A vault and a registry that take as long as the test decides, a flooder and an honest client.

use super::gate::{PATIENCE, wait_until};
use super::wrapped::{Before, Call, Wrapped};
use curve_tun::connection::{Connection, ConnectionState, Options};
use curve_tun::net::{Connector, Listener, Socket, TimedServer, Timeout};
use curve_tun::registry::{Candidate, Registry};
use curve_tun::vault::{MemoryVault, Purpose, Vault};
use curve_tun::{Error, PublicKey, Result};
use socket2::{Domain, Type};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

pub const SOON: Timeout = Some(PATIENCE);
pub const FLOODER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
pub const HELLOS: usize = 300;
pub const HANDSHAKES_MAX: usize = 16;
pub const PER_SOURCE: usize = 8;

pub fn options() -> Options {
    Options::default()
        .handshakes_max(HANDSHAKES_MAX as u32)
        .handshakes_per_source(PER_SOURCE as u32)
        .handshake_timeout(PATIENCE)
}

/// Allows one test at a time, since each counts the resources of the process.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Who {
    Flooder,
    Honest,
}

/// Lets calls for the flooder through one by one, and those for others at once; records the order
/// in which they began.
#[derive(Default)]
pub struct Turnstile {
    pub state: Mutex<Turns>,
    changed: Condvar,
    /// Questions put to a slow vault's pool, whether or not their calls have begun.
    pub asked: AtomicUsize,
}

#[derive(Default)]
pub struct Turns {
    pub begun: Vec<Who>,
    free: usize,
    pub most_descriptors: usize,
}

impl Turnstile {
    pub fn pass(&self, who: Who) {
        let open = descriptors();
        let mut state = self.state.lock().unwrap();
        state.begun.push(who);
        state.most_descriptors = state.most_descriptors.max(open);
        if who == Who::Flooder {
            // If it is never let through, the test reports that.
            let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| state.free == 0);
            let mut state = waited.unwrap().0;
            state.free = state.free.saturating_sub(1);
        }
    }

    pub fn let_through(&self, calls: usize) {
        let mut state = self.state.lock().unwrap();
        state.free = state.free.saturating_add(calls);
        self.changed.notify_all();
    }

    pub fn begun(&self) -> Vec<Who> {
        self.state.lock().unwrap().begun.clone()
    }

    pub fn count(&self, who: Who) -> usize {
        self.begun().iter().filter(|&&begun| begun == who).count()
    }

    pub fn wait_until_begun(&self, calls: usize) {
        wait_until("calls have not begun", || self.begun().len() >= calls);
    }

    /// Lets calls for the flooder through, one after the other, until this question of the honest
    /// client has its turn; returns how many others began while it waited.
    pub fn others_before(&self, question: usize, asked: impl Fn() -> bool) -> usize {
        // With half of a pool left to others it may have been served already.
        let served = || self.count(Who::Honest) >= question;
        wait_until("the honest client's question was not asked", || served() || asked());
        self.let_through_until(question)
    }

    /// The same once the question has been asked.
    pub fn let_through_until(&self, question: usize) -> usize {
        let before = self.count(Who::Flooder);
        loop {
            let begun = self.begun();
            let honest = (0..begun.len()).filter(|&at| begun[at] == Who::Honest).nth(question - 1);
            if let Some(at) = honest {
                // Calls that began after it did not delay it.
                let others = begun[..at].iter().filter(|&&begun| begun == Who::Flooder).count();
                return others.saturating_sub(before);
            }
            self.let_through(1);
            // The thread that has finished one call takes the next.
            self.wait_until_begun(begun.len() + 1);
        }
    }
}

/// The short-term keys of the flooder's hellos, since a vault does not see addresses.
pub static FLOODERS_KEYS: Mutex<BTreeSet<[u8; 32]>> = Mutex::new(BTreeSet::new());

/// Guards a vault that answers later, with two concurrent calls.
pub struct Slow(Arc<Turnstile>);

pub type SlowVault = Wrapped<Slow>;

impl SlowVault {
    pub fn new() -> (Arc<SlowVault>, Arc<Turnstile>) {
        let turnstile = Arc::new(Turnstile::default());
        (Wrapped::around(Slow(turnstile.clone())), turnstile)
    }
}

impl Before for Slow {
    fn call(&self, call: &Call) -> Result<()> {
        // The cookie of a hello is sealed in the same turn. Only honest clients get beyond that.
        let hello = call.purpose == Purpose::Hello;
        let floods = hello && FLOODERS_KEYS.lock().unwrap().contains(&call.peer.0);
        if call.opens {
            self.0.pass(if floods { Who::Flooder } else { Who::Honest });
        }
        Ok(())
    }

    fn max_concurrency(&self) -> Option<usize> {
        // This is called for each question.
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        Some(2)
    }
}

/// A registry that answers later.
pub struct SlowRegistry {
    pub at_once: usize,
    pub judge: Box<dyn Fn(IpAddr) + Send + Sync>,
}

impl Registry for SlowRegistry {
    fn verify(&self, candidate: &Candidate) -> Result<bool> {
        (self.judge)(candidate.address);
        Ok(true)
    }

    fn deferred(&self) -> bool {
        true
    }

    fn max_concurrency(&self) -> usize {
        self.at_once
    }
}

pub fn anybody() -> Arc<dyn Registry> {
    struct Anybody;
    impl Registry for Anybody {
        fn verify(&self, _: &Candidate) -> Result<bool> {
            Ok(true)
        }
    }
    Arc::new(Anybody)
}

pub fn memory_vault() -> Arc<MemoryVault> {
    Arc::new(MemoryVault::generate().unwrap())
}

pub fn listener(vault: Arc<dyn Vault>, registry: Arc<dyn Registry>) -> Listener {
    Listener::bind("127.0.0.1", 0, TimedServer::new(vault, registry, options()).unwrap()).unwrap()
}

/// Accepts clients and counts them, until the listener is shut down.
pub fn accept_all<'scope>(scope: &'scope Scope<'scope, '_>, listener: &'scope Listener) {
    scope.spawn(|| while !matches!(listener.accept(SOON), Err(Error::Closed | Error::Timeout)) {});
}

pub fn connect(port: u16, key: PublicKey) -> Result<Socket> {
    Connector::new(memory_vault())
        .server_key(key)
        .options(options().clone())
        .timeout(SOON)
        .connect("127.0.0.1", port)
}

pub fn dial(port: u16) -> TcpStream {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((FLOODER, 0)).into()).unwrap();
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    socket.into()
}

/// Opens a connection from the flooder's address that has sent its hello, and returns it with its
/// state.
pub fn say_hello(port: u16, key: PublicKey) -> (TcpStream, Connection) {
    let mut connection = Connection::client(memory_vault(), key, &options()).unwrap();
    FLOODERS_KEYS.lock().unwrap().insert(*connection.send_buffer()[10..].first_chunk().unwrap());
    let mut stream = dial(port);
    // It may have been evicted already.
    let _ = stream.write_all(connection.send_buffer());
    connection.sent(connection.send_buffer().len());
    (stream, connection)
}

/// Opens a connection from the flooder's address that has sent its initiate, unless it was evicted
/// before.
pub fn say_all(port: u16, key: PublicKey) -> TcpStream {
    let (mut stream, mut connection) = say_hello(port, key);
    let mut cookie = [0; 512];
    let len = stream.read(&mut cookie).unwrap_or(0);
    if len > 0 && connection.feed(&cookie[..len]).is_ok() {
        assert_eq!(connection.state(), ConnectionState::Connected);
        let _ = stream.write_all(connection.send_buffer());
    }
    stream
}

/// Waits until the other end has closed it.
pub fn wait_for_end(stream: &TcpStream) {
    stream.set_read_timeout(SOON).unwrap();
    match (&*stream).read(&mut [0; 512]) {
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("it was not closed"),
        Ok(count) if count > 0 => wait_for_end(stream),
        _ => {}
    }
}

/// How the flooder treats its sockets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Flood {
    Kept,
    Closed,
    Reset,
}

impl Flood {
    pub fn treat(self, stream: TcpStream) -> Option<TcpStream> {
        match self {
            Flood::Kept => return Some(stream),
            Flood::Closed => {}
            Flood::Reset => {
                socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap()
            }
        }
        None
    }
}
