//! Floods against vaults and registries that take their time: whoever floods from one address waits behind himself, and
//! what he began is gone as soon as it is evicted or he has left.
//!
//! No clock judges here. The vault and the registry are the clock: each call waits until the test lets it go on, and what
//! counts is how many calls for others come between an honest client's question and its answer.
#![cfg(target_os = "linux")]

#[path = "support/gate.rs"]
mod gate;

use curve_tun::connection::{Connection, ConnectionState, Options};
use curve_tun::net::{Listener, Socket, TimedServer, Timeout};
use curve_tun::registry::{Candidate, Registry, TellVerdict};
use curve_tun::vault::{Answers, LongTermNonce, MemoryVault, Purpose, Vault};
use curve_tun::{Error, PublicKey, Result};
use gate::{PATIENCE, asking, wait_until};
use socket2::{Domain, Type};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

const SOON: Timeout = Some(PATIENCE);
const FLOODER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const HELLOS: usize = 300;
const HANDSHAKES_MAX: usize = 16;
const PER_SOURCE: usize = 8;

fn options() -> Options {
    Options {
        handshakes_max: HANDSHAKES_MAX as u32,
        handshakes_per_source: PER_SOURCE as u32,
        handshake_timeout_ms: PATIENCE.as_millis() as u64,
        ..Options::default()
    }
}

/// One test at a time, since each counts what the process has.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Flooder,
    Honest,
}

/// Lets calls for the flooder through one by one, and those for others at once; remembers in which order they began.
#[derive(Default)]
struct Turnstile {
    state: Mutex<Turns>,
    changed: Condvar,
}

#[derive(Default)]
struct Turns {
    begun: Vec<Who>,
    free: usize,
    /// Calls for the flooder that were let through.
    through: usize,
    most_descriptors: usize,
}

impl Turnstile {
    fn pass(&self, who: Who) {
        let open = descriptors();
        let mut state = self.state.lock().unwrap();
        state.begun.push(who);
        state.most_descriptors = state.most_descriptors.max(open);
        if who == Who::Flooder {
            // If it is never let through, the test says so.
            let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| state.free == 0);
            let mut state = waited.unwrap().0;
            state.free = state.free.saturating_sub(1);
        }
    }

    fn let_through(&self, calls: usize) {
        let mut state = self.state.lock().unwrap();
        (state.free, state.through) = (state.free.saturating_add(calls), state.through.saturating_add(calls));
        self.changed.notify_all();
    }

    fn begun(&self) -> Vec<Who> {
        self.state.lock().unwrap().begun.clone()
    }

    fn count(&self, who: Who) -> usize {
        self.begun().iter().filter(|&&begun| begun == who).count()
    }

    fn wait_until_begun(&self, calls: usize) {
        wait_until("calls have not begun", || self.begun().len() >= calls);
    }

    /// Lets calls for the flooder through, one after the other, until this question of the honest client has its turn: gives
    /// how many others began while it waited. `held` counts the questions that there are, of which `flood` were the
    /// flooder's before any was let through.
    fn others_before(&self, question: usize, flood: usize, held: impl Fn() -> usize) -> usize {
        let served = || self.count(Who::Honest) >= question;
        let asked = || held() + self.state.lock().unwrap().through > flood;
        wait_until("the honest client's question was not asked", || served() || asked());
        let before = self.count(Who::Flooder);
        while !served() {
            let begun = self.begun().len();
            self.let_through(1);
            // The thread that has let go of one has the next.
            self.wait_until_begun(begun + 1);
        }
        self.count(Who::Flooder) - before
    }
}

/// The short-term keys of the flooder's hellos: a vault does not see where they come from.
static FLOODERS_KEYS: Mutex<BTreeSet<[u8; 32]>> = Mutex::new(BTreeSet::new());

/// A vault that answers later, two calls at once.
struct SlowVault {
    inner: MemoryVault,
    turnstile: Arc<Turnstile>,
}

