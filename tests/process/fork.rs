//! After `fork()` the child has the parent's counters, so every use of the parent's objects in it
//! gives `Forked`.

#[path = "../support/mod.rs"]
mod support;

use curve_tun::connection::{Answer, Connection, Options};
use curve_tun::net::{Connector, Listener, Stream, TimedServer};
use curve_tun::registry::MemoryRegistry;
use curve_tun::stream::{self, AbortCode};
use curve_tun::vault::{AgentVault, Cost, FileVault, MemoryVault, Pkcs11Vault, Purpose, Vault};
use curve_tun::{Error, Result};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support::agent::AgentProcess;
use support::softhsm;
use support::softhsm::SoftHsm;
use support::{HOME, World, recv, settle};

/// Runs `checks` in a child of this process and returns the index of the first that was false.
#[allow(unsafe_code, reason = "fork is the case under test")]
fn first_failed_in_child(mut checks: impl FnMut() -> Vec<bool>) -> Option<usize> {
    // SAFETY: the child runs `checks` on its only thread and leaves by _exit; it never returns.
    match unsafe { libc::fork() } {
        -1 => panic!("no child could be made"),
        0 => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut checks));
            let failed = |results: &Vec<bool>| results.iter().position(|ok| !ok).map_or(0, |n| n + 1);
            let code = outcome.as_ref().map_or(255, failed);
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(code as i32) }
        }
        child => {
            let mut status = 0;
            // SAFETY: `child` is a child of this process, and waited for once.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert!(libc::WIFEXITED(status), "the child ended by a signal");
            (libc::WEXITSTATUS(status) as usize).checked_sub(1)
        }
    }
}

fn forked<T>(result: Result<T>) -> bool {
    result.err() == Some(Error::Forked)
}

#[test]
fn a_childs_findings_reach_its_parent() {
    assert_eq!(first_failed_in_child(|| vec![true, true]), None);
    assert_eq!(first_failed_in_child(|| vec![true, false]), Some(1));
}

#[test]
fn a_childs_every_call_on_its_parents_connection_says_forked() {
    let (mut client, mut server) = World::new().connected();
    server.send(b"waiting").unwrap();
    settle(&mut client, &mut server).unwrap();
    client.send(b"pending").unwrap();
    let failed = first_failed_in_child(|| {
        vec![
            forked(client.send(b"the same counter twice")),
            client.send_buffer().is_empty(),
            !client.wants_write(),
            forked(client.transmit(&mut [0; 100])),
            forked(client.feed(b"x")),
            forked(client.recv_buffer()),
            forked(client.received(0)),
            forked(client.peek()),
            forked(client.recv(&mut [0; 100])),
            forked(client.answer(Answer::Verdict(true))),
            forked(client.tick(0)),
            client.transport_ended() == Error::Forked,
            forked(server.on_evict(|| {})),
        ]
    });
    assert_eq!(failed, None);
    // The parent continues as if there had been no child.
    settle(&mut client, &mut server).unwrap();
    assert_eq!(recv(&mut client).unwrap(), b"waiting");
    assert_eq!(recv(&mut server).unwrap(), b"pending");
}

