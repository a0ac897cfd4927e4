//! The observer of a server with sockets: it is called by the accepting threads, without a lock.

use crate::support::wrapped::{Before, Call, Wrapped};
use curve_tun::connection::{HandshakeEvent, HandshakeOutcome as Outcome, Options};
use curve_tun::net::{Connector, Listener, Socket, TimedServer, Timeout};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, PublicKey, Result};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

const SOON: Timeout = Some(Duration::from_secs(60));
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A remote vault that is out of order.
struct Broken;

impl Before for Broken {
    fn call(&self, _: &Call) -> Result<()> {
        Err(Error::VaultFailed)
    }
}

struct Site {
    server: Arc<TimedServer>,
    listener: Arc<Listener>,
    client: Arc<MemoryVault>,
    key: PublicKey,
    told: Mutex<Receiver<HandshakeEvent>>,
}

fn memory() -> Arc<MemoryVault> {
    Arc::new(MemoryVault::generate().unwrap())
}

impl Site {
    fn of(vault: Arc<dyn Vault>, options: Options) -> Site {
        let client = memory();
        let registry = MemoryRegistry::new();
        registry.add_anywhere(client.public_key());
        let key = vault.public_key();
        let server = TimedServer::new(vault, Arc::new(registry), options).unwrap();
        let (say, told) = channel();
        let say = Mutex::new(say);
        // A test that has seen enough drops the receiver.
        server.server().observe(move |event| _ = say.lock().unwrap().send(event.clone())).unwrap();
        let listener = Arc::new(Listener::bind("127.0.0.1", 0, server.clone()).unwrap());
        Site { server, listener, client, key, told: Mutex::new(told) }
    }

    fn new() -> Site {
        Site::of(memory(), Options::default())
    }

    /// Accepts until it is shut down.
    fn accepting(&self) -> thread::JoinHandle<()> {
        let listener = self.listener.clone();
        thread::spawn(move || while listener.accept(None).is_ok() {})
    }

    fn connect(&self, vault: Arc<dyn Vault>) -> Result<Socket> {
        let options = Options::default().handshake_timeout(Duration::from_secs(60));
        Connector::new(vault)
            .server_key(self.key)
            .options(options.clone())
            .timeout(SOON)
            .connect("127.0.0.1", self.listener.port())
    }

    fn raw(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.listener.port())).unwrap()
    }

    fn no_more(&self) -> bool {
        self.told.lock().unwrap().try_recv().is_err()
    }

    fn next(&self) -> (Option<PublicKey>, Outcome) {
        let event = self.told.lock().unwrap().recv_timeout(SOON.unwrap()).expect("nothing is told");
        assert_eq!(event.address, HERE);
        (event.key, event.outcome)
    }
}

#[test]
fn a_vault_that_fails_is_told_to_the_server_and_looks_like_another_key_to_the_client() {
    let site = Site::of(Wrapped::around(Broken), Options::default());
    let accepting = site.accepting();
    assert_eq!(site.connect(site.client.clone()).err(), Some(Error::WrongServerKey));
    assert_eq!(site.next(), (None, Outcome::Refused(Error::VaultFailed)));
    site.listener.shutdown();
    accepting.join().unwrap();
    assert!(site.no_more());
}

#[test]
fn each_client_is_told_once_with_what_became_of_it() {
    let site = Site::new();
    let accepting = site.accepting();

    site.connect(site.client.clone()).unwrap();
    assert_eq!(site.next(), (Some(site.client.public_key()), Outcome::Accepted));

    let stranger = memory();
    let _socket = site.connect(stranger.clone());
    assert_eq!(site.next(), (Some(stranger.public_key()), Outcome::Refused(Error::UnknownPeer)));

    let mut raw = site.raw();
    raw.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(site.next(), (None, Outcome::Refused(Error::BadPacket)));

    // It sends half a hello, so that its handshake has begun, and leaves.
    let mut raw = site.raw();
    raw.write_all(&[0, 128]).unwrap();
    while site.server.server().handshakes_in_flight() == 0 {
        thread::yield_now();
    }
    drop(raw);
    assert_eq!(site.next(), (None, Outcome::Refused(Error::Closed)));

    site.listener.shutdown();
    accepting.join().unwrap();
    assert!(site.no_more());
}

#[test]
fn a_silent_client_is_told_when_its_time_is_over() {
    let site = Site::of(memory(), Options::default().handshake_timeout(Duration::from_millis(1)));
    let accepting = site.accepting();
    let _silent = site.raw();
    assert_eq!(site.next(), (None, Outcome::Refused(Error::Timeout)));
    site.listener.shutdown();
    accepting.join().unwrap();
}

#[test]
fn who_gives_way_is_told_as_evicted() {
    let site = Site::of(memory(), Options::default().handshakes_max(1));
    let accepting = site.accepting();
    let _silent = site.raw();
    while site.server.server().handshakes_in_flight() == 0 {
        thread::yield_now();
    }
    site.connect(site.client.clone()).unwrap();
    assert_eq!(site.next(), (None, Outcome::Evicted));
    assert_eq!(site.next(), (Some(site.client.public_key()), Outcome::Accepted));
    site.listener.shutdown();
    accepting.join().unwrap();
}

