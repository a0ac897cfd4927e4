//! The agent among the other programs of a machine: how it is started and ended, and what it
//! inherits at its start.

use crate::support::agent::{AgentProcess, TOOL};
use crate::support::softhsm::{PIN, SoftHsm};
use curve_tun::vault::{AgentVault, Cost, FileVault, MemoryVault, Pkcs11Vault, Purpose, Vault};
use curve_tun::{PublicKey, SecretKey};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use tempfile::TempDir;

struct House {
    folder: TempDir,
    vault: PathBuf,
    socket: PathBuf,
    key: PublicKey,
}

impl House {
    fn new() -> House {
        let folder = tempfile::tempdir().unwrap();
        let [vault, socket] = ["vault", "socket"].map(|name| folder.path().join(name));
        let key = FileVault::create(&vault, None, Cost::default()).unwrap().public_key();
        House { folder, vault, socket, key }
    }

    /// The command that runs the agent through `shell`: "$@" is the agent's command.
    fn by_shell(&self, shell: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", shell, "sh", TOOL, "agent", "--vault"])
            .arg(&self.vault)
            .arg("--socket")
            .arg(&self.socket);
        command
    }

    fn file(&self, name: &str, contents: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    }

    fn serves(&self) -> bool {
        AgentVault::open(&self.socket).is_ok_and(|vault| vault.public_key() == self.key)
    }
}

/// An agent that listens.
struct Running {
    child: Child,
    _out: BufReader<ChildStdout>,
}

impl Running {
    fn of(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (mut out, mut line) = (BufReader::new(child.stdout.take().unwrap()), String::new());
        while !line.starts_with("listening on ") {
            line.clear();
            assert_ne!(out.read_line(&mut line).unwrap(), 0, "the agent ended before it listened");
        }
        Running { child, _out: out }
    }

    fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn end(mut self, signal: Signal) -> ExitStatus {
        self.send(signal);
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Checks what a failing command reports.
fn refused(output: Output, words: &str) {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{said}");
    assert!(said.starts_with("curve-tun: ") && said.contains(words) && said.lines().count() >= 2, "{said}");
}

#[test]
fn signals_that_were_ignored_at_its_start_stay_ignored_and_the_others_end_it_in_order() {
    let house = House::new();
    let orderly = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];
    for (shell, ignored) in [
        ("exec nohup \"$@\" 2>/dev/null", &orderly[..1]),
        // The way that a shell without job control starts background commands.
        ("trap '' INT; exec \"$@\"", &orderly[1..2]),
        ("trap '' HUP INT; exec \"$@\"", &orderly[..2]),
        ("trap '' HUP TERM; exec \"$@\"", &[Signal::SIGHUP, Signal::SIGTERM]),
        ("exec \"$@\"", &[]),
    ] {
        for last in orderly.iter().filter(|signal| !ignored.contains(signal)) {
            let agent = Running::of(house.by_shell(shell));
            for signal in ignored {
                (0..3).for_each(|_| agent.send(*signal));
                assert!(house.serves(), "{shell}: {signal}");
            }
            assert!(agent.end(*last).success(), "{shell}: {last}");
            assert!(!house.socket.exists(), "{shell}: {last}");
        }
    }
}

#[test]
fn signals_end_it_in_order_although_a_module_made_threads() {
    let hsm = SoftHsm::get();
    let pin = hsm.folder().join("pin-of-threaded");
    fs::write(&pin, PIN).unwrap();
    fs::set_permissions(&pin, PermissionsExt::from_mode(0o600)).unwrap();
    drop(Pkcs11Vault::generate(&hsm.uri("suite", "key"), Some(PIN)).unwrap());
    let uri = hsm.uri_by(&hsm.front("threaded", &[]), "suite", "key");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut command = Command::new(TOOL);
        command.args(["agent", "--pkcs11", &uri, "--passphrase-file"]).arg(&pin).arg("--socket").arg(&socket);
        let agent = Running::of(command);
        let mut others = 0;
        for task in fs::read_dir(format!("/proc/{}/task", agent.child.id())).unwrap() {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let field = |name: &str| {
                status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
            };
            let blocked = u64::from_str_radix(&field("SigBlk:"), 16).unwrap();
            if field("Name:") != "signals" {
                others += 1;
                assert_eq!(blocked >> (signal as i32 - 1) & 1, 1, "{signal} could reach {}", field("Name:"));
            }
        }
        assert!(others >= 2, "the module's thread is missing");
        assert!(agent.end(signal).success(), "{signal}");
        assert!(!socket.exists(), "{signal}");
    }
}

#[test]
fn a_signal_before_it_serves_ends_it_at_once() {
    let house = House::new();
    // It waits for a passphrase that never comes.
    FileVault::change_passphrase(&house.vault, None, Some(b"p"), Cost { operations: 1, memory: 8192 })
        .unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        let mut command = house.by_shell("exec \"$@\" --passphrase-file -");
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        // Waiting for the child would close it, and the end of the input is an answer.
        let _stdin = child.stdin.take();
        // A second thread shows that the shell has become the tool, and takes signals.
        let task = format!("/proc/{}/task", child.id());
        while fs::read_dir(&task).unwrap().count() < 2 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal as i32), "{status}");
        assert!(!house.socket.exists());
    }
}