impl SlowVault {
    fn new() -> (Arc<SlowVault>, Arc<Turnstile>) {
        let turnstile = Arc::new(Turnstile::default());
        let inner = MemoryVault::generate().unwrap();
        (Arc::new(SlowVault { inner, turnstile: turnstile.clone() }), turnstile)
    }
}

impl Vault for SlowVault {
    fn public_key(&self) -> PublicKey {
        self.inner.public_key()
    }

    fn box_seal(
        &self,
        p: Purpose,
        peer: &PublicKey,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<LongTermNonce> {
        self.inner.box_seal(p, peer, message, sealed)
    }

    fn box_open(
        &self,
        p: Purpose,
        peer: &PublicKey,
        nonce: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        // Only the honest come this far.
        self.turnstile.pass(Who::Honest);
        self.inner.box_open(p, peer, nonce, sealed, out)
    }

    fn answer_hello(
        &self,
        client_short: &PublicKey,
        hello: &[u8; 80],
        cookie: &mut dyn FnMut() -> Result<[u8; 128]>,
    ) -> Result<(LongTermNonce, [u8; 144])> {
        let floods = FLOODERS_KEYS.lock().unwrap().contains(&client_short.0);
        self.turnstile.pass(if floods { Who::Flooder } else { Who::Honest });
        self.inner.answer_hello(client_short, hello, cookie)
    }

    fn answers(&self) -> Answers {
        Answers::Later
    }

    fn calls_at_once(&self) -> usize {
        2
    }
}

/// A registry that answers later.
struct SlowRegistry {
    at_once: usize,
    judge: Box<dyn Fn(IpAddr) + Send + Sync>,
}

impl Registry for SlowRegistry {
    fn verify(&self, candidate: &Candidate) -> Result<bool> {
        (self.judge)(candidate.address);
        Ok(true)
    }

    fn answers(&self) -> Answers {
        Answers::Later
    }

    fn calls_at_once(&self) -> usize {
        self.at_once
    }
}

fn anybody() -> Arc<dyn Registry> {
    struct Anybody;
    impl Registry for Anybody {
        fn verify(&self, _: &Candidate) -> Result<bool> {
            Ok(true)
        }
    }
    Arc::new(Anybody)
}

fn memory_vault() -> Arc<MemoryVault> {
    Arc::new(MemoryVault::generate().unwrap())
}

fn listener(vault: Arc<dyn Vault>, registry: Arc<dyn Registry>) -> Listener {
    Listener::bind("127.0.0.1", 0, TimedServer::new(vault, registry, options()).unwrap()).unwrap()
}

/// Accepts, and counts, until the listener is shut down.
fn accept_all<'scope>(scope: &'scope Scope<'scope, '_>, listener: &'scope Listener) {
    scope.spawn(|| while !matches!(listener.accept(SOON), Err(Error::Closed | Error::Timeout)) {});
}

fn connect(port: u16, key: PublicKey) -> Result<Socket> {
    Socket::connect("127.0.0.1", port, memory_vault(), key, &options(), SOON)
}

fn dial(port: u16) -> TcpStream {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((FLOODER, 0)).into()).unwrap();
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    socket.into()
}

/// A connection from the flooder's address that has said hello, and its other end's state.
fn say_hello(port: u16, key: PublicKey) -> (TcpStream, Connection) {
    let mut connection = Connection::client(memory_vault(), key, &options()).unwrap();
    FLOODERS_KEYS.lock().unwrap().insert(*connection.pending()[10..].first_chunk().unwrap());
    let mut stream = dial(port);
    // It may have been evicted already.
    let _ = stream.write_all(connection.pending());
    connection.written(connection.pending().len());
    (stream, connection)
}

