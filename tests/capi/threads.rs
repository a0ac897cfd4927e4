//! Threads that share a server.

use crate::support::c::examples::{PATIENCE, Server, keygen, wait_until};
use crate::support::wrapped::{Before, Call, Wrapped};
use crate::support::{HOME, World};
use curve_tun::Error;
use curve_tun::net::Socket;
use curve_tun::registry::{Candidate, MemoryRegistry, Registry};
use curve_tun::vault::Vault;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Lets threads pass in pairs: each waits until another arrives.
#[derive(Default)]
struct Pairs {
    came: Mutex<usize>,
    changed: Condvar,
}

impl Pairs {
    fn meet(&self) -> Result<(), Error> {
        let mut came = self.came.lock().unwrap();
        *came += 1;
        let both = came.next_multiple_of(2);
        self.changed.notify_all();
        let patience = PATIENCE.unwrap();
        let waited = self.changed.wait_timeout_while(came, patience, |came| *came < both).unwrap();
        if waited.1.timed_out() { Err(Error::Timeout) } else { Ok(()) }
    }
}

/// A registry in which there are always two threads at the same time, as in a vault whose calls
/// begin with such a meeting.
struct Together {
    inner: MemoryRegistry,
    pairs: Pairs,
}

impl Before for Pairs {
    fn call(&self, _: &Call) -> Result<(), Error> {
        self.meet()
    }

    fn deferred(&self) -> bool {
        false
    }
}

impl Registry for Together {
    fn verify(&self, candidate: &Candidate) -> Result<bool, Error> {
        self.pairs.meet()?;
        self.inner.verify(candidate)
    }
}

#[test]
fn a_server_holds_no_lock_while_vault_or_registry_work() {
    let vaults = [(); 2].map(|()| Wrapped::around(Pairs::default()));
    let registry = MemoryRegistry::new();
    registry.add(HOME.into(), vaults[0].public_key());
    let registry = Arc::new(Together { inner: registry, pairs: Pairs::default() });
    let [client_vault, server_vault] = vaults;
    let world = World::of(client_vault, server_vault, registry, Default::default());
    thread::scope(|scope| {
        // `connected` fails if any call has stopped waiting for the other thread.
        let handshakes: Vec<_> =
            (0..2).map(|_| scope.spawn(|| (0..10).for_each(|_| drop(world.connected())))).collect();
        handshakes.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Returns how many descriptors each thread of a process watches with its own epoll, the highest
/// number first.
fn watched(server: &Server) -> Vec<usize> {
    let mut counts = BTreeMap::new();
    for entry in server.proc("fdinfo").read_dir().unwrap().flatten() {
        // A descriptor may have been closed since.
        let info = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let count = info.lines().filter(|line| line.starts_with("tfd:")).count();
        counts.insert(entry.file_name(), count);
    }
    let mut counts: Vec<usize> = counts.into_values().filter(|count| *count > 0).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    counts
}

#[track_caller]
fn echo(socket: &Socket, message: &[u8]) {
    let mut buffer = vec![0; message.len()];
    socket.send(message, PATIENCE).unwrap();
    assert_eq!(socket.recv(&mut buffer, PATIENCE), Ok(message.len()));
    assert!(buffer == message);
}

/// Whether the other end has closed it; it sends nothing.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    !stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn a_threaded_server_spreads_its_clients_and_serves_each() {
    const THREADS: usize = 3;
    /// What each loop watches besides clients: its listener, the end signal, answers.
    const OTHERS: usize = 3;
    const CLIENTS: usize = 90;
    let (keys, client) = (keygen(), keygen());
    const HANDSHAKES: usize = 60;
    let options = ["--threads", "3", "--handshakes", &HANDSHAKES.to_string()];
    let server = Server::start("epoll_server", &options, &keys, &[&client]);
    assert_eq!(watched(&server), [OTHERS; THREADS]);
    let descriptors = server.descriptors();
    let crowd: Vec<_> = (0..CLIENTS).map(|_| server.connect(&client)).collect();
    thread::scope(|scope| {
        for (at, sockets) in crowd.chunks(CLIENTS / THREADS).enumerate() {
            scope.spawn(move || {
                for (i, socket) in sockets.iter().enumerate() {
                    echo(socket, &vec![at as u8; 1 + 997 * i]);
                }
            });
        }
    });
    let counts = watched(&server);
    assert_eq!(counts.iter().sum::<usize>(), CLIENTS + OTHERS * THREADS);
    assert!(counts.len() == THREADS && counts.iter().all(|count| *count > OTHERS), "{counts:?}");

    // Silent clients fill the handshakes of all loops, and the oldest are evicted. Once the excess
    // has been evicted, the server has accepted all of them; otherwise an honest client would be
    // evicted by those accepted after it.
    let silent: Vec<_> = (0..2 * HANDSHAKES).map(|_| server.connect_tcp()).collect();
    wait_until("half of them have given way", || {
        silent.iter().filter(|one| is_closed(one)).count() >= HANDSHAKES
    });
    for i in 0..20u8 {
        echo(&server.connect(&client), &[i; 100]);
    }
    drop((crowd, silent));
    wait_until("descriptors are back to the start", || server.descriptors() == descriptors);
    server.ends_by_sigterm();
}
