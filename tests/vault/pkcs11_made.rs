//! The prerequisites of a key in a token are checked before it is made, and an unusable key is not
//! left behind unreported.

use crate::support::agent::TOOL;
use crate::support::softhsm::{PIN, SoftHsm};
use curve_tun::Error;
use curve_tun::vault::{Pkcs11Part, Pkcs11Vault};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn keygen(uri: &str) -> Command {
    let mut tool = Command::new(TOOL);
    tool.args(["keygen", "--pkcs11", uri, "--passphrase-file"]).arg(SoftHsm::get().pin_file());
    tool
}

/// Returns what a failing command reports.
fn refused(output: Output) -> String {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{said}");
    assert!(said.starts_with("curve-tun: ") && said.lines().count() >= 2, "{said}");
    said
}

fn without_state(uri: &str) -> &str {
    uri.split_once("&x-curve").unwrap().0
}

#[test]
fn a_state_that_cannot_be_kept_is_said_before_a_key_is_made() {
    let hsm = SoftHsm::get();
    let there = hsm.folder().join("there");
    fs::write(&there, b"something else").unwrap();
    let by_path = |path: &Path| {
        let uri = hsm.uri("place", "key");
        format!("{}&x-curve-tun-state={}", without_state(&uri), path.display())
    };
    for (path, error) in [
        (there.clone(), Error::AlreadyExists),
        (hsm.folder().to_owned(), Error::AlreadyExists),
        (there.join("below"), Error::FileNotFound),
        ("/nowhere/state".into(), Error::FileNotFound),
    ] {
        let uri = by_path(&path);
        let failure = Pkcs11Vault::generate_explained(&uri, Some(PIN)).err().unwrap();
        assert_eq!((failure.error, failure.left), (error, None));
        assert_eq!(failure.part, Pkcs11Part::State(Some(path.clone())));
        let said = refused(keygen(&uri).output().unwrap());
        assert!(said.contains(path.to_str().unwrap()) && said.contains("No key was made"), "{said}");
        assert!(!said.contains("PIN"), "{said}");
    }
    assert_eq!(fs::read(&there).unwrap(), b"something else");
    let uri = hsm.uri("place", "key");
    let by_default = without_state(&uri);
    let home = tempfile::tempdir().unwrap();
    let closed = home.path().join("closed");
    fs::write(&closed, b"").unwrap();
    // A user who may not write; a folder that is not one; no folder at all; a full disk.
    for (state, injected) in [
        (Some(home.path().to_owned()), "mkdir:error=EACCES"),
        (Some(closed.join("state")), ""),
        (None, ""),
        (Some(home.path().to_owned()), "pwrite64:error=ENOSPC"),
    ] {
        let plain = keygen(by_default);
        let mut command = if injected.is_empty() { plain } else { with_injected(&plain, injected) };
        command.env_remove("HOME").env_remove("XDG_STATE_HOME");
        command.envs(state.map(|state| ("XDG_STATE_HOME", state)));
        let said = refused(command.output().unwrap());
        assert!(said.contains("the key's state") && said.contains("No key was made"), "{injected}: {said}");
        assert!(!said.contains("PIN"), "{injected}: {said}");
    }
    assert_eq!(hsm.keys("place"), [], "nothing was made");
    assert!(keygen(&hsm.uri("place", "key")).status().unwrap().success());
    assert_eq!(hsm.keys("place").len(), 2);
    // The last step fails: the key is removed again.
    let other = hsm.uri("place", "other");
    let mut command = with_injected(&keygen(without_state(&other)), "rename:error=EIO");
    let said = refused(command.env("XDG_STATE_HOME", home.path()).output().unwrap());
    assert!(said.contains("the key's state") && said.contains("No key was made"), "{said}");
    assert_eq!(hsm.keys("place").len(), 2);
    assert_eq!(fs::read_dir(home.path().join("curve_tun")).unwrap().count(), 0);
    // Nor does a refused key take a place.
    let again = keygen(without_state(&uri)).env("XDG_STATE_HOME", home.path()).output().unwrap();
    assert!(refused(again).contains("the token: something is already there"));
    assert_eq!(fs::read_dir(home.path().join("curve_tun")).unwrap().count(), 0);
}

/// The same command, with a system call failing.
fn with_injected(command: &Command, injected: &str) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={injected}")]);
    strace.arg(command.get_program()).args(command.get_args());
    strace
}

#[test]
fn a_key_that_cannot_be_used_is_removed_or_told_of() {
    let hsm = SoftHsm::get();
    let file = |what: &str| hsm.folder().join(what);
    let define = |what: &str| format!("{what}=\"{}\"", file(what).display());
    let module = hsm.front("unusable", &["NO_DERIVE", "NO_DESTROY", "NO_PAIR"].map(define));
    let uri = hsm.uri_by(&module, "unusable", "key");
    let state = hsm.folder().join("unusable-key");
    for what in ["NO_PAIR", "NO_DERIVE"] {
        fs::write(file(what), b"").unwrap();
        let said = refused(keygen(&uri).output().unwrap());
        assert!(said.contains("the token") && said.contains("No key was made"), "{said}");
        assert_eq!(hsm.keys("unusable"), [], "{what}");
        assert!(!state.exists());
        told_of(&uri, &file("NO_DESTROY"));
        assert!(!state.exists());
        fs::remove_file(file(what)).unwrap();
    }
    assert!(keygen(&uri).status().unwrap().success());
}

/// Checks that a key that cannot be removed is reported, with how to remove it.
fn told_of(uri: &str, no_destroy: &Path) {
    let hsm = SoftHsm::get();
    fs::write(no_destroy, b"").unwrap();
    let said = refused(keygen(uri).output().unwrap());
    assert!(said.contains("could not be removed") && !said.contains("No key was made"), "{said}");
    let id = said.split_once("of id ").unwrap().1.split_once(',').unwrap().0;
    assert_eq!(hsm.keys("unusable").len(), 2);
    for kind in ["privkey", "pubkey"] {
        let mut delete = Command::new("pkcs11-tool");
        delete.arg("--module").arg(&hsm.module).args(["--token-label", "unusable", "--login", "--pin"]);
        delete.arg(std::str::from_utf8(PIN).unwrap()).args(["--delete-object", "--type", kind, "--id", id]);
        assert!(delete.env("SOFTHSM2_CONF", hsm.conf()).status().unwrap().success());
    }
    assert_eq!(hsm.keys("unusable"), []);
    fs::remove_file(no_destroy).unwrap();
}

#[test]
fn a_public_key_that_could_not_be_printed_can_be_had_later() {
    let hsm = SoftHsm::get();
    let uri = hsm.uri("suite", "unprinted");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let said = refused(keygen(&uri).stdout(full).output().unwrap());
    assert!(said.contains("curve-tun public --pkcs11"), "{said}");
    assert!(Pkcs11Vault::open(&uri, Some(PIN)).is_ok());
}
