//! What the tool does when it cannot print, and its advice on mistakes.

use curve_tun::vault::{Cost, FileVault};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

const TOOL: &str = env!("CARGO_BIN_EXE_curve-tun");

/// A folder with a vault, in which the test's commands run.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    drop(FileVault::create(&folder.path().join("vault"), None, Cost::default()).unwrap());
    folder
}

/// Runs a shell command in the folder; `$T` is the tool.
fn shell(folder: &TempDir, command: &str) -> Output {
    let mut shell = Command::new("bash");
    shell.args(["-c", command]).env("T", TOOL).current_dir(folder.path());
    shell.output().expect("bash, from the package of that name")
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn what_could_not_be_printed_is_not_done() {
    let folder = folder();
    for command in [
        "keygen",
        "--help",
        "--version",
        "keygen --help",
        "public --vault vault",
        "peers list --registry registry",
    ] {
        fs::write(folder.path().join("registry"), "* JhYkmWDHXmPBjEUBGBUVAsvYjBJ9DdmDyXYXDiTDZ3g=\n")
            .unwrap();
        let output = shell(&folder, &format!("$T {command} >/dev/full"));
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(said(&output).contains("cannot write to standard output"), "{command}: {}", said(&output));
        assert_eq!(said(&output).lines().count(), 2, "{command}: {}", said(&output));
    }
    let output = shell(&folder, "ulimit -f 0; $T keygen >pair");
    assert_eq!(output.status.code(), Some(1), "{:?}", output.status);
    assert!(said(&output).contains("cannot write to standard output"), "{}", said(&output));
}

#[test]
fn a_key_is_not_printed_where_nobody_gets_it() {
    let folder = folder();
    for command in ["$T keygen >&-", "$T keygen >&- <&-", "exec >&-; $T keygen"] {
        let output = shell(&folder, command);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(said(&output).contains("standard output is closed"), "{command}: {}", said(&output));
    }
    // Discarding the output is the user's choice.
    assert_eq!(shell(&folder, "$T keygen >/dev/null").status.code(), Some(0));
}

#[test]
fn a_reader_that_has_read_enough_hears_no_complaint() {
    let folder = folder();
    fs::write(folder.path().join("registry"), "* JhYkmWDHXmPBjEUBGBUVAsvYjBJ9DdmDyXYXDiTDZ3g=\n").unwrap();
    for command in
        ["keygen", "--help", "keygen --help", "public --vault vault", "peers list --registry registry"]
    {
        // The reader is gone before anything is printed.
        let output = shell(
            &folder,
            &format!(
                "{{ until [ -e go ]; do sleep 0.01; done; $T {command}; echo $? >&2; }} | {{ exec <&-; touch go; }}"
            ),
        );
        fs::remove_file(folder.path().join("go")).unwrap();
        assert_eq!(said(&output), "1\n", "{command}");
    }
}

#[test]
fn a_disk_that_takes_no_more_is_said_so_and_nothing_is_left_behind() {
    let folder = folder();
    for blocks in [0, 4, 8, 11] {
        let output = shell(&folder, &format!("ulimit -f {blocks}; $T keygen --vault new"));
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{:?}", output.status);
        assert!(
            said(&output).contains("disk is full") && said(&output).contains("ulimit -f"),
            "{}",
            said(&output)
        );
        assert!(!folder.path().join("new").exists());
    }
    let output = shell(&folder, "ulimit -f 12; $T keygen --vault new");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn a_change_that_could_not_be_told_is_not_said_to_be_lost() {
    const KEY: &str = "JhYkmWDHXmPBjEUBGBUVAsvYjBJ9DdmDyXYXDiTDZ3g=";
    let folder = folder();
    fs::write(folder.path().join("passphrase"), "long and odd\n").unwrap();
    fs::set_permissions(folder.path().join("passphrase"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(folder.path().join("registry"), format!("* {KEY}\n")).unwrap();
    for (command, done, shows) in [
        (
            "keygen --vault new",
            "The vault is made. \"curve-tun public --vault new\"",
            "$T public --vault new",
        ),
        (
            "passphrase --vault vault --new-passphrase-file passphrase --cost interactive",
            "The passphrase is changed",
            "$T passphrase --vault vault --passphrase-file passphrase --remove",
        ),
        ("renew --vault vault", "The vault is renewed", "$T public --vault vault"),
        (
            &*format!("peers purge --registry registry {KEY}"),
            "They are removed",
            "[ -z \"$($T peers list --registry registry)\" ]",
        ),
    ] {
        let output = shell(&folder, &format!("$T {command} >/dev/full"));
        let told = said(&output);
        assert_eq!(output.status.code(), Some(1), "{command}: {told}");
        assert!(told.contains("cannot write to standard output") && told.contains(done), "{command}: {told}");
        assert!(!told.contains("again"), "{command}: {told}");
        let shown = shell(&folder, shows);
        assert_eq!(shown.status.code(), Some(0), "{command}: {}", said(&shown));
    }
}

#[test]
fn mistakes_are_named_with_their_remedy() {
    let folder = folder();
    let file = |name: &str| folder.path().join(name);
    fs::create_dir(file("folder")).unwrap();
    symlink("vault", file("link")).unwrap();
    fs::copy(file("vault"), file("open")).unwrap();
    fs::set_permissions(file("open"), PermissionsExt::from_mode(0o644)).unwrap();
    let (long, deep) = ("x".repeat(256), "x/".repeat(2100) + "v");
    for (command, what, remedy) in [
        ("keygen --vault nix/v".into(), "no such file", "mkdir -m 700 nix"),
        ("keygen --vault vault/v".into(), "no such file", "vault is not a folder"),
        ("keygen --vault /proc/v".into(), "no such file", "The file system of /proc makes no files there"),
        ("keygen --vault vault".into(), "already there", "Nothing is ever overwritten"),
        ("keygen --vault /dev/zero".into(), "not a regular file", "Choose another name"),
        ("keygen --vault folder".into(), "not a regular file", "Choose another name"),
        ("keygen --vault link".into(), "symbolic link", "Choose another name"),
        (format!("keygen --vault {long}"), "out of range", "at most 255 bytes"),
        (format!("keygen --vault {deep}"), "out of range", "at most 255 bytes"),
        ("public --vault nix".into(), "no such file", "Check the path"),
        ("public --vault /dev/zero".into(), "not a regular file", "Check the path"),
        ("public --vault link".into(), "symbolic link", "Name the file itself"),
        ("public --vault open".into(), "mode 0644", "make a new one"),
        (format!("public --vault {long}"), "out of range", "at most 255 bytes"),
        (format!("public --agent {long}"), "cannot ask", "at most 107 bytes"),
        (format!("agent --vault vault --socket {long}"), "cannot listen", "at most 107 bytes"),
        ("agent --vault vault --socket nix/s".into(), "cannot listen", "Make the folder first"),
        ("agent --vault vault --socket /proc/s".into(), "cannot listen", "makes no sockets"),
        ("agent --vault vault --socket vault".into(), "cannot listen", "not a socket"),
        ("public --secret folder".into(), "folder", "Name a file"),
        ("public --secret nix".into(), "cannot read nix", "Check the path"),
        ("passphrase --vault nix --remove".into(), "no such file", "Check the path"),
        ("renew --vault nix".into(), "no such file", "Check the path"),
    ] {
        let output = shell(&folder, &format!("$T {command}"));
        let said = said(&output);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{command}: {said}");
        let (first, rest) = said.split_once('\n').unwrap();
        assert!(first.contains(what) && rest.contains(remedy), "{command}: {said}");
    }
}

#[test]
fn another_user_is_told_whose_agent_it_is() {
    assert!(nix::unistd::geteuid().is_root(), "this test becomes another user: run it as root");
    let folder = folder();
    for (mode, what) in [("600", "permission"), ("777", "closed")] {
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let script = format!(
            "$T agent --vault vault --socket socket >out & until grep -qs listening out; do sleep 0.01; done; \
             chmod {mode} socket; setpriv --reuid 65534 --regid 65534 --clear-groups $T public --agent socket; \
             code=$?; kill $!; wait; rm out; exit $code"
        );
        // A copy that the other user may execute.
        let tool: PathBuf = folder.path().join("tool");
        fs::copy(TOOL, &tool).unwrap();
        let output = shell(&folder, &script.replace("$T", "./tool"));
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{}", said(&output));
        assert!(said(&output).contains(what) && said(&output).contains("sudo -u"), "{}", said(&output));
    }
}

#[test]
fn arguments_that_would_mean_nothing_are_refused() {
    let folder = folder();
    fs::write(folder.path().join("p"), "p\n").unwrap();
    for command in [
        "public --vault vault --passphrase-file p",
        "public --agent socket --passphrase-file p",
        "public --secret p --passphrase-file p",
        "agent --secret p --socket s --passphrase-file p",
        "keygen --secret p",
        "keygen --pkcs11 pkcs11: --secret p",
        "keygen --pkcs11 pkcs11: --passphrase",
        "passphrase --vault vault --remove --cost sensitive",
        "passphrase --vault vault --remove --new-passphrase-file p",
    ] {
        let output = shell(&folder, &format!("$T {command}"));
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{command}: {}", said(&output));
    }
}
