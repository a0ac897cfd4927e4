//! The agent: the tool as a process, its clients, and what they must not be able to do to it.

use crate::support;
use crate::support::agent::{AgentProcess, TOOL};
use crate::support::needs;
use curve_tun::connection::{Connection, ConnectionState, Options, Server};
use curve_tun::registry::MemoryRegistry;
use curve_tun::vault::{Agent, AgentVault, Cost, FileVault, MemoryVault, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const CHEAP: Cost = Cost { operations: 1, memory: 8192 };
/// Long enough for everything expected; a test that takes this long has failed.
const SOON: Duration = Duration::from_secs(20);

/// A folder with a file vault and room for a socket.
struct House {
    _folder: TempDir,
    vault: PathBuf,
    socket: PathBuf,
    key: PublicKey,
}

impl House {
    fn new() -> House {
        let folder = tempfile::tempdir().unwrap();
        let (vault, socket) = (folder.path().join("vault"), folder.path().join("socket"));
        let key = FileVault::create(&vault, None, CHEAP).unwrap().public_key();
        House { _folder: folder, vault, socket, key }
    }

    fn start(&self) -> AgentProcess {
        AgentProcess::start(&self.vault, &self.socket)
    }

    fn open(&self) -> AgentVault {
        AgentVault::open_with_timeout(&self.socket, SOON).unwrap()
    }
}

fn nonce(vault: &dyn Vault) -> Result<[u8; 16], Error> {
    vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16])
}

#[test]
fn messages_of_every_size_go_through_and_larger_ones_are_refused() {
    let house = House::new();
    let _agent = house.start();
    let vault = house.open();
    assert_eq!((vault.public_key(), vault.deferred()), (house.key, true));
    let (mut largest, mut sealed) = (vec![7; 65_503], vec![0; 65_503 + 16]);
    let nonce = vault.box_seal(Purpose::Vouch, &house.key, &largest, &mut sealed).unwrap();
    largest.fill(0);
    vault.box_open(Purpose::Vouch, &house.key, &nonce, &sealed, &mut largest).unwrap();
    assert!(largest.iter().all(|byte| *byte == 7));
    let over = vault.box_seal(Purpose::Vouch, &house.key, &[0; 65_600], &mut [0; 65_616]);
    assert_eq!(over, Err(Error::TooLarge));
}

#[test]
fn a_handshake_is_answered_by_agents_at_both_ends() {
    let (here, there) = (House::new(), House::new());
    let _agents = (here.start(), there.start());
    let (client_vault, server_vault) = (Arc::new(here.open()), Arc::new(there.open()));
    let registry = Arc::new(MemoryRegistry::new());
    registry.add_anywhere(here.key);
    let options = Options::default();
    let server = Server::new(server_vault.clone(), registry.clone(), options.clone(), 0).unwrap();
    let mut client = Connection::client(client_vault.clone(), there.key, &options).unwrap();
    let mut server = Connection::server(&server, support::HOME).unwrap();
    for _ in 0..8 {
        support::settle(&mut client, &mut server).unwrap();
        for (end, vault) in [(&mut client, &client_vault), (&mut server, &server_vault)] {
            if let Some(request) = end.request().cloned() {
                end.answer(request.perform(&**vault, &*registry)).unwrap();
            }
        }
    }
    assert_eq!(server.state(), ConnectionState::Connected);
    assert_eq!(server.peer_key(), Some(here.key));
    client.send(b"by agents").unwrap();
    support::settle(&mut client, &mut server).unwrap();
    assert_eq!(support::recv(&mut server).unwrap(), b"by agents");
}

