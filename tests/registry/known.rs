//! Trust on first use, and connecting by name.

use crate::support::registry::keys;
use curve_tun::connection::Options;
use curve_tun::net::{Connector, KnownSocket, Listener, TimedServer, Timeout};
use curve_tun::registry::{
    Entry, FileRegistry, FirstUse, KnownServers, MemoryRegistry, Place, Refusal, ServerName, Subject,
};
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, PublicKey};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const SOON: Timeout = Some(Duration::from_secs(20));
const SHORT: Timeout = Some(Duration::from_millis(100));

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known");
    (folder, path)
}

fn name(text: &str) -> ServerName {
    text.parse().unwrap()
}

fn not_asked() -> FirstUse {
    panic!("the server is known")
}

#[test]
fn a_first_use_is_decided_and_remembered() {
    let (_folder, path) = folder();
    let known = KnownServers::open(&path).unwrap();
    let [key, other] = keys();
    let server = name("[a.example]:7000");
    let refused = Err(Refusal::Unknown { offered: key });
    assert_eq!(known.check(&server, &key, || FirstUse::Refuse), refused);
    assert_eq!(known.check(&server, &key, || FirstUse::Once), Ok(false));
    assert_eq!(known.check(&server, &key, || FirstUse::Refuse), refused, "once is not for ever");
    assert_eq!(known.check(&server, &key, || FirstUse::Remember), Ok(true));
    known.remember(&server, &key).unwrap();
    known.remember(&server, &key).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("[a.example]:7000 {key}\n"));

    // As the next run of the program reads it.
    let known = KnownServers::open(&path).unwrap();
    assert_eq!(known.check(&name("[A.Example.]:7000"), &key, not_asked), Ok(false));
    let changed = Refusal::Changed { known: key, offered: other };
    assert_eq!(known.check(&server, &other, not_asked), Err(changed));
    assert!(
        changed.to_string().contains(&key.to_string()) && changed.to_string().contains(&other.to_string())
    );
    assert_eq!(changed.error(), Error::KeyChanged);
    let elsewhere = known.check(&name("[a.example]:7001"), &other, || FirstUse::Once);
    assert_eq!(elsewhere, Ok(false), "another port is another server");
}

#[test]
fn each_refusal_has_its_error_and_says_which_key_it_is_about() {
    let [known, offered] = keys();
    for (refusal, error, named) in [
        (Refusal::Changed { known, offered }, Error::KeyChanged, offered.to_string()),
        (Refusal::Denied { offered }, Error::KeyDenied, offered.to_string()),
        (Refusal::Unknown { offered }, Error::UnknownPeer, offered.to_string()),
        (Refusal::Failed(Error::Timeout), Error::Timeout, Error::Timeout.to_string()),
    ] {
        assert_eq!(refusal.error(), error);
        assert!(refusal.to_string().contains(&named), "{refusal}");
    }
}

#[test]
fn a_registry_that_is_open_remembers_servers_too() {
    let (_folder, path) = folder();
    let [key, client] = keys();
    let registry = Arc::new(FileRegistry::open_or_create(&path).unwrap());
    assert_eq!(registry.path(), path);
    let known = KnownServers::new(registry);
    known.remember(&name("[a.example]:1"), &key).unwrap();
    let anybody = Entry { subject: Subject::Client(Place::Anywhere), key: client, comment: String::new() };
    known.registry().add(&anybody).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("[a.example]:1 {key}\n* {client}\n"));
    assert_eq!(ServerName::new("a.example", 0), Err(Error::InvalidArgument), "port 0 is no server's");
}

#[test]
fn a_denied_key_is_refused_and_its_server_stays_known() {
    let (_folder, path) = folder();
    let [old, new] = keys();
    fs::write(&path, format!("[a.example]:1 {old}\n! {old} stolen\n")).unwrap();
    let known = KnownServers::open(&path).unwrap();
    assert_eq!(known.check(&name("[a.example]:1"), &old, not_asked), Err(Refusal::Denied { offered: old }));
    let first = known.check(&name("[b.example]:1"), &old, not_asked);
    assert_eq!(first, Err(Refusal::Denied { offered: old }));
    let changed = Refusal::Changed { known: old, offered: new };
    assert_eq!(known.check(&name("[a.example]:1"), &new, not_asked), Err(changed));
    for server in ["[a.example]:1", "[b.example]:1"] {
        let denied = Err(Refusal::Denied { offered: old });
        assert_eq!(known.remember(&name(server), &old), denied, "nor is it written down");
    }
}