#[test]
fn a_childs_calls_on_its_parents_stream_say_forked_and_abort_nothing() {
    let (vault, client) =
        (Arc::new(MemoryVault::generate().unwrap()), Arc::new(MemoryVault::generate().unwrap()));
    let registry = Arc::new(MemoryRegistry::new());
    registry.add_anywhere(client.public_key());
    let key = vault.public_key();
    let listener = Listener::builder(vault, registry).bind("127.0.0.1", 0).unwrap();
    let port = listener.port();
    let connecting =
        thread::spawn(move || Connector::new(client).server_key(key).connect("127.0.0.1", port).unwrap());
    let served = listener.accept(Some(Duration::from_secs(20))).unwrap();
    let client = Stream::client(connecting.join().unwrap(), &stream::Options::stream());
    (&client).write_all(b"before").unwrap();
    let pending = Stream::server(served, &stream::Options::stream(), Some(Duration::from_secs(20))).unwrap();
    let mut server = Some(pending.accept().unwrap());
    let failed = first_failed_in_child(|| {
        // As it says to whoever awaits nothing of `std::io`.
        let said = |error: std::io::Error| error.get_ref().and_then(|e| e.downcast_ref()).copied();
        let forked_io = |result: std::io::Result<usize>| result.err().and_then(said) == Some(Error::Forked);
        let results = vec![
            forked_io((&client).read(&mut [0; 9])),
            forked_io((&client).write(b"x")),
            (&client).flush().err().and_then(said) == Some(Error::Forked),
            forked(client.finish_write()),
            forked(client.send_message(b"x")),
            forked(client.recv_message(&mut Vec::new())),
            client.peer().is_none() && client.abort_received().is_none(),
        ];
        client.abort(AbortCode::Internal);
        // Its end says nothing to the peer.
        server = None;
        results
    });
    assert_eq!(failed, None);
    let mut server = server.unwrap();
    client.finish_write().unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"before");
    server.finish_write().unwrap();
    assert_eq!((&client).read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn a_childs_calls_on_its_parents_socket_say_forked_and_disturb_it_not() {
    let soon = Some(Duration::from_secs(20));
    let vault = Arc::new(MemoryVault::generate().unwrap());
    let (key, registry) = (vault.public_key(), MemoryRegistry::new());
    registry.add_anywhere(key);
    let server = TimedServer::new(vault.clone(), Arc::new(registry), Options::default()).unwrap();
    let listener = Listener::bind("127.0.0.1", 0, server).unwrap();
    let (client, server) = thread::scope(|scope| {
        let options = Options::default();
        let port = listener.port();
        let client = scope.spawn(move || {
            Connector::new(vault)
                .server_key(key)
                .options(options.clone())
                .timeout(soon)
                .connect("127.0.0.1", port)
                .unwrap()
        });
        let server = listener.accept(soon).unwrap();
        (client.join().unwrap(), server)
    });
    let failed = first_failed_in_child(|| {
        vec![forked(client.send(b"the same counter twice", soon)), forked(client.recv(&mut [0; 100], soon))]
    });
    assert_eq!(failed, None);
    for (from, to) in [(&client, &server), (&server, &client)] {
        from.send(b"as before", soon).unwrap();
        assert_eq!(to.recv_with(soon, |message| Ok(message.to_vec())), Ok(b"as before".to_vec()));
    }
}

/// Waits until this many threads of this name are asleep.
fn wait_until_asleep(name: &str, count: usize) {
    let asleep = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        // One may have ended since it was listed.
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
        stats.filter(|stat| stat.contains(&format!("({name}) S"))).count()
    };
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while asleep() < count {
        assert!(std::time::Instant::now() < end, "{name} does not wait");
        thread::yield_now();
    }
}

#[test]
fn a_child_hangs_in_no_lock_that_a_thread_of_its_parent_holds() {
    let vault = Arc::new(MemoryVault::generate().unwrap());
    let (key, registry) = (vault.public_key(), MemoryRegistry::new());
    registry.add_anywhere(key);
    let timed = TimedServer::new(vault.clone(), Arc::new(registry), Options::default()).unwrap();
    let bind = || Listener::bind("127.0.0.1", 0, timed.clone());
    let (accepting, giving) = (bind().unwrap(), bind().unwrap());
    let (client, server) = thread::scope(|scope| {
        let (port, options) = (accepting.port(), Options::default());
        let connect = move || {
            Connector::new(vault).server_key(key).options(options.clone()).connect("127.0.0.1", port).unwrap()
        };
        let client = scope.spawn(connect);
        let server = accepting.accept(None).unwrap();
        (client.join().unwrap(), server)
    });
    let silent = std::net::TcpStream::connect(giving.local_addr()).unwrap();
    let shaking = giving.transport_accept(None).unwrap();
    // Each holds the locks of its object while it waits.
    let calls: [&(dyn Fn() -> Option<Error> + Sync); 4] = [
        &|| accepting.accept(None).err(),
        &|| giving.transport_accept(None).err(),
        &|| server.recv(&mut [0; 8], None).err(),
        &|| shaking.handshake(None).err(),
    ];
    let failed = thread::scope(|scope| {
        let waiting = calls
            .map(|call| thread::Builder::new().name("waits".to_owned()).spawn_scoped(scope, call).unwrap());
        wait_until_asleep("waits", waiting.len());
        let failed = first_failed_in_child(|| {
            let checks = vec![
                forked(accepting.accept(None)),
                forked(accepting.transport_accept(None)),
                forked(giving.accept(None)),
                forked(giving.transport_accept(None)),
                forked(server.recv(&mut [0; 8], None)),
                forked(server.send(b"x", None)),
                forked(shaking.handshake(None)),
                forked(bind()),
                forked(timed.server().tick(0)),
                timed.server().handshakes_in_flight() == 0,
            ];
            accepting.shutdown();
            server.shutdown();
            shaking.shutdown();
            checks
        });
        accepting.shutdown();
        giving.shutdown();
        server.shutdown();
        assert_eq!(waiting.map(|thread| thread.join().unwrap()), [Some(Error::Closed); 4]);
        failed
    });
    assert_eq!(failed, None);
    drop((client, silent));
}

