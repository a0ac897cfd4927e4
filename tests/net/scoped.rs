//! Link-local addresses with their interface, on a real one. Needs root, for a separate network
//! namespace, and `ip`.
#![cfg(target_os = "linux")]

use curve_tun::connection::Options;
use curve_tun::net::{Connector, Listener, TimedServer, Timeout};
use curve_tun::registry::{FirstUse, KnownServers, MemoryRegistry, Refusal, ServerName};
use curve_tun::vault::{MemoryVault, Vault};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const SOON: Timeout = Some(Duration::from_secs(60));

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("needs ip of iproute2");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

/// Puts this thread, and those that it starts, into a separate network namespace with two
/// interfaces.
fn own_network() {
    unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
    ip("link set lo up");
    ip("link add one type veth peer name two");
    for (name, address) in [("one", "fe80::1/64"), ("two", "fe80::2/64")] {
        ip(&format!("link set {name} up"));
        ip(&format!("-6 address add {address} dev {name} nodad"));
    }
}

#[test]
fn a_link_local_address_keeps_its_interface_and_is_known_by_it() {
    own_network();
    let index = nix::net::if_::if_nametoindex("one").unwrap();
    let [server_vault, client] = [(); 2].map(|()| Arc::new(MemoryVault::generate().unwrap()));
    let key = server_vault.public_key();
    let registry = MemoryRegistry::new();
    registry.add("fe80::/10".parse().unwrap(), client.public_key());
    let server = TimedServer::new(server_vault, Arc::new(registry), Options::default()).unwrap();
    let listener = Listener::bind("fe80::1%one", 0, server).unwrap();
    let port = listener.port();
    let folder = tempfile::tempdir().unwrap();
    let known = KnownServers::open(folder.path().join("known")).unwrap();
    let connect = |host: &str, key, first_use| {
        let options = Options::default();
        Connector::new(client.clone())
            .server_key(key)
            .known_servers(&known, |_| first_use)
            .options(options.clone())
            .timeout(SOON)
            .connect_known(host, port)
    };
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| [listener.accept(SOON).unwrap(), listener.accept(SOON).unwrap()]);
        let first = connect("fe80::1%one", key, FirstUse::Remember).unwrap();
        assert_eq!(first.remembered, Ok(true));
        let by_number = connect(&format!("fe80:0::1%{index}"), key, FirstUse::Refuse).unwrap();
        for (client, server) in [first.socket, by_number.socket].into_iter().zip(accepting.join().unwrap()) {
            for address in [client.peer_addr(), server.peer_addr(), listener.local_addr()] {
                assert!(matches!(address, SocketAddr::V6(v6) if v6.scope_id() == index), "{address}");
            }
            assert_eq!(server.peer_addr(), client.local_addr());
            client.send(b"hello", SOON).unwrap();
            assert_eq!(server.recv_with(SOON, |message| Ok(message == b"hello")), Ok(true));
        }
    });
    let line = format!("[fe80::1%one]:{port} {key}\n");
    assert_eq!(fs::read_to_string(folder.path().join("known")).unwrap(), line);
    let other = client.public_key();
    let changed = connect("FE80::1%one", other, FirstUse::Remember).err();
    assert_eq!(changed, Some(Refusal::Changed { known: key, offered: other }));
    for elsewhere in ["fe80::1%two", "fe80::1", "fe80::2%one"] {
        let unknown = connect(elsewhere, key, FirstUse::Refuse).err();
        assert_eq!(unknown, Some(Refusal::Unknown { offered: key }), "{elsewhere}");
    }
    let name = |host: &str| ServerName::new(host, 7).map(|name| name.to_string());
    assert_eq!(name(&format!("fe80::1%{index}")).unwrap(), "[fe80::1%one]:7");
    assert_eq!(name("fe80::1%gone").unwrap(), "[fe80::1%gone]:7");
}
