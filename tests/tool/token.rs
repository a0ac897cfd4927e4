//! The tool and a token whose PIN is refused, or that is removed: exit codes, the agent's output,
//! the check of the agent.

use crate::support::agent::TOOL;
use crate::support::softhsm::{PIN, Removable, SoftHsm};
use curve_tun::Error;
use curve_tun::vault::{Pkcs11Vault, Vault};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for everything expected; a test that takes this long has failed.
const SOON: Duration = Duration::from_secs(30);
/// The documented exit code for a refused PIN.
const REFUSED: i32 = 4;

/// An agent whose output and error lines are read as they come; ended when dropped.
struct Told {
    child: Child,
    lines: Receiver<String>,
    socket: PathBuf,
}

impl Told {
    fn start(uri: &str, name: &str) -> Told {
        Told::start_with(&SoftHsm::get().conf(), uri, name)
    }

    /// Starts it with SoftHSM's tokens in the place that this file names.
    fn start_with(conf: &Path, uri: &str, name: &str) -> Told {
        let hsm = SoftHsm::get();
        let socket = hsm.folder().join(name);
        let mut agent = Command::new(TOOL);
        agent.env("SOFTHSM2_CONF", conf);
        agent.args(["agent", "--pkcs11", uri, "--passphrase-file"]).arg(hsm.pin_file());
        let mut child =
            agent.arg("--socket").arg(&socket).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let also = sender.clone();
        thread::spawn(move || BufReader::new(out).lines().all(|line| sender.send(line.unwrap()).is_ok()));
        thread::spawn(move || BufReader::new(err).lines().all(|line| also.send(line.unwrap()).is_ok()));
        let told = Told { child, lines, socket };
        told.until("listening on");
        told
    }