#[test]
fn a_childs_every_call_on_its_parents_vault_says_forked() {
    let world = World::new();
    let (vault, peer) = (&world.client_vault, world.server_key());
    let failed = first_failed_in_child(|| {
        // A connection that the child makes itself still uses the parent's vault.
        let own = World::new();
        let mut client = Connection::client(vault.clone(), own.server_key(), &own.options).unwrap();
        vec![
            forked(vault.box_seal(Purpose::Vouch, &peer, &[], &mut [0; 16])),
            forked(vault.box_open(Purpose::Vouch, &peer, &[0; 16], &[0; 16], &mut [])),
            settle(&mut client, &mut own.accept()) == Err(Error::Forked),
            forked(Connection::server(&world.server, HOME)),
        ]
    });
    assert_eq!(failed, None);
    settle_anew(&world);
}

fn settle_anew(world: &World) {
    let (mut client, mut server) = world.pair();
    settle(&mut client, &mut server).unwrap();
}

#[test]
fn a_child_makes_connections_of_its_own() {
    // The parent has used the library before, as a forking server would have.
    settle_anew(&World::new());
    let failed = first_failed_in_child(|| {
        let (mut client, mut server) = World::new().connected();
        client.send(b"from the child").unwrap();
        settle(&mut client, &mut server).unwrap();
        vec![recv(&mut server).unwrap() == b"from the child", MemoryVault::generate().is_ok()]
    });
    assert_eq!(failed, None);
}

#[test]
fn a_grandchild_is_no_more_trusted_than_a_child() {
    let (mut client, _server) = World::new().connected();
    let send = |client: &mut Connection| vec![forked(client.send(b"x"))];
    let failed = first_failed_in_child(|| vec![first_failed_in_child(|| send(&mut client)).is_none()]);
    assert_eq!(failed, None);
}

#[test]
fn a_childs_copy_of_a_file_vault_gives_nothing_and_its_end_unlocks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let mut vault = Some(FileVault::create(&path, None, Cost::default()).unwrap());
    let peer = vault.as_ref().unwrap().public_key();
    let seal = |vault: &FileVault| vault.box_seal(Purpose::Vouch, &peer, &[], &mut [0; 16]);
    let failed = first_failed_in_child(|| {
        let mine = vault.take().unwrap();
        let answers =
            vec![forked(seal(&mine)), FileVault::open(&path, None).err() == Some(Error::VaultInUse)];
        drop(mine);
        // The parent's lock is still held.
        [answers, vec![FileVault::open(&path, None).err() == Some(Error::VaultInUse)]].concat()
    });
    assert_eq!(failed, None);
    let vault = vault.unwrap();
    seal(&vault).unwrap();
    drop(vault);
    FileVault::open(&path, None).unwrap();
}

#[test]
#[allow(unsafe_code, reason = "fork is the case under test")]
fn a_file_vault_that_is_dropped_is_free_while_a_child_has_its_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let vault = FileVault::create(&path, None, Cost::default()).unwrap();
    // SAFETY: the child does nothing but wait for its end.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    }
    assert_ne!(child, -1, "no child could be made");
    drop(vault);
    let again = FileVault::open(&path, None).map(drop);
    let mut status = 0;
    // SAFETY: `child` is a child of this process, and waited for once.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, &mut status, 0);
    }
    again.unwrap();
}

#[test]
fn a_file_vault_may_be_named_without_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    // In a separate process, since it changes its working directory.
    let failed = first_failed_in_child(|| {
        std::env::set_current_dir(folder.path()).unwrap();
        let made = FileVault::create(Path::new("vault"), None, Cost::default()).map(drop);
        vec![made.is_ok(), FileVault::open(Path::new("vault"), None).is_ok()]
    });
    assert_eq!(failed, None);
    assert!(folder.path().join("vault").is_file());
}

#[test]
fn a_childs_copy_of_a_vault_of_an_agent_or_a_token_gives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, socket) = (folder.path().join("vault"), folder.path().join("socket"));
    drop(FileVault::create(&path, None, Cost::default()).unwrap());
    let _agent = AgentProcess::start(&path, &socket);
    let hsm = SoftHsm::get();
    let vaults: [Box<dyn Vault>; 2] = [
        Box::new(AgentVault::open(&socket).unwrap()),
        Box::new(Pkcs11Vault::generate(&hsm.uri("suite", "key"), Some(softhsm::PIN)).unwrap()),
    ];
    for vault in vaults {
        let peer = vault.public_key();
        let seal = || vault.box_seal(Purpose::Vouch, &peer, &[], &mut [0; 16]);
        seal().unwrap();
        let failed = first_failed_in_child(|| {
            let open = vault.box_open(Purpose::Vouch, &peer, &[0; 16], &[0; 16], &mut []);
            let hello = vault.answer_hello(&peer, &[0; 80], &mut || Ok([0; 128]));
            vec![forked(seal()), forked(open), forked(hello)]
        });
        assert_eq!(failed, None);
        seal().unwrap();
    }
}