#[test]
fn it_tells_the_service_manager_when_clients_can_come() {
    let house = House::new();
    let place = house.folder.path().join("notify");
    let abstract_name = format!("curve_tun-test-{}", std::process::id());
    let by_path = UnixDatagram::bind(&place).unwrap();
    let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
    for (manager, name) in
        [(by_path, place.to_str().unwrap().to_owned()), (by_name, format!("@{abstract_name}"))]
    {
        let mut command = house.by_shell("exec \"$@\"");
        command.env("NOTIFY_SOCKET", &name).stdout(Stdio::null());
        let mut agent = command.spawn().unwrap();
        let mut told = [0; 64];
        let len = manager.recv(&mut told).unwrap();
        assert_eq!(&told[..len], b"READY=1");
        assert!(house.serves());
        kill(Pid::from_raw(agent.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert!(agent.wait().unwrap().success());
    }
    let mut command = house.by_shell("exec \"$@\"");
    let output = command.env("NOTIFY_SOCKET", house.folder.path().join("nobody")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("NOTIFY_SOCKET"));
    assert!(!house.socket.exists());
}

#[test]
fn it_serves_on_when_nobody_reads_what_it_prints() {
    let house = House::new();
    for out in [">/dev/full", ">&-", "| true"] {
        let script = format!("\"$@\" {out}");
        let mut shell = house.by_shell(&script).spawn().unwrap();
        assert!(house.serves(), "{out}");
        let mut end = Command::new("fuser");
        end.args(["-k", "-TERM"]).arg(&house.vault).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(end.status().expect("fuser, from the package psmisc").success(), "{out}");
        shell.wait().unwrap();
        assert!(!house.socket.exists(), "{out}");
    }
}

#[test]
fn a_secret_key_alone_is_enough_where_nothing_can_be_written() {
    let house = House::new();
    let secret = SecretKey::generate().unwrap();
    let (key, mut text) = (secret.public_key().unwrap(), [0; 44]);
    secret.expose_text(&mut text);
    let mount = house.folder.path().join("mount");
    fs::create_dir(&mount).unwrap();
    let file = house.file("mount/secret", [&text[..], b"\n"].concat(), 0o440);
    fs::set_permissions(&mount, PermissionsExt::from_mode(0o555)).unwrap();
    let mut nonces = Vec::new();
    for _ in 0..2 {
        let agent = AgentProcess::start_for(&["--secret".as_ref(), file.as_os_str()], &house.socket);
        let vault = AgentVault::open(&house.socket).unwrap();
        assert_eq!(vault.public_key(), key);
        let peer = MemoryVault::generate().unwrap();
        let mut sealed = [0; 48];
        let nonce = vault.box_seal(Purpose::Vouch, &peer.public_key(), &[7; 32], &mut sealed).unwrap();
        peer.box_open(Purpose::Vouch, &key, &nonce, &sealed, &mut [0; 32]).unwrap();
        nonces.push(nonce);
        assert!(agent.terminate().success());
    }
    assert_ne!(nonces[0], nonces[1]);
    assert_eq!(fs::read_dir(&mount).unwrap().count(), 1);
    let of = |file: &Path| {
        Command::new(TOOL).args(["agent", "--socket", "/nowhere/s", "--secret"]).arg(file).output().unwrap()
    };
    refused(of(&house.file("bom", [b"\xef\xbb\xbf", &text[..]].concat(), 0o600)), "byte order mark");
    refused(of(&house.file("open", text, 0o644)), "mode 0644");
}

#[test]
fn a_passphrase_that_is_for_nothing_or_that_all_can_read_is_refused() {
    let house = House::new();
    let agent = |file: &Path| {
        let mut command = Command::new(TOOL);
        command.args(["agent", "--socket", "/nowhere/s", "--vault"]).arg(&house.vault);
        command.arg("--passphrase-file").arg(file).stdin(Stdio::null()).output().unwrap()
    };
    let passphrase = house.file("passphrase", "p\n", 0o600);
    refused(agent(&passphrase), "not sealed");
    refused(agent(Path::new("-")), "not sealed");
    FileVault::change_passphrase(&house.vault, None, Some(b"p"), Cost { operations: 1, memory: 8192 })
        .unwrap();
    for mode in [0o604, 0o602, 0o644, 0o620, 0o777] {
        refused(agent(&house.file("passphrase", "p\n", mode)), &format!("mode 0{mode:o}"));
    }
    // The way that orchestrators mount secrets for a service's group.
    for mode in [0o400, 0o440, 0o600, 0o640] {
        refused(agent(&house.file("passphrase", "p\n", mode)), "no such file");
        fs::remove_file(&passphrase).unwrap();
    }
    refused(agent(house.folder.path()), "folder");
    refused(agent(Path::new("/dev/zero")), "1024 bytes");
    // Nobody else can read a pipe.
    let mut command = house.by_shell("exec \"$@\" --passphrase-file /dev/stdin");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"p\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, format!("public key {}\n", house.key));
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
}
