//! Every call that takes a time accepts every value of its type: the longest means for ever, and
//! zero means at once.

use crate::support;
use crate::support::agent::AgentProcess;
use curve_tun::Error;
use curve_tun::connection::{Connection, Options, Server};
use curve_tun::net::{Connector, Listener, TimedServer};
use curve_tun::registry::{DnsOptions, DnsRegistry, MemoryRegistry, ServerKeys};
use curve_tun::vault::{AgentVault, Cost, FileVault, MemoryVault, Purpose, Vault};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Times that no clock reaches, up to the longest value.
const LONGEST: [Duration; 3] =
    [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_millis(u64::MAX)];

#[test]
fn an_agents_clients_may_have_all_the_time_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, socket) = (folder.path().join("vault"), folder.path().join("socket"));
    let key = FileVault::create(&vault, None, Cost::default()).unwrap().public_key();
    let seal = |vault: &AgentVault| vault.box_seal(Purpose::Cookie, &key, &[], &mut [0; 16]).map(drop);
    for timeout in LONGEST {
        let first = AgentProcess::spawn(&vault, &socket);
        // It waits for the agent, which may not be running yet, and for the next one.
        let patient = AgentVault::open_with_timeout(&socket, timeout).unwrap();
        seal(&patient).unwrap();
        let mut agent = None;
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| seal(&patient).unwrap());
            }
            first.terminate();
            agent = Some(AgentProcess::start(&vault, &socket));
        });
        drop(agent);
    }
    let _agent = AgentProcess::start(&vault, &socket);
    for timeout in [Duration::ZERO, Duration::from_nanos(1)] {
        let opened = AgentVault::open_with_timeout(&socket, timeout);
        assert!(
            opened.as_ref().map_or_else(|error| *error == Error::Timeout, |vault| vault.public_key() == key)
        );
    }
}

#[test]
fn sockets_take_every_timeout() {
    let vaults = [(); 2].map(|()| Arc::new(MemoryVault::generate().unwrap()));
    let [server_vault, client_vault] = &vaults;
    let registry = Arc::new(MemoryRegistry::new());
    registry.add_anywhere(client_vault.public_key());
    for timeout in LONGEST {
        let options = Options::default().handshake_timeout(Duration::from_millis(u64::MAX));
        let server = TimedServer::new(server_vault.clone(), registry.clone(), options.clone()).unwrap();
        let listener = Listener::bind("127.0.0.1", 0, server).unwrap();
        let timeout = Some(timeout);
        for in_steps in [false, true] {
            thread::scope(|scope| {
                let client = scope.spawn(|| {
                    let (vault, key) = (client_vault.clone(), server_vault.public_key());
                    let socket = Connector::new(vault)
                        .server_key(key)
                        .options(options.clone())
                        .timeout(timeout)
                        .connect("127.0.0.1", listener.port())
                        .unwrap();
                    socket.send(b"here", timeout).unwrap();
                    socket.recv_with(timeout, |message| Ok(message.to_vec())).unwrap()
                });
                let socket = if in_steps {
                    let socket = listener.transport_accept(timeout).unwrap();
                    socket.handshake(timeout).unwrap();
                    socket
                } else {
                    listener.accept(timeout).unwrap()
                };
                let mut message = [0; 4];
                assert_eq!(socket.recv(&mut message, timeout), Ok(4));
                socket.send_many([&message[..]], timeout).unwrap();
                assert_eq!(client.join().unwrap(), b"here");
            });
        }
        let none = Some(Duration::ZERO);
        assert_eq!(listener.accept(none).err(), Some(Error::Timeout));
        assert_eq!(listener.transport_accept(none).err(), Some(Error::Timeout));
    }
}

#[test]
fn a_registry_in_dns_takes_every_timeout() {
    // If nothing answers, a registry waits for its own timeout, even if its caller would wait
    // longer.
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let options = |timeout_ms| {
        DnsOptions::default()
            .servers(vec![nobody.local_addr().unwrap()])
            .timeout(Duration::from_millis(timeout_ms))
    };
    for timeout_ms in [0, 3_600_001, u64::MAX] {
        assert_eq!(DnsRegistry::open("test", &options(timeout_ms)).err(), Some(Error::InvalidArgument));
    }
    let registry =
        DnsRegistry::open("test", &options(1).ttl_max(Duration::MAX).cache_max(usize::MAX)).unwrap();
    for timeout in LONGEST {
        let failed = |error| matches!(error, Some(Error::Timeout | Error::RegistryFailed | Error::NotFound));
        assert!(failed(registry.lookup(support::HOME, Some(timeout)).err()));
        assert!(failed(registry.server_keys(&"[host.test]:1".parse().unwrap(), Some(timeout)).err()));
    }
}

#[test]
fn clocks_may_stand_at_their_end() {
    let vault = Arc::new(MemoryVault::generate().unwrap());
    for handshake_timeout_ms in [1, u64::MAX] {
        let options = Options::default().handshake_timeout(Duration::from_millis(handshake_timeout_ms));
        for start in [0, u64::MAX - 1, u64::MAX] {
            let server =
                Server::new(vault.clone(), Arc::new(MemoryRegistry::new()), options.clone(), start).unwrap();
            for now in [start, 0, u64::MAX / 2, u64::MAX, u64::MAX, 0] {
                server.tick(now).unwrap();
                let of_server = Connection::server(&server, support::HOME).unwrap();
                let of_client = Connection::client(vault.clone(), vault.public_key(), &options).unwrap();
                for mut connection in [of_server, of_client] {
                    // At the end of its clock a connection has no time left; otherwise it has.
                    for next in [now, u64::MAX, 0] {
                        let ticked = connection.tick(next);
                        assert!(
                            matches!(ticked, Ok(Some(_)) | Err(Error::Timeout | Error::Closed)),
                            "{ticked:?}"
                        );
                    }
                }
            }
        }
    }
}
