//! The example's event loop under floods of hellos while its vault is slow: `c-examples/answers.c`
//! holds no more questions than there are handshakes in flight, drops those of clients that were
//! evicted or have left, and lets sources take turns.
//!
//! The test depends on no clock. `support/held_vault.c` sits between the program and the library:
//! each call of the vault waits until the test lets it continue. The test counts how many calls for
//! others come between an honest client's question and its answer, and how many there are in all.

use crate::support::agent::AgentProcess;
use crate::support::c::examples::{Keys, PATIENCE, Server, examples, keygen};
use crate::support::c::{repository, succeed};
use crate::support::gate::wait_until;
use crate::support::turnstile::{
    FLOODERS_KEYS, Flood, HANDSHAKES_MAX, HELLOS, PER_SOURCE, Turnstile, Who, say_hello, wait_for_end,
};
use curve_tun::vault::{Cost, FileVault, Vault};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The limits in c-examples: calls of the vault at once, and clients that are accepted before the
/// others have their turn.
const THREADS: usize = 4;
const BATCH: usize = 16;

/// The test's end of `support/held_vault.c`.
struct Held {
    turnstile: Turnstile,
    /// Questions of the honest client that are waiting, or were.
    asked: AtomicUsize,
}

impl Held {
    /// Listens on `socket` as long as the process runs.
    fn listen(socket: &Path) -> Arc<Held> {
        let listener = UnixListener::bind(socket).unwrap();
        let held = Arc::new(Held { turnstile: Turnstile::default(), asked: AtomicUsize::new(0) });
        let serving = held.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let held = serving.clone();
                thread::spawn(move || held.take_note(stream.unwrap()));
            }
        });
        held
    }

    fn take_note(&self, mut stream: UnixStream) {
        let mut report = [0; 33];
        stream.read_exact(&mut report).unwrap();
        let (what, key) = report.split_first().unwrap();
        let floods = FLOODERS_KEYS.lock().unwrap().iter().any(|floods| floods[..] == *key);
        let who = if floods { Who::Flooder } else { Who::Honest };
        match what {
            b'C' => self.turnstile.pass(who),
            b'A' if who == Who::Honest => _ = self.asked.fetch_add(1, Ordering::SeqCst),
            _ => {}
        }
        // A server that has been killed does not read it.
        let _ = stream.write_all(&[0]);
    }

    /// Lets calls for the flooder through, one after the other, until this question of the honest
    /// client has its turn; returns how many others began while it waited.
    fn others_before(&self, question: usize) -> usize {
        wait_until("the honest client's question was not asked", || {
            self.asked.load(Ordering::SeqCst) >= question
        });
        self.turnstile.let_through_until(question)
    }
}

fn held_vault(folder: &Path) -> PathBuf {
    let library = folder.join("held_vault.so");
    let mut compiler = Command::new("gcc");
    compiler.args(["-std=c99", "-shared", "-fPIC", "-g", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&library);
    compiler.arg("-I").arg(repository().join("include"));
    succeed(compiler.arg(repository().join("tests/support/held_vault.c")).arg("-ldl"));
    library
}

fn a_flood_of_hellos(flood: Flood) {
    let folder = tempfile::tempdir().unwrap();
    let [vault, socket, reports] = ["vault", "agent", "reports"].map(|name| folder.path().join(name));
    let key = FileVault::create(&vault, None, Cost::default()).unwrap().public_key();
    let _agent = AgentProcess::start(&vault, &socket);
    let held = Held::listen(&reports);
    let turnstile = &held.turnstile;
    let (keys, client) = (Keys { public: key, secret: format!("agent:{}", socket.display()) }, keygen());
    let limits = ["--handshakes", &HANDSHAKES_MAX.to_string(), "--per-source", &PER_SOURCE.to_string()];
    let mut program = Command::new(examples().join("epoll_server"));
    program.env("LD_PRELOAD", held_vault(folder.path())).env("HELD_VAULT", &reports);
    let server = Server::run(&mut program, "127.0.0.1", &limits, &keys, &[&client]);

    // The vault keeps one connection to its agent for each concurrent call; so far there is one.
    let before = server.descriptors() + THREADS - 1;
    let (mut kept, mut most) = (Vec::new(), 0);
    // Before any call is over, the flooder's source gets all of the concurrent calls, or half of
    // them if it abandons them.
    let hung = if flood == Flood::Kept { THREADS } else { THREADS / 2 };
    for n in 1..=HELLOS {
        let (stream, _) = say_hello(server.port, key);
        turnstile.wait_until_begun(n.min(hung));
        kept.extend(flood.treat(stream));
        if kept.len() > PER_SOURCE {
            // While it floods, its own oldest handshake is evicted.
            wait_for_end(&kept.remove(0));
        }
        most = most.max(server.descriptors());
    }
    // Each held call has a descriptor, and so has each report in transit. On a busy machine a batch
    // is accepted while the connections evicted by the previous one are being closed.
    let calls = THREADS + 1;
    assert!(most <= before + PER_SOURCE + 2 * BATCH + calls, "{most} descriptors, {before} before");
    wait_until("descriptors of the flood are kept", || server.descriptors() <= before + kept.len() + calls);
    assert!(turnstile.begun().len() <= THREADS);

    let (hello, vouch) = thread::scope(|scope| {
        let honest = scope.spawn(|| server.connect(&client));
        let hello = held.others_before(1);
        let socket = honest.join().unwrap();
        let vouch = held.others_before(2);
        socket.send(b"served", PATIENCE).unwrap();
        assert_eq!(socket.recv(&mut [0; 6], PATIENCE), Ok(6));
        (hello, vouch)
    });
    assert!(hello <= 1 && vouch <= 1, "it waits for one other, {flood:?}: {hello}, {vouch}");

    // The remaining calls may continue: no question of a client that is gone is ever put.
    turnstile.let_through(HELLOS);
    drop(kept);
    wait_until("a descriptor is kept", || server.descriptors() <= before);
    server.ends_by_sigterm();
    let calls = turnstile.count(Who::Flooder);
    assert!(calls <= THREADS + PER_SOURCE, "{calls} calls for {HELLOS} hellos, {flood:?}");
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
