//! Searches for the agent's secrets in its memory from outside: while it serves, and after SIGTERM,
//! when all its work is done and it is held in the system call that ends it.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

use curve_tun::test_util;
use curve_tun::vault::{AgentVault, Cost, FileVault, Pkcs11Vault, Purpose, Vault};
use curve_tun::{PublicKey, SecretKey};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::agent::AgentProcess;
use support::memory::{Needle, counts};
use support::needs;
use support::sodium;
use support::softhsm::SoftHsm;

const CHEAP: Cost = Cost { operations: 1, memory: 8192 };

/// 24 letters that occur nowhere else.
fn letters(step: u8) -> Vec<u8> {
    (0..24).map(|i| b'a' + (i * step + 3) % 26).collect()
}

/// An agent that has been told to end and is held just before it does; it ends when this is
/// dropped.
struct Held {
    agent: AgentProcess,
    strace: Child,
}

impl Held {
    /// Attaches strace, which delays the last system call; then sends SIGTERM.
    fn by_sigterm(agent: AgentProcess) -> Held {
        let process = agent.pid().to_string();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", "trace=exit_group", "-p", &process]);
        strace.args(["-e", "inject=exit_group:delay_enter=600s"]).stderr(Stdio::piped());
        let mut strace = strace.spawn().expect("strace, from the package of that name");
        let mut said = BufReader::new(strace.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains(" attached"), "{line}");
        let held = Held { agent, strace };
        held.agent.send_sigterm();
        let end = Instant::now() + Duration::from_secs(60);
        let call = format!("{} ", libc::SYS_exit_group);
        while !fs::read_to_string(format!("/proc/{process}/syscall")).unwrap().starts_with(&call) {
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        held
    }

    fn counts(&self, needles: &[&Needle]) -> Vec<usize> {
        counts(self.agent.pid(), needles)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// Makes the agent open a vouch, whose shared key it then caches; returns that key.
fn kept_agreement(socket: &Path) -> Needle {
    let vault = AgentVault::open(socket).unwrap();
    let (peer, secret) = sodium::keypair();
    let shared = sodium::BoxKey::agree(&secret, &vault.public_key().0).unwrap();
    let nonce = [3; 16];
    let sealed = shared.sealed(&Purpose::Vouch.nonce(&nonce).unwrap(), &[7; 32]);
    let mut opened = [0; 32];
    vault.box_open(Purpose::Vouch, &PublicKey(peer), &nonce, &sealed, &mut opened).unwrap();
    assert_eq!(opened, [7; 32]);
    Needle::take(&mut shared.into_bytes())
}

/// Makes a sealed vault, and returns its two keys.
fn sealed_vault(path: &Path, passphrase: &[u8]) -> [Needle; 2] {
    let mut keys = [[0; 32]; 2];
    for key in &mut keys {
        SecretKey::generate().unwrap().expose(key);
    }
    test_util::script([&keys[0][..], &keys[1][..], &[5; 16], &[6; 24]]);
    drop(FileVault::create(path, Some(passphrase), CHEAP).unwrap());
    assert_eq!(test_util::remaining(), 0);
    keys.map(|mut key| Needle::take(&mut key))
}

#[test]
fn an_agent_leaves_no_key_and_no_passphrase_after_sigterm() {
    // The agent's own user must not be able to read its memory.
    if !needs::root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (vault, socket, secret) = (file("vault"), file("socket"), file("passphrase"));
    fs::write(&secret, letters(7)).unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let keys = sealed_vault(&vault, &letters(7));
    let passphrase = Needle::take(&mut letters(7));
    let arguments = ["--vault".as_ref(), vault.as_os_str(), "--passphrase-file".as_ref(), secret.as_os_str()];
    let agent = AgentProcess::start_for(&arguments, &socket);
    let kept = kept_agreement(&socket);
    let needles = [&keys[0], &keys[1], &kept];
    assert_eq!(counts(agent.pid(), &needles), [1; 3], "a guarded copy of each, and no other");
    assert_eq!(counts(agent.pid(), &[&passphrase]), [0], "it is needed to open the vault, and no longer");
    let held = Held::by_sigterm(agent);
    assert_eq!(held.counts(&needles), [0; 3], "after SIGTERM");
    assert_eq!(held.counts(&[&passphrase]), [0], "after SIGTERM");
    assert!(!socket.exists());
}

#[test]
fn an_agent_of_a_token_leaves_no_pin_and_no_key_after_sigterm() {
    if !needs::root() {
        return;
    }
    let hsm = SoftHsm::get();
    let pin_file = hsm.folder().join("agent-pin");
    fs::write(&pin_file, letters(9)).unwrap();
    fs::set_permissions(&pin_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    hsm.init_token("agent", &pin_file);
    let (uri, socket) = (hsm.uri("agent", "key"), hsm.folder().join("agent-socket"));
    drop(Pkcs11Vault::generate(&uri, Some(&letters(9))).unwrap());
    let mut nonce_key = [0; 32];
    let state = File::open(hsm.folder().join("agent-key")).unwrap();
    state.read_exact_at(&mut nonce_key, 144).unwrap();
    let (nonce_key, pin) = (Needle::take(&mut nonce_key), Needle::take(&mut letters(9)));
    let with_source = format!("{uri}&pin-source=file:{}", pin_file.display());
    let by_option: [&OsStr; 4] =
        ["--pkcs11".as_ref(), uri.as_ref(), "--passphrase-file".as_ref(), pin_file.as_os_str()];
    let by_uri: [&OsStr; 2] = ["--pkcs11".as_ref(), with_source.as_ref()];
    for arguments in [&by_option[..], &by_uri] {
        let agent = AgentProcess::start_for(arguments, &socket);
        let kept = kept_agreement(&socket);
        assert_eq!(counts(agent.pid(), &[&nonce_key, &kept]), [1; 2], "a guarded copy of each, and no other");
        assert_eq!(counts(agent.pid(), &[&pin]), [1], "the guarded copy to log in again with");
        let held = Held::by_sigterm(agent);
        assert_eq!(held.counts(&[&nonce_key, &kept]), [0; 2], "after SIGTERM");
        assert_eq!(held.counts(&[&pin]), [0], "after SIGTERM");
    }
}