#[test]
fn the_socket_is_its_users_alone_and_goes_with_the_agent() {
    let house = House::new();
    let agent = house.start();
    let metadata = fs::symlink_metadata(&house.socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    assert!(agent.terminate().success());
    assert!(!house.socket.exists());
    FileVault::open(&house.vault, None).unwrap();
}

#[test]
fn nobody_can_dump_or_trace_the_agent() {
    let house = House::new();
    let agent = house.start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", agent.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    // A process that is not dumpable cannot be traced by its user; its files in /proc belong to
    // root.
    let mut as_nobody = Command::new("cat");
    as_nobody.arg(format!("/proc/{}/environ", agent.pid()));
    if nix::unistd::geteuid().is_root() {
        as_nobody.uid(65_534).gid(65_534);
    }
    assert!(!as_nobody.output().unwrap().status.success());
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    assert!(status.lines().any(|line| line.starts_with("VmLck:") && !line.ends_with(" 0 kB")));
}

#[test]
fn another_user_is_not_answered() {
    if !needs::root() {
        return;
    }
    let house = House::new();
    let agent = house.start();
    fs::set_permissions(&house.socket, PermissionsExt::from_mode(0o777)).unwrap();
    fs::set_permissions(house.socket.parent().unwrap(), PermissionsExt::from_mode(0o755)).unwrap();
    let stranger =
        Command::new(TOOL).args(["public", "--agent"]).arg(&house.socket).uid(65_534).gid(65_534).output();
    let stranger = stranger.unwrap();
    assert_eq!(stranger.status.code(), Some(1), "{}", String::from_utf8_lossy(&stranger.stderr));
    drop(agent);
}

#[test]
fn requests_that_are_none_end_one_connection_or_are_refused() {
    let house = House::new();
    let _agent = house.start();
    let vault = house.open();
    let ask = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&house.socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut response = Vec::new();
        // The agent may close with unread bytes, which the system reports as a reset.
        let _ = stream.read_to_end(&mut response);
        response
    };
    const NOTHING: [u8; 0] = [];
    let refused = |error: Error| vec![0, 0, 0, 1, error.code() as u8];
    assert_eq!(ask(&[]), NOTHING);
    assert_eq!(ask(&[0, 0, 0]), NOTHING);
    assert_eq!(ask(&[0, 0, 0, 0]), NOTHING);
    assert_eq!(ask(&[0xff; 64]), NOTHING);
    assert_eq!(ask(&[0, 1, 0, 0x22]), NOTHING, "one byte over the largest frame");
    assert_eq!(ask(&[0, 0, 0, 9, 1]), NOTHING, "cut short");
    assert_eq!(ask(&[0, 0, 0, 1, 0]), refused(Error::InvalidArgument));
    assert_eq!(ask(&[0, 0, 0, 1, 5]), refused(Error::InvalidArgument));
    assert_eq!(ask(&[0, 0, 0, 1, 1]), refused(Error::InvalidArgument));
    assert_eq!(ask(&[0, 0, 0, 2, 1, 2]), refused(Error::VaultVersion));
    for kind in 2..=4 {
        for len in [1u8, 2, 33, 34, 35, 49, 50, 120, 255] {
            let mut request = vec![0, 0, 0, len, kind];
            request.resize(4 + usize::from(len), 1);
            let response = ask(&request);
            assert_eq!(response.len(), 5, "kind {kind}, {len} bytes: {response:?}");
            assert_ne!(response[4], 0);
        }
    }
    // A vault never seals a hello's box, whatever is asked.
    let mut hello = vec![0, 0, 0, 34, 2, 1];
    hello.resize(38, 9);
    assert_eq!(ask(&hello), refused(Error::InvalidArgument));
    nonce(&vault).unwrap();
}

#[test]
fn silent_clients_and_those_that_read_nothing_keep_nobody_waiting() {
    let house = House::new();
    let _agent = house.start();
    let silent: Vec<_> = (0..300)
        .map(|i| {
            let mut stream = UnixStream::connect(&house.socket).unwrap();
            // Some have sent half a request.
            stream.write_all(&[0, 0, 1][..i % 4]).unwrap();
            stream
        })
        .collect();
    let deaf = UnixStream::connect(&house.socket).unwrap();
    deaf.set_nonblocking(true).unwrap();
    while (&deaf).write(&[0, 0, 0, 2, 1, 1].repeat(100)).is_ok() {}
    for _ in 0..10 {
        nonce(&house.open()).unwrap();
    }
    drop((silent, deaf));
    nonce(&house.open()).unwrap();
}