/// A connection from the flooder's address that has sent its initiate, unless it was evicted before.
fn say_all(port: u16, key: PublicKey) -> TcpStream {
    let (mut stream, mut connection) = say_hello(port, key);
    let mut cookie = [0; 512];
    let len = stream.read(&mut cookie).unwrap_or(0);
    if len > 0 && connection.read(&cookie[..len]).is_ok() {
        assert_eq!(connection.state(), ConnectionState::Connected);
        let _ = stream.write_all(connection.pending());
    }
    stream
}

/// Waits until the other end has closed it.
fn wait_for_end(stream: &TcpStream) {
    stream.set_read_timeout(SOON).unwrap();
    match (&*stream).read(&mut [0; 512]) {
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("it was not closed"),
        Ok(count) if count > 0 => wait_for_end(stream),
        _ => {}
    }
}

/// How the flooder treats his sockets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flood {
    Kept,
    Closed,
    Reset,
}

impl Flood {
    fn treat(self, stream: TcpStream) -> Option<TcpStream> {
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

fn a_flood_of_hellos(flood: Flood) {
    let _alone = alone();
    // Of two calls at once its source gets, before any is over, both; or half of them, if it leaves them.
    let hung = if flood == Flood::Kept { 2 } else { 1 };
    let (vault, turnstile) = SlowVault::new();
    let (key, held) = (vault.public_key(), Arc::downgrade(&vault));
    let listener = listener(vault, anybody());
    thread::scope(|scope| {
        accept_all(scope, &listener);
        let (port, before, holders) = (listener.port(), descriptors(), held.strong_count());
        let mut kept = Vec::new();
        for n in 1..=HELLOS {
            let (stream, _) = say_hello(port, key);
            turnstile.wait_until_begun(n.min(hung));
            kept.extend(flood.treat(stream));
            if kept.len() > PER_SOURCE {
                // As long as it floods, its oldest is what gives way.
                wait_for_end(&kept.remove(0));
            }
        }
        // Beside the calls that hang, at most those that are in flight wait for their turn.
        wait_until("questions of the flood are kept", || {
            held.strong_count() <= holders + hung + kept.len() && descriptors() <= before + 2 * kept.len()
        });
        assert_eq!(turnstile.begun(), vec![Who::Flooder; hung]);
        let waiting = held.strong_count();

        let honest = scope.spawn(move || connect(port, key).unwrap());
        let held_now = || held.strong_count();
        let hello = turnstile.others_before(1, waiting, held_now);
        drop(honest.join().unwrap());
        let vouch = turnstile.others_before(2, waiting, held_now);
        assert!(hello <= 1 && vouch <= 1, "it waits for one other, {flood:?}: {hello}, {vouch}");
        // All there is left may go on.
        turnstile.let_through(HELLOS);
        drop(kept);
        wait_until("a question is kept", || held.strong_count() <= holders);
        wait_until("a descriptor is kept", || descriptors() <= before);
        listener.shutdown();
    });
    let state = turnstile.state.lock().unwrap();
    println!("{flood:?}: {} calls, {} descriptors at most", state.begun.len(), state.most_descriptors);
}

#[test]
fn a_flood_of_hellos_that_stay_waits_behind_itself() {
    a_flood_of_hellos(Flood::Kept);
}

#[test]
fn a_flood_of_hellos_that_leave_leaves_nothing() {
    a_flood_of_hellos(Flood::Closed);
}

#[test]
fn a_flood_of_hellos_that_are_reset_leaves_nothing() {
    a_flood_of_hellos(Flood::Reset);
}

#[test]
fn descriptors_stay_within_the_handshakes_in_flight() {
    let _alone = alone();
    let (vault, turnstile) = SlowVault::new();
    let key = vault.public_key();
    turnstile.let_through(usize::MAX);
    let listener = listener(vault, anybody());
    let before = descriptors();
    thread::scope(|scope| {
        accept_all(scope, &listener);
        for _ in 0..HELLOS {
            drop(say_hello(listener.port(), key));
        }
        connect(listener.port(), key).unwrap();
        listener.shutdown();
    });
    let most = turnstile.state.lock().unwrap().most_descriptors;
    // Beside those: one that is being accepted, one at the flooder's end, one that lists them, the honest client's two.
    assert!(most <= before + PER_SOURCE + 5, "{most} descriptors, {before} before");
}

#[test]
fn a_flood_by_one_with_a_key_waits_behind_itself_in_the_registry() {
    let _alone = alone();
    for flood in [Flood::Kept, Flood::Closed, Flood::Reset] {
        // One that has sent its initiate and closes may have said all that it had to say.
        let hung = if flood == Flood::Reset { 1 } else { 2 };
        let vault = memory_vault();
        let key = vault.public_key();
        let turnstile = Arc::new(Turnstile::default());
        let passed = turnstile.clone();
        let judge = move |address| {
            passed.pass(if address == IpAddr::V4(FLOODER) { Who::Flooder } else { Who::Honest })
        };
        let registry = Arc::new(SlowRegistry { at_once: 2, judge: Box::new(judge) });
        let held = Arc::downgrade(&registry);
        let listener = listener(vault, registry);
        thread::scope(|scope| {
            accept_all(scope, &listener);
            let (port, before, holders) = (listener.port(), descriptors(), held.strong_count());
            let mut kept = Vec::new();
            for n in 1..=HELLOS {
                let stream = say_all(port, key);
                turnstile.wait_until_begun(n.min(hung));
                kept.extend(flood.treat(stream));
            }
            wait_until("questions of the flood are kept", || {
                held.strong_count() <= holders + hung + PER_SOURCE
                    && descriptors() <= before + kept.len() + PER_SOURCE
            });
            let waiting = held.strong_count();
            let honest = connect(port, key).unwrap();
            let others = turnstile.others_before(1, waiting, || held.strong_count());
            assert!(others <= 1, "it waits for one other, {flood:?}: {others}");
            turnstile.let_through(HELLOS);
            drop((kept, honest));
            wait_until("a question is kept", || held.strong_count() <= holders);
            wait_until("a descriptor is kept", || descriptors() <= before);
            listener.shutdown();
        });
    }
}

#[test]
fn calls_that_nobody_waits_for_take_no_more_than_half_of_what_a_registry_works_on() {
    const AT_ONCE: usize = 6;
    let _alone = alone();
    let vault = memory_vault();
    let key = vault.public_key();
    let turnstile = Arc::new(Turnstile::default());
    let passed = turnstile.clone();
    // What the flooder has it look up takes for ever, as names of his own in DNS may.
    let judge = move |address| {
        if address == IpAddr::V4(FLOODER) {
            passed.pass(Who::Flooder);
        }
    };
    let listener = listener(vault, Arc::new(SlowRegistry { at_once: AT_ONCE, judge: Box::new(judge) }));
    thread::scope(|scope| {
        accept_all(scope, &listener);
        let port = listener.port();
        for _ in 0..10 * AT_ONCE {
            // Each ends as soon as its call has begun, or as nobody has a turn.
            let begun = turnstile.begun().len();
            let stream = say_all(port, key);
            if begun < AT_ONCE / 2 {
                turnstile.wait_until_begun(begun + 1);
            }
            Flood::Reset.treat(stream);
        }
        let honest = connect(port, key).unwrap();
        honest.send(b"served", SOON).unwrap();
        assert_eq!(honest.recv(&mut [0; 8], SOON), Err(Error::Closed), "accepted and dropped");
        assert!(turnstile.begun().len() < AT_ONCE);
        turnstile.let_through(10 * AT_ONCE);
        listener.shutdown();
    });
}

/// A registry that tells later, and the flooder never: as DNS that does not answer for him.
struct Silent {
    asked: AtomicUsize,
    untold: Mutex<Vec<TellVerdict>>,
}

impl Registry for Silent {
    fn verify(&self, _: &Candidate) -> Result<bool> {
        panic!("it is not to be waited for")
    }

    fn verify_or_tell(&self, candidate: &Candidate, tell: TellVerdict) -> Option<Result<bool>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match candidate.address {
            address if address == IpAddr::V4(FLOODER) => self.untold.lock().unwrap().push(tell),
            // Both ways of an answer.
            _ if self.asked.load(Ordering::SeqCst).is_multiple_of(2) => tell(Ok(true)),
            _ => return Some(Ok(true)),
        }
        None
    }

    fn blocks(&self) -> bool {
        false
    }

    fn answers(&self) -> Answers {
        Answers::Later
    }

    fn calls_at_once(&self) -> usize {
        1
    }
}

#[test]
fn a_registry_that_does_not_block_is_asked_without_a_thread() {
    let _alone = alone();
    let vault = memory_vault();
    let key = vault.public_key();
    let registry = Arc::new(Silent { asked: AtomicUsize::new(0), untold: Mutex::default() });
    let listener = listener(vault, registry.clone());
    thread::scope(|scope| {
        accept_all(scope, &listener);
        let (port, before) = (listener.port(), descriptors());
        for n in 1..=HELLOS {
            let stream = say_all(port, key);
            wait_until("it was not asked", || registry.asked.load(Ordering::SeqCst) == n);
            drop(stream);
        }
        assert!(descriptors() <= before + PER_SOURCE);
        assert_eq!(asking(), 0);
        for _ in 0..4 {
            let honest = connect(port, key).unwrap();
            assert_eq!(honest.recv(&mut [0; 8], SOON), Err(Error::Closed), "accepted and dropped");
        }
        assert_eq!(asking(), 0);
        // A question that gets lost is one that failed.
        registry.untold.lock().unwrap().clear();
        wait_until("a handshake without an answer is kept", || descriptors() <= before);
        listener.shutdown();
    });
}

/// Runs a handshake whose vault hangs, and something that ends it: gives what the handshake said.
fn ended_by(end: impl FnOnce(&Listener, &Socket, TcpStream) + Send) -> Result<()> {
    let (vault, turnstile) = SlowVault::new();
    let (key, held) = (vault.public_key(), Arc::downgrade(&vault));
    let listener = listener(vault, anybody());
    let before = held.strong_count();
    let hung = [(); 3].map(|()| say_hello(listener.port(), key).0);
    let [first, second, third] = &[(); 3].map(|()| listener.transport_accept(SOON).unwrap());
    let result = thread::scope(|scope| {
        // Two calls hang; the third question waits for its turn. Each of them, and each handshake, holds the vault.
        let others = [first, second].map(|socket| scope.spawn(move || socket.handshake(SOON)));
        turnstile.wait_until_begun(2);
        let handshake = scope.spawn(|| third.handshake(SOON));
        wait_until("the question was not asked", || held.strong_count() == before + 2 * 3);
        let [one, two, three] = hung;
        end(&listener, third, three);
        let result = handshake.join().unwrap();
        assert_eq!(turnstile.begun().len(), 2, "a question was put that nobody waited for");
        // Another try says what is so.
        assert_eq!(third.handshake(SOON), Err(Error::Closed));
        assert!(held.strong_count() <= before + 2 * 2, "the question is kept");
        drop((one, two));
        for other in others {
            // Their clients have left.
            assert!(other.join().unwrap().is_err());
        }
        turnstile.let_through(2);
        result
    });
    wait_until("a question is kept", || held.strong_count() <= before);
    result
}

#[test]
fn a_handshake_of_its_own_thread_ends_at_once_whoever_ends_it() {
    let _alone = alone();
    let left = |_: &Listener, _: &Socket, stream: TcpStream| drop(stream);
    assert_eq!(ended_by(left), Err(Error::Closed));
    let half = |_: &Listener, _: &Socket, stream: TcpStream| stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ended_by(half), Err(Error::Closed));
    let reset = |_: &Listener, _: &Socket, stream: TcpStream| drop(Flood::Reset.treat(stream));
    assert_eq!(ended_by(reset), Err(Error::Closed));
    let shutdown = |_: &Listener, socket: &Socket, _: TcpStream| socket.shutdown();
    assert_eq!(ended_by(shutdown), Err(Error::Closed));
    let evicted = |listener: &Listener, _: &Socket, stream: TcpStream| {
        // Those before it give way, too.
        let newcomers: Vec<_> = (0..PER_SOURCE).map(|_| dial(listener.port())).collect();
        let accepted: Vec<_> = newcomers.iter().map(|_| listener.transport_accept(SOON).unwrap()).collect();
        drop((newcomers, accepted, stream));
    };
    assert_eq!(ended_by(evicted), Err(Error::TooManyHandshakes));
}