    /// Waits for a line with these words; returns the lines before it.
    fn until(&self, words: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            match self.lines.recv_timeout(SOON) {
                Ok(line) if line.contains(words) => return before,
                Ok(line) => before.push(line),
                Err(error) => panic!("no {words:?}: {error}; {before:?}"),
            }
        }
    }

    fn check(&self) -> Output {
        Command::new(TOOL).args(["check", "--agent"]).arg(&self.socket).output().unwrap()
    }

    /// Repeats the check until the agent can use its key.
    fn until_it_can(&self) -> String {
        let end = Instant::now() + SOON;
        loop {
            let output = self.check();
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap();
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(Instant::now() < end, "{said}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns what a failing check reports.
fn fails(output: Output) -> String {
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_agent_says_when_its_token_goes_and_when_it_is_back_and_is_checked_by_its_key() {
    let hsm = SoftHsm::get();
    let token = Removable::new("watched", false);
    let uri = hsm.uri_by(&token.module, "lost", "watched");
    let key = Pkcs11Vault::generate(&uri, Some(PIN)).unwrap().public_key();
    let agent = Told::start(&uri, "watched-socket");
    assert_eq!(agent.until_it_can(), format!("{key}\n"));
    for _ in 0..2 {
        token.take_away();
        // It remembers its public key, so that proves nothing.
        let public = Command::new(TOOL).args(["public", "--agent"]).arg(&agent.socket).output().unwrap();
        assert_eq!(String::from_utf8(public.stdout).unwrap(), format!("{key}\n"));
        for _ in 0..3 {
            let said = fails(agent.check());
            assert!(said.contains("cannot use its key") && said.contains("is away"), "{said}");
        }
        token.bring_back();
        assert_eq!(agent.until_it_can(), format!("{key}\n"));
        let before = agent.until("the vault answers again");
        assert_eq!(before.len(), 1, "one line for three failures: {before:?}");
        assert!(before[0].contains("the vault fails") && before[0].contains("is away"), "{before:?}");
    }
    token.take_away();
    fails(agent.check());
    token.refuse(Some(Error::WrongPassphrase));
    token.bring_back();
    let logins = token.logins();
    for _ in 0..3 {
        let said = fails(agent.check());
        assert!(said.contains("Start the agent again"), "{said}");
    }
    assert_eq!(token.logins(), logins + 1);
    agent.until("is away");
    assert_eq!(agent.until("refused the PIN"), [""; 0]);
}

#[test]
fn an_agent_finds_a_token_of_softhsm_that_was_away_by_itself_and_by_p11_kit() {
    let hsm = SoftHsm::get();
    let key = Pkcs11Vault::generate(&hsm.uri("state", "moved"), Some(PIN)).unwrap().public_key();
    // In a separate folder, since all tokens are removed.
    let place = tempfile::tempdir().unwrap();
    let (tokens, away) = (place.path().join("tokens"), place.path().join("away"));
    assert!(Command::new("cp").arg("-a").arg(hsm.tokens()).arg(&tokens).status().unwrap().success());
    let conf = place.path().join("softhsm2.conf");
    fs::write(&conf, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    for uri in [hsm.uri("state", "moved"), hsm.uri_by_default("state", "moved")] {
        let agent = Told::start_with(&conf, &uri, "moved-socket");
        for _ in 0..2 {
            assert_eq!(agent.until_it_can(), format!("{key}\n"));
            fs::rename(&tokens, &away).unwrap();
            for _ in 0..2 {
                assert!(fails(agent.check()).contains("is away"));
            }
            fs::rename(&away, &tokens).unwrap();
        }
        assert_eq!(agent.until_it_can(), format!("{key}\n"));
    }
}

#[test]
fn a_refused_pin_has_an_exit_code_that_the_documented_unit_does_not_restart_on() {
    let hsm = SoftHsm::get();
    let token = Removable::new("restarted", false);
    let uri = hsm.uri_by(&token.module, "restarts", "key");
    drop(Pkcs11Vault::generate(&uri, Some(PIN)).unwrap());
    let wrong = hsm.folder().join("wrong-pin");
    fs::write(&wrong, "not-this").unwrap();
    fs::set_permissions(&wrong, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let run = |args: &[&str], pin: &Path| {
        let mut tool = Command::new(TOOL);
        let status = tool.args(args).arg("--passphrase-file").arg(pin).status();
        status.unwrap().code()
    };
    let socket = hsm.folder().join("restarted-socket");
    let agent = ["agent", "--pkcs11", &uri, "--socket", socket.to_str().unwrap()];
    let other = uri.replace("object=key", "object=other").replace("restarts-key", "restarts-other");
    for args in [&["public", "--pkcs11", &uri][..], &["keygen", "--pkcs11", &other], &agent] {
        assert_eq!(run(args, &wrong), Some(REFUSED), "{args:?}");
        token.refuse(Some(Error::PinLocked));
        assert_eq!(run(args, &hsm.pin_file()), Some(REFUSED), "{args:?}");
        token.refuse(None);
    }
    // A PIN named by the URI is refused once as well; no other is asked for.
    let named = format!("{uri}&pin-source={}", wrong.display());
    let other = format!("{other}&pin-value=not-this");
    for args in [&["public", "--pkcs11", &named][..], &["keygen", "--pkcs11", &other]] {
        let before = token.logins();
        let refused = Command::new(TOOL).args(args).stdin(std::process::Stdio::null()).output().unwrap();
        assert_eq!(refused.status.code(), Some(REFUSED), "{args:?}: {refused:?}");
        assert_eq!(token.logins(), before + 1, "{args:?}");
        // A correct one resets the token's count.
        assert!(Pkcs11Vault::open(&uri, Some(PIN)).is_ok());
    }
    // The way of a service manager with the unit from the documents.
    let vaults = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/VAULTS.md")).unwrap();
    let units: Vec<&str> = vaults.split("```").filter(|text| text.contains("ExecStart=")).collect();
    assert_eq!(units.len(), 2, "one for a file, one for a token");
    assert!(units[1].contains("--pkcs11"));
    for unit in units {
        let setting = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        assert_eq!(setting("Restart="), "always");
        let ends: Vec<i32> = setting("RestartPreventExitStatus=")
            .split_whitespace()
            .map(|code| code.parse().unwrap())
            .collect();
        let before = token.logins();
        for start in 0.. {
            assert!(start < 5, "it was started five times");
            if ends.contains(&run(&agent, &wrong).unwrap()) {
                break;
            }
        }
        assert_eq!(token.logins(), before + 1, "one login");
    }
    assert!(Pkcs11Vault::open(&uri, Some(PIN)).is_ok());
}
