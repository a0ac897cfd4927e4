//! The example of a service run by an operator: a sealed vault, a registry file, a known server.

use crate::support::c::examples::{Keys, PATIENCE, Server, examples, keygen};
use curve_tun::net::Socket;
use curve_tun::registry::{Entry, FileRegistry, Subject};
use curve_tun::vault::{Cost, FileVault, Vault};
use curve_tun::{Error, PublicKey, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use tempfile::TempDir;

const PASSPHRASE: &[u8] = b"correct horse";

/// The files that an operator prepares for the service.
struct Site {
    folder: TempDir,
    key: PublicKey,
    server: Server,
}

impl Site {
    /// A site whose vault has a passphrase, and whose file of known servers has the key of `known`.
    fn new(client: &Keys, known: Option<&Keys>) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let cost = Cost { operations: 1, memory: 8192 };
        let vault = FileVault::create(&folder.path().join("vault"), Some(PASSPHRASE), cost).unwrap();
        let key = vault.public_key();
        let server_keys = keygen();
        let server =
            Server::start("echo_server", &[], &server_keys, &[&Keys { public: key, secret: String::new() }]);
        let passphrase = folder.path().join("passphrase");
        fs::write(&passphrase, [PASSPHRASE, b"\n"].concat()).unwrap();
        fs::set_permissions(&passphrase, PermissionsExt::from_mode(0o600)).unwrap();
        let site = Site { folder, key, server };
        let at = format!("[127.0.0.1]:{}", site.server.port);
        site.add("registry", "127.0.0.1", client.public);
        site.add("known", &at, known.map_or(server_keys.public, |keys| keys.public));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn add(&self, file: &str, subject: &str, key: PublicKey) {
        let subject: Subject = subject.parse().unwrap();
        FileRegistry::add_to(self.path(file), &Entry { subject, key, comment: String::new() }).unwrap();
    }

    fn relay(&self) -> Relay {
        let mut command = Command::new(examples().join("relay"));
        Relay::start(self.arguments(&mut command), self.key)
    }

    fn arguments<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let vault = format!("vault:{}", self.path("vault").display());
        command.arg("--passphrase-file").arg(self.path("passphrase")).arg(vault);
        command.args(["registry", "known"].map(|name| self.path(name)));
        command.args(["127.0.0.1", "0", "127.0.0.1", &self.server.port.to_string()])
    }
}

struct Relay {
    process: Child,
    said: BufReader<ChildStderr>,
    key: PublicKey,
    port: u16,
}

impl Relay {
    fn start(command: &mut Command, key: PublicKey) -> Relay {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = BufReader::new(process.stderr.take().unwrap());
        let mut relay = Relay { process, said, key, port: 0 };
        let Some(port) = line.strip_prefix("listening on 127.0.0.1:") else {
            panic!("{line}{}", relay.line())
        };
        relay.port = port.trim_end().parse().unwrap();
        relay
    }

    fn connect(&self, client: &Keys) -> Result<Socket> {
        client.connect(self.key, self.port)
    }

    /// Returns the next line that it prints on standard error.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
    }

    fn report(&mut self) -> [String; 3] {
        self.signal(Signal::SIGHUP);
        std::array::from_fn(|_| self.line())
    }

    fn ends(mut self) {
        self.signal(Signal::SIGTERM);
        assert!(self.process.wait().unwrap().success(), "{}", self.line());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn messages_go_through_a_relay_there_and_back() {
    let client = keygen();
    let site = Site::new(&client, None);
    let relay = site.relay();
    let socket = relay.connect(&client).unwrap();
    let mut answer = vec![0; 65_503];
    for size in [0, 1, 1000, 65_503] {
        let message: Vec<u8> = (0..size).map(|i: usize| (i * 7) as u8).collect();
        socket.send(&message, PATIENCE).unwrap();
        let len = socket.recv(&mut answer, PATIENCE).unwrap();
        assert!(answer[..len] == message, "{size} bytes");
    }
    // The relay ends while the client is connected.
    relay.ends();
    assert_eq!(socket.recv(&mut answer, PATIENCE), Err(Error::Closed));
}

#[test]
fn a_server_with_another_key_than_the_known_one_is_not_relayed_to() {
    let client = keygen();
    let site = Site::new(&client, Some(&keygen()));
    let mut relay = site.relay();
    let socket = relay.connect(&client).unwrap();
    assert_eq!(socket.recv(&mut [0; 1], PATIENCE), Err(Error::Closed));
    assert!(relay.line().contains(Error::WrongServerKey.message()));
    relay.ends();
}

/// The client learns nothing that would help; the operator of the relay reads the reason.
#[test]
fn a_relay_says_whom_it_turned_away_and_why() {
    let (client, stranger) = (keygen(), keygen());
    let site = Site::new(&client, None);
    let mut relay = site.relay();
    let _socket = relay.connect(&stranger);
    let expected = format!("refused 127.0.0.1 {}: {}", stranger.public, Error::UnknownPeer.message());
    assert_eq!(relay.line(), expected);
    assert!(relay.connect(&client).is_ok());
    let [registry, ..] = relay.report();
    assert!(registry.ends_with(": in force"), "{registry}");
    relay.ends();
}

#[test]
fn a_hangup_has_a_relay_say_which_files_are_in_force_and_that_the_vault_works() {
    let client = keygen();
    let site = Site::new(&client, None);
    let mut relay = site.relay();
    let [registry, known, vault] = relay.report();
    assert_eq!(registry, format!("{}: in force", site.path("registry").display()));
    assert_eq!(known, format!("{}: in force", site.path("known").display()));
    assert_eq!(vault, "vault: works");
    append(&site.path("registry"), "192.0.2.7 not-a-key\n");
    let [registry, ..] = relay.report();
    assert!(registry.contains("line 2, column 11: "), "{registry}");
    assert!(registry.ends_with("; the entries from before are in force"), "{registry}");
    // Now they are valid.
    assert!(relay.connect(&client).is_ok());
    relay.ends();
}

#[test]
fn a_relay_does_not_start_without_its_passphrase() {
    let client = keygen();
    let site = Site::new(&client, None);
    fs::write(site.path("passphrase"), "another\n").unwrap();
    let output = site.arguments(&mut Command::new(examples().join("relay"))).output().unwrap();
    // A service manager that restarts it again and again would lock a token.
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(Error::WrongPassphrase.message()), "{said}");
}