#[test]
fn an_agent_that_is_out_of_descriptors_lets_the_clients_go_that_were_silent_longest() {
    let house = House::new();
    let _agent = AgentProcess::start_with_descriptors(16, &house.vault, &house.socket);
    let mut silent: Vec<_> = (0..40).map(|_| UnixStream::connect(&house.socket).unwrap()).collect();
    for _ in 0..10 {
        nonce(&house.open()).unwrap();
    }
    silent[0].set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(silent[0].read(&mut [0]).unwrap(), 0, "it was let go");
}

#[test]
fn many_clients_share_one_identity_and_no_nonce() {
    let house = House::new();
    let _agent = house.start();
    let drawn: Vec<[u8; 16]> = thread::scope(|scope| {
        let draw = || (0..200).map(|_| nonce(&house.open()).unwrap()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(draw)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 1600);
}

#[test]
fn clients_find_an_agent_that_was_restarted() {
    let house = House::new();
    let agent = house.start();
    let vault = house.open();
    let before = nonce(&vault).unwrap();
    agent.kill();
    thread::scope(|scope| {
        let asked = scope.spawn(|| nonce(&vault));
        let _agent = house.start();
        assert_ne!(asked.join().unwrap().unwrap(), before);
        nonce(&vault).unwrap();
    });
}

#[test]
fn an_agent_that_comes_back_with_another_key_is_refused() {
    let (house, other) = (House::new(), House::new());
    let agent = house.start();
    let vault = house.open();
    nonce(&vault).unwrap();
    agent.terminate();
    let agent = AgentProcess::start(&other.vault, &house.socket);
    assert_eq!(nonce(&vault), Err(Error::VaultFailed));
    agent.terminate();
    let _agent = house.start();
    nonce(&vault).unwrap();
}

#[test]
fn requests_have_a_deadline() {
    let house = House::new();
    let socket = UnixListener::bind(&house.socket).unwrap();
    let short = Duration::from_millis(100);
    assert_eq!(AgentVault::open_with_timeout(&house.socket, short).err(), Some(Error::Timeout));
    drop(socket);
    fs::remove_file(&house.socket).unwrap();
    let agent = house.start();
    let vault = AgentVault::open_with_timeout(&house.socket, short).unwrap();
    agent.terminate();
    assert_eq!(nonce(&vault), Err(Error::Timeout));
}

#[test]
fn callers_wait_for_one_anothers_connections_until_their_own_deadline() {
    let house = House::new();
    let socket = UnixListener::bind(&house.socket).unwrap();
    thread::scope(|scope| {
        // An agent that sends its key and answers nothing else, until the client disconnects.
        scope.spawn(|| {
            let mut held = Vec::new();
            for stream in socket.incoming() {
                let mut stream = stream.unwrap();
                if stream.read_exact(&mut [0; 6]).is_err() {
                    break;
                }
                // The client may have given up meanwhile.
                let _ = stream.write_all(&[&[0, 0, 0, 34, 0, 1][..], &house.key.0].concat());
                held.push(stream);
            }
        });
        let vault = AgentVault::open_with_timeout(&house.socket, Duration::from_millis(300)).unwrap();
        thread::scope(|callers| {
            for _ in 0..12 {
                callers.spawn(|| assert_eq!(nonce(&vault), Err(Error::Timeout)));
            }
        });
        UnixStream::connect(&house.socket).unwrap();
    });
}

#[test]
fn an_agents_socket_that_cannot_be_reached_any_more_is_an_error_of_its_own() {
    let house = House::new();
    let folder = house.socket.with_file_name("folder");
    fs::create_dir(&folder).unwrap();
    let socket = folder.join("socket");
    let agent = AgentProcess::start(&house.vault, &socket);
    let vault = AgentVault::open_with_timeout(&socket, SOON).unwrap();
    nonce(&vault).unwrap();
    agent.terminate();
    fs::remove_dir(&folder).unwrap();
    symlink(&folder, &folder).unwrap();
    assert_eq!(nonce(&vault), Err(Error::Io));
}

#[test]
fn an_agent_that_answers_nonsense_is_an_error() {
    let house = House::new();
    let socket = UnixListener::bind(&house.socket).unwrap();
    let another_version = [&[0, 0, 0, 34, 0, 2][..], &house.key.0].concat();
    for nonsense in [
        &[0, 0, 0, 0][..],
        &[0xff; 64],
        &[0, 0, 0, 2, 0, 1],
        &[0, 0, 0, 1, 200],
        &[0, 0, 0, 2, 1, 1],
        &another_version,
    ] {
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = socket.accept().unwrap();
                stream.read_exact(&mut [0; 6]).unwrap();
                stream.write_all(nonsense).unwrap();
            });
            let opened = AgentVault::open_with_timeout(&house.socket, SOON);
            assert_eq!(opened.err(), Some(Error::VaultFailed), "{nonsense:?}");
        });
    }
}