#[test]
fn the_end_of_a_listener_ends_handshakes_whose_vault_hangs() {
    let _alone = alone();
    let (vault, turnstile) = SlowVault::new();
    let (key, held) = (vault.public_key(), Arc::downgrade(&vault));
    let listener = listener(vault, anybody());
    let before = held.strong_count();
    thread::scope(|scope| {
        let _client = say_hello(listener.port(), key);
        let socket = listener.transport_accept(SOON).unwrap();
        let handshake = scope.spawn(move || socket.handshake(SOON));
        turnstile.wait_until_begun(1);
        listener.shutdown();
        assert_eq!(handshake.join().unwrap(), Err(Error::Closed));
        turnstile.let_through(1);
    });
    wait_until("a question is kept", || held.strong_count() <= before);
}

#[test]
fn the_shutdown_of_a_listener_that_nobody_accepts_at_ends_what_it_has_begun() {
    let _alone = alone();
    let (vault, turnstile) = SlowVault::new();
    let (key, held) = (vault.public_key(), Arc::downgrade(&vault));
    let listener = listener(vault, anybody());
    let before = (held.strong_count(), descriptors());
    let clients: Vec<_> = (0..4).map(|_| say_hello(listener.port(), key).0).collect();
    // The driver begins the handshakes, and leaves.
    wait_until("the questions were not asked", || {
        assert!(listener.accept(Some(std::time::Duration::from_millis(1))).is_err());
        held.strong_count() == before.0 + 4
    });
    turnstile.wait_until_begun(2);
    listener.shutdown();
    clients.iter().for_each(wait_for_end);
    // The calls that have begun go on.
    assert_eq!(held.strong_count(), before.0 + 2);
    drop(clients);
    assert_eq!(descriptors(), before.1);
    turnstile.let_through(2);
    wait_until("a question is kept", || held.strong_count() <= before.0);
}

#[test]
fn a_client_that_says_all_and_closes_is_heard_though_the_registry_takes_its_time() {
    let _alone = alone();
    let vault = memory_vault();
    let key = vault.public_key();
    let turnstile = Arc::new(Turnstile::default());
    let passed = turnstile.clone();
    let registry = SlowRegistry { at_once: 2, judge: Box::new(move |_| passed.pass(Who::Honest)) };
    let listener = listener(vault, Arc::new(registry));
    thread::scope(|scope| {
        let accepted = scope.spawn(|| listener.accept(SOON).unwrap());
        let client = connect(listener.port(), key).unwrap();
        for n in 0..5u8 {
            client.send(&[n; 100], SOON).unwrap();
        }
        client.close();
        turnstile.wait_until_begun(1);
        turnstile.let_through(1);
        let server = accepted.join().unwrap();
        let mut buffer = [0; 200];
        for n in 0..5u8 {
            assert_eq!(server.recv(&mut buffer, SOON), Ok(100));
            assert_eq!(buffer[..100], [n; 100]);
        }
        assert_eq!(server.recv(&mut buffer, SOON), Err(Error::Closed));
    });
}