#[test]
fn handshakes_that_the_end_of_a_listener_ends_are_told() {
    // Ended by a shutdown.
    let site = Site::new();
    let accepting = site.accepting();
    let mut silent = site.raw();
    while site.server.server().handshakes_in_flight() == 0 {
        thread::yield_now();
    }
    site.listener.shutdown();
    accepting.join().unwrap();
    assert_eq!(site.next(), (None, Outcome::Refused(Error::Closed)));
    assert!(!matches!(silent.read(&mut [0]), Ok(1..)));

    // Ended by a drop, after an accept that ended before the handshake did.
    let site = Site::new();
    let _silent = site.raw();
    while site.server.server().handshakes_in_flight() == 0 {
        assert_eq!(site.listener.accept(Some(Duration::from_millis(1))).err(), Some(Error::Timeout));
    }
    let told = site.told.into_inner().unwrap();
    drop(site.listener);
    assert_eq!(told.recv_timeout(SOON.unwrap()).unwrap().outcome, Outcome::Refused(Error::Closed));
}

/// The handshake is the caller's: run, abandoned at its deadline, shut down, or dropped.
#[test]
fn handshakes_of_the_program_s_own_threads_are_told() {
    let site = Site::new();
    thread::scope(|scope| {
        let client = scope.spawn(|| site.connect(site.client.clone()).unwrap());
        let socket = site.listener.transport_accept(SOON).unwrap();
        assert!(site.no_more());
        socket.handshake(SOON).unwrap();
        assert_eq!(site.next(), (Some(site.client.public_key()), Outcome::Accepted));
        drop(client.join().unwrap());
        drop(socket);
    });
    let ends: [(fn(Socket), Error); 3] = [
        (|socket| assert_eq!(socket.handshake(Some(Duration::ZERO)), Err(Error::Timeout)), Error::Timeout),
        (|socket| socket.shutdown(), Error::Closed),
        (drop, Error::Closed),
    ];
    for (end, error) in ends {
        let _silent = site.raw();
        end(site.listener.transport_accept(SOON).unwrap());
        assert_eq!(site.next(), (None, Outcome::Refused(error)));
    }
    assert!(site.no_more());
}

/// The observer itself shuts down the listener: if a lock were held, this would deadlock.
#[test]
fn an_observer_may_use_server_listener_and_sockets() {
    static LISTENER: OnceLock<Arc<Listener>> = OnceLock::new();
    static SOCKET: OnceLock<Socket> = OnceLock::new();
    let client = memory();
    let registry = MemoryRegistry::new();
    registry.add_anywhere(client.public_key());
    let vault = memory();
    let key = vault.public_key();
    let server = TimedServer::new(vault, Arc::new(registry), Options::default()).unwrap();
    let (say, told) = channel();
    let say = Mutex::new(say);
    let inside = Arc::downgrade(server.server());
    let observe = move |event: &HandshakeEvent| {
        let in_flight = inside.upgrade().unwrap().handshakes_in_flight();
        if event.outcome == Outcome::Accepted {
            LISTENER.get().unwrap().shutdown();
        } else {
            SOCKET.get().unwrap().shutdown();
            assert_eq!(SOCKET.get().unwrap().handshake(SOON), Err(Error::Closed));
        }
        say.lock().unwrap().send((in_flight, event.outcome)).unwrap();
    };
    server.server().observe(observe).unwrap();
    let listener = LISTENER.get_or_init(|| Arc::new(Listener::bind("127.0.0.1", 0, server.clone()).unwrap()));
    let connect = || {
        let address = ("127.0.0.1", listener.port());
        Connector::new(client.clone()).server_key(key).timeout(SOON).connect(address.0, address.1)
    };
    thread::scope(|scope| {
        // A thread of the program does this handshake.
        let _silent = TcpStream::connect(listener.local_addr()).unwrap();
        let socket = SOCKET.get_or_init(|| listener.transport_accept(SOON).unwrap());
        assert_eq!(socket.handshake(Some(Duration::ZERO)), Err(Error::Timeout));
        assert_eq!(told.recv().unwrap(), (0, Outcome::Refused(Error::Timeout)));
        // The listener's thread does this one, and it is over for everybody when its observer has
        // shut down the listener.
        let connecting = scope.spawn(connect);
        let accepted = listener.accept(SOON);
        assert_eq!(told.recv().unwrap(), (0, Outcome::Accepted));
        assert_eq!(accepted.err(), Some(Error::Closed));
        let _ = connecting.join().unwrap();
    });
}

#[test]
fn an_observer_that_panics_ends_no_accept() {
    let vault = memory();
    let client = memory();
    let registry = MemoryRegistry::new();
    registry.add_anywhere(client.public_key());
    let key = vault.public_key();
    let server = TimedServer::new(vault, Arc::new(registry), Options::default()).unwrap();
    server.server().observe(|_| panic!("the observer")).unwrap();
    let listener = Listener::bind("127.0.0.1", 0, server).unwrap();
    thread::scope(|scope| {
        let connect = || {
            Connector::new(client.clone())
                .server_key(key)
                .timeout(SOON)
                .connect("127.0.0.1", listener.port())
                .unwrap()
        };
        let mut raw = TcpStream::connect(listener.local_addr()).unwrap();
        raw.write_all(&[0xff; 200]).unwrap();
        for _ in 0..2 {
            let connecting = scope.spawn(connect);
            let socket = listener.accept(SOON).unwrap();
            assert_eq!(socket.peer_key().unwrap(), client.public_key());
            drop(connecting.join().unwrap());
        }
    });
}