/// As during the replacement of a server's key: its operator has added the new one.
#[test]
fn one_of_the_keys_that_a_server_is_known_by_is_remembered_already() {
    let (_folder, path) = folder();
    let [old, new, other] = keys();
    let text = format!("[a.example]:1 {old}\n[a.example]:1 {new}\n");
    fs::write(&path, &text).unwrap();
    let (known, server) = (KnownServers::open(&path).unwrap(), name("[a.example]:1"));
    assert_eq!(known.remember(&server, &new), Ok(()));
    let changed = Err(Refusal::Changed { known: old, offered: other });
    assert_eq!(known.remember(&server, &other), changed);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

/// Another program denies the key between the check and the connection.
#[test]
fn a_key_denied_meanwhile_ends_the_tunnel() {
    let (_folder, path) = folder();
    let house = House::new();
    let known = KnownServers::open(&path).unwrap();
    let denial = Entry { subject: Subject::Client(Place::Nowhere), key: house.key, comment: String::new() };
    let meanwhile = || {
        FileRegistry::add_to(&path, &denial).unwrap();
        FirstUse::Remember
    };
    let refused = house.connect(&known, house.key, meanwhile).err();
    assert_eq!(refused, Some(Refusal::Denied { offered: house.key }));
}

#[test]
fn a_key_that_another_program_remembered_first_wins() {
    let (_folder, path) = folder();
    let [first, second] = keys();
    let server = name("[2001:db8::1]:7000");
    let programs = [KnownServers::open(&path).unwrap(), KnownServers::open(&path).unwrap()];
    assert_eq!(programs[0].check(&server, &first, || FirstUse::Remember), Ok(true));
    assert_eq!(programs[1].check(&server, &second, || FirstUse::Remember), Ok(true));
    programs[0].remember(&server, &first).unwrap();
    let changed = Err(Refusal::Changed { known: first, offered: second });
    assert_eq!(programs[1].remember(&server, &second), changed);
    assert_eq!(programs[1].check(&server, &second, not_asked), changed.map(|()| false));
}

#[test]
fn nothing_is_trusted_while_the_file_is_unusable() {
    let (_folder, path) = folder();
    let [key] = keys();
    let server = name("[a.example]:1");
    let known = KnownServers::open(&path).unwrap();
    known.remember(&server, &key).unwrap();
    fs::write(&path, "garbage\n").unwrap();
    let unusable = Refusal::Failed(Error::BadRegistryFile);
    assert_eq!(known.remember(&server, &key), Err(unusable), "nor written down");
    assert_eq!(known.check(&server, &key, not_asked), Err(Refusal::Failed(Error::BadRegistryFile)));
    fs::remove_file(&path).unwrap();
    assert_eq!(known.check(&server, &key, not_asked), Err(Refusal::Failed(Error::FileNotFound)));
}

#[test]
fn names_of_servers_have_one_form() {
    for (host, port, text) in [
        ("Host", 1, "[host]:1"),
        ("a-b_c.example.", 65535, "[a-b_c.example]:65535"),
        ("192.0.2.1", 7, "[192.0.2.1]:7"),
        ("::FFFF:192.0.2.1", 7, "[192.0.2.1]:7"),
        ("2001:DB8:0::1", 7, "[2001:db8::1]:7"),
    ] {
        let name = ServerName::new(host, port).unwrap();
        assert_eq!(name.to_string(), text);
        assert_eq!(text.parse(), Ok(name));
    }
    for (host, text) in [
        ("fe80::1", "[fe80::1]:7"),
        ("FE80:0::1%lo", "[fe80::1%lo]:7"),
        ("fe80::1%1", "[fe80::1%lo]:7"),
        ("fe80::1%Gone0.1", "[fe80::1%Gone0.1]:7"),
        ("febf::1%lo", "[febf::1%lo]:7"),
    ] {
        let name = ServerName::new(host, 7).unwrap();
        assert_eq!(name.to_string(), text);
        assert_eq!(name.address(), host.split('%').next().unwrap().parse().ok());
        assert_eq!(text.parse(), Ok(name));
    }
    for host in
        ["2001:db8::1%lo", "192.0.2.1%lo", "::1%lo", "fe80::1%", "fe80::1%a%b", "fe80::1%a]b", "host%lo"]
    {
        assert_eq!(ServerName::new(host, 1), Err(Error::InvalidArgument), "{host:?}");
    }
    assert_eq!(ServerName::new("fe80::1%an_interface_of_16", 1), Err(Error::InvalidArgument));
    let long = format!("{}.{}", "a".repeat(63), "b.".repeat(96));
    for host in ["", ".", "a..b", "a b", "a/b", "[::1]", "ä", "a\0", &"a".repeat(64), &long] {
        assert_eq!(ServerName::new(host, 1), Err(Error::InvalidArgument), "{host:?}");
    }
    for text in ["a:1", "[a]", "[a]:", "[a]:0", "[a]:01", "[a]:+1", "[a]:65536", "[a] :1", "[]:1"] {
        assert_eq!(text.parse::<ServerName>(), Err(Error::InvalidArgument), "{text:?}");
    }
}

/// A listener that lets `client` in and whose clients are accepted by a thread.
struct House {
    listener: Arc<Listener>,
    accepting: Option<thread::JoinHandle<()>>,
    client: Arc<MemoryVault>,
    key: PublicKey,
}

impl House {
    fn new() -> House {
        let client = Arc::new(MemoryVault::generate().unwrap());
        let vault = Arc::new(MemoryVault::generate().unwrap());
        let registry = MemoryRegistry::new();
        registry.add(Place::Anywhere, client.public_key());
        let key = vault.public_key();
        let server = TimedServer::new(vault, Arc::new(registry), Options::default()).unwrap();
        let listener = Arc::new(Listener::bind("127.0.0.1", 0, server).unwrap());
        let accept = listener.clone();
        let accepting = thread::spawn(move || while !matches!(accept.accept(None), Err(Error::Closed)) {});
        House { listener, accepting: Some(accepting), client, key }
    }

    fn connect(
        &self,
        known: &KnownServers,
        key: PublicKey,
        first_use: impl Fn() -> FirstUse + Send + Sync,
    ) -> Result<KnownSocket, Refusal> {
        let (port, options) = (self.listener.port(), Options::default());
        Connector::new(self.client.clone())
            .server_key(key)
            .known_servers(known, |_| first_use())
            .options(options.clone())
            .timeout(SOON)
            .connect_known("localhost", port)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.listener.shutdown();
        self.accepting.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_key_is_remembered_once_the_server_has_proven_it() {
    let (_folder, path) = folder();
    let house = House::new();
    let [wrong] = keys();
    let known = KnownServers::open(&path).unwrap();
    let failed = house.connect(&known, wrong, || FirstUse::Remember).err();
    assert_eq!(failed, Some(Refusal::Failed(Error::WrongServerKey)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "", "a wrong key is not remembered");
    house.connect(&known, house.key, || FirstUse::Once).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
    house.connect(&known, house.key, || FirstUse::Remember).unwrap();
    let line = format!("[localhost]:{} {}\n", house.listener.port(), house.key);
    assert_eq!(fs::read_to_string(&path).unwrap(), line);
    house.connect(&known, house.key, not_asked).unwrap();
    let changed = house.connect(&known, wrong, not_asked).err();
    assert_eq!(changed, Some(Refusal::Changed { known: house.key, offered: wrong }));
}

/// As on a file system mounted read-only, and when something other than a lock has the lock's name.
#[test]
fn a_tunnel_outlives_a_key_that_cannot_be_remembered() {
    let (folder, path) = folder();
    let house = House::new();
    let known = KnownServers::open(&path).unwrap();
    fs::create_dir(folder.path().join("known.lock")).unwrap();
    let talks = |made: KnownSocket, remembered| {
        assert_eq!(made.remembered, remembered);
        assert_eq!(made.socket.peer_key(), Ok(house.key));
        made.socket.send(b"hello", SOON).unwrap();
    };
    talks(house.connect(&known, house.key, || FirstUse::Remember).unwrap(), Err(Error::Io));
    fs::remove_dir(folder.path().join("known.lock")).unwrap();

    // Only this thread sees these mounts.
    unshare(CloneFlags::CLONE_NEWNS).expect("needs root");
    let mount = |from: Option<&Path>, to: &Path, flags| {
        nix::mount::mount(from, to, None::<&str>, flags, None::<&str>).unwrap();
    };
    mount(None, Path::new("/"), MsFlags::MS_PRIVATE | MsFlags::MS_REC);
    mount(Some(folder.path()), folder.path(), MsFlags::MS_BIND);
    mount(None, folder.path(), MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
    talks(house.connect(&known, house.key, || FirstUse::Remember).unwrap(), Err(Error::ReadOnly));
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
    let refused = house.connect(&known, house.key, || FirstUse::Refuse).err();
    assert_eq!(refused, Some(Refusal::Unknown { offered: house.key }), "the next use is a first use again");
    nix::mount::umount(folder.path()).unwrap();
    talks(house.connect(&known, house.key, || FirstUse::Remember).unwrap(), Ok(true));
    talks(house.connect(&known, house.key, not_asked).unwrap(), Ok(false));
}

/// Another program remembers another key between the check and the connection: the same as a first
/// use twice.
#[test]
fn a_key_remembered_meanwhile_ends_the_tunnel() {
    let (_folder, path) = folder();
    let house = House::new();
    let known = KnownServers::open(&path).unwrap();
    let [other] = keys();
    let name = ServerName::new("localhost", house.listener.port()).unwrap();
    let meanwhile = || {
        KnownServers::open(&path).unwrap().remember(&name, &other).unwrap();
        FirstUse::Remember
    };
    let refused = house.connect(&known, house.key, meanwhile).err();
    assert_eq!(refused, Some(Refusal::Changed { known: other, offered: house.key }));
}

#[test]
fn a_changed_key_is_refused_before_anything_is_sent() {
    let (_folder, path) = folder();
    let [old, new] = keys();
    let known = KnownServers::open(&path).unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    known.remember(&ServerName::new("127.0.0.1", port).unwrap(), &old).unwrap();
    let vault = Arc::new(MemoryVault::generate().unwrap());
    let options = Options::default();
    let refused = Connector::new(vault)
        .server_key(new)
        .known_servers(&known, |_| not_asked())
        .options(options.clone())
        .timeout(SHORT)
        .connect_known("127.0.0.1", port);
    assert_eq!(refused.err(), Some(Refusal::Changed { known: old, offered: new }));
    nobody.set_nonblocking(true).unwrap();
    assert_eq!(nobody.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_client_connects_by_name_and_tries_the_keys_in_turn() {
    let (_folder, path) = folder();
    let house = House::new();
    let registry = FileRegistry::open_or_create(&path).unwrap();
    let connect = || {
        let (port, options) = (house.listener.port(), Options::default());
        Connector::new(house.client.clone())
            .server_keys(&registry)
            .options(options.clone())
            .timeout(SOON)
            .connect("LocalHost", port)
    };
    assert_eq!(connect().err(), Some(Error::NotFound));
    let subject = Subject::Server(ServerName::new("localhost", house.listener.port()).unwrap());
    let [old] = keys();
    let add = |key| registry.add(&Entry { subject: subject.clone(), key, comment: String::new() }).unwrap();
    assert!(add(old));
    assert_eq!(connect().err(), Some(Error::WrongServerKey));
    assert!(add(house.key));
    assert_eq!(connect().unwrap().peer_key(), Ok(house.key));
    registry.remove(&subject, &old).unwrap();
    registry
        .add(&Entry { subject: Subject::Client(Place::Nowhere), key: house.key, comment: String::new() })
        .unwrap();
    assert_eq!(connect().err(), Some(Error::NotFound), "a denied key is not tried");
}