#[test]
fn where_no_agent_comes_that_is_said_when_the_time_is_over() {
    let house = House::new();
    let open = |timeout| AgentVault::open_with_timeout(&house.socket, timeout).err();
    let short = Duration::from_millis(100);
    for timeout in [Duration::ZERO, short] {
        assert_eq!(open(timeout), Some(Error::FileNotFound));
    }
    drop(UnixListener::bind(&house.socket).unwrap());
    for timeout in [Duration::ZERO, short] {
        assert_eq!(open(timeout), Some(Error::ConnectionRefused));
    }
    let long = house.socket.with_file_name("x".repeat(120));
    assert_eq!(AgentVault::open(&long).err(), Some(Error::InvalidArgument));
}

#[test]
fn a_program_that_starts_before_its_agent_waits_for_it() {
    let house = House::new();
    let folder = house.socket.with_file_name("run");
    let socket = folder.join("socket");
    thread::scope(|scope| {
        let client = scope.spawn(|| AgentVault::open_with_timeout(&socket, SOON).unwrap().public_key());
        // At first there is no folder, later no socket, and then nobody who listens at it.
        fs::create_dir(&folder).unwrap();
        drop(UnixListener::bind(&socket).unwrap());
        let _agent = AgentProcess::start(&house.vault, &socket);
        assert_eq!(client.join().unwrap(), house.key);
    });
}

#[test]
fn a_dead_socket_gives_way_and_nothing_else_does() {
    let house = House::new();
    let bind = || Agent::bind(&house.socket, Arc::new(MemoryVault::generate().unwrap()));
    fs::write(&house.socket, b"precious").unwrap();
    assert_eq!(bind().err(), Some(Error::AlreadyExists));
    assert_eq!(fs::read(&house.socket).unwrap(), b"precious");
    fs::remove_file(&house.socket).unwrap();
    let alive = UnixListener::bind(&house.socket).unwrap();
    assert_eq!(bind().err(), Some(Error::AddressInUse));
    drop(alive);
    drop(bind().unwrap());
    assert!(!house.socket.exists());
}

#[test]
fn an_agent_in_this_process_stops_when_told() {
    let house = House::new();
    let vault = Arc::new(MemoryVault::generate().unwrap());
    let agent = Agent::bind(&house.socket, vault.clone()).unwrap();
    let (stop, stopped) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        let running = scope.spawn(|| agent.run(stopped.as_fd()));
        assert_eq!(house.open().public_key(), vault.public_key());
        drop(stop);
        assert_eq!(running.join().unwrap(), Ok(()));
    });
}
