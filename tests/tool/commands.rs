//! The tool `curve-tun`, run as its users run it.

use crate::support::agent::{AgentProcess, TOOL};
use curve_tun::vault::{FileVault, Vault};
use curve_tun::{PublicKey, SecretKey};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

fn run(args: &[&str]) -> Output {
    run_with(args, b"")
}

/// Runs it with this on standard input.
fn run_with(args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(TOOL);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Returns what a command prints, which must succeed.
fn printed(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Checks that a command fails, prints nothing, and reports an error with `words` in it.
fn refused(output: Output, words: &str) {
    refused_with(1, output, words);
}

/// The same, with another exit code.
fn refused_with(code: i32, output: Output, words: &str) {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(code), &b""[..]), "{said}");
    assert!(said.starts_with("curve-tun: ") && said.contains(words), "{said}");
    assert!(said.lines().count() >= 2, "it says what to do: {said}");
}

fn key(text: &str) -> PublicKey {
    text.strip_suffix('\n').unwrap().parse().unwrap()
}

fn place() -> (TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let text = path.to_str().unwrap().to_owned();
    (folder, path, text)
}

#[test]
fn keygen_prints_a_pair_and_public_its_public_key() {
    let pair = printed(run(&["keygen"]));
    let lines: Vec<_> = pair.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let [("public", public), ("secret", secret)] = lines[..] else { panic!("{} lines", lines.len()) };
    let secret_key = SecretKey::from_text(secret.as_bytes()).unwrap();
    assert_eq!(secret_key.public_key().unwrap().to_string(), public);
    for input in [secret.to_owned(), format!("{secret}\n"), format!("{secret}\r\nmore")] {
        assert_eq!(
            key(&printed(run_with(&["public", "--secret", "-"], input.as_bytes()))).to_string(),
            public
        );
    }
    let (_folder, path, text) = place();
    fs::write(&path, secret).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(key(&printed(run(&["public", "--secret", &text]))).to_string(), public);
    refused(run_with(&["public", "--secret", "-"], b"nonsense"), "44 characters");
    refused(run_with(&["public", "--secret", "-"], &[b'a'; 2000]), "1024 bytes");
}

#[test]
fn keygen_makes_a_vault_and_overwrites_none() {
    let (_folder, path, text) = place();
    let public = key(&printed(run(&["keygen", "--vault", &text])));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(key(&printed(run(&["public", "--vault", &text]))), public);
    assert_eq!(FileVault::open(&path, None).unwrap().public_key(), public);
    let before = fs::read(&path).unwrap();
    refused(run(&["keygen", "--vault", &text]), "already there");
    assert_eq!(fs::read(&path).unwrap(), before);
    refused(run(&["keygen", "--vault", &format!("{text}/deeper")]), "no such file");
}

#[test]
fn a_vault_is_sealed_by_a_passphrase_from_a_file_or_standard_input() {
    let (folder, path, text) = place();
    let file = folder.path().join("passphrase");
    fs::write(&file, "correct horse\n").unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let file = file.to_str().unwrap();
    let make = ["keygen", "--vault", &text, "--cost", "interactive", "--passphrase-file", file];
    let public = key(&printed(run(&make)));
    assert_eq!(key(&printed(run(&["public", "--vault", &text]))), public);
    assert_eq!(FileVault::open(&path, Some(b"correct horse")).unwrap().public_key(), public);
    let socket = folder.path().join("socket");
    let agent = ["agent", "--vault", &text, "--socket", socket.to_str().unwrap(), "--passphrase-file", "-"];
    refused_with(4, run_with(&agent, b"wrong\n"), "passphrase");
    assert!(!socket.exists());
    let (_folder, path, text) = place();
    refused(run_with(&["keygen", "--vault", &text, "--passphrase-file", "-"], b"\n"), "empty");
    assert!(!path.exists());
}

#[test]
fn a_vault_that_others_could_read_is_refused_with_the_reason() {
    let (_folder, path, text) = place();
    printed(run(&["keygen", "--vault", &text]));
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    refused(run(&["public", "--vault", &text]), "mode 0644");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let vault = FileVault::open(&path, None).unwrap();
    refused(run(&["agent", "--vault", &text, "--socket", "/nowhere/s"]), "another process");
    drop(vault);
    refused(run(&["agent", "--vault", &text, "--socket", "/nowhere/s"]), "no such file");
    fs::write(&path, b"no vault").unwrap();
    refused(run(&["public", "--vault", &text]), "damaged");
}

#[test]
fn public_asks_an_agent() {
    let (folder, path, text) = place();
    let public = key(&printed(run(&["keygen", "--vault", &text])));
    let socket = folder.path().join("socket");
    let socket_text = socket.to_str().unwrap();
    refused(run(&["public", "--agent", socket_text]), "cannot ask the agent");
    let agent = AgentProcess::start(&path, &socket);
    assert_eq!(key(&printed(run(&["public", "--agent", socket_text]))), public);
    assert!(agent.terminate().success());
}

#[test]
fn what_cannot_be_written_whole_is_not_left_behind() {
    let (folder, path, text) = place();
    for call in ["pwrite64:error=ENOSPC", "fsync:error=EIO:when=1", "fsync:error=EIO:when=2"] {
        let mut command = Command::new("strace");
        let inject = format!("inject={call}");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &inject, TOOL, "keygen", "--vault", &text]);
        let output = command.output().expect("strace, from the package of that name");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{call}");
        assert!(!path.exists() && fs::read_dir(folder.path()).unwrap().next().is_none(), "{call}");
    }
}

#[test]
fn a_reader_that_went_away_is_a_failure() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(ours);
    let status = Command::new(TOOL)
        .arg("keygen")
        .stdout(std::os::fd::OwnedFd::from(theirs))
        .stderr(Stdio::null())
        .status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn wrong_command_lines_have_a_code_of_their_own() {
    for args in [
        &[][..],
        &["nonsense"],
        &["keygen", "--passphrase"],
        &["keygen", "--passphrase-file", "-"],
        &["keygen", "--vault", "v", "--cost", "sensitive"],
        &["keygen", "--vault", "v", "--passphrase", "--cost", "nothing"],
        &["public"],
        &["public", "--vault", "v", "--agent", "a"],
        &["agent", "--vault", "v"],
        &["agent", "--socket", "s"],
    ] {
        let output = run(args);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn help_teaches() {
    for (args, words) in [
        (&["--help"][..], "Exit codes"),
        (&["keygen", "--help"], "curve-tun keygen --vault"),
        (&["public", "--help"], "curve-tun public --vault"),
        (&["agent", "--help"], "listening on"),
    ] {
        let help = printed(run(args));
        assert!(help.contains(words), "{help}");
    }
    assert_eq!(printed(run(&["--version"])), format!("curve-tun {}\n", env!("CARGO_PKG_VERSION")));
}

/// Runs a command at a terminal and types an answer at each of its prompts. Returns what the
/// terminal showed.
fn at_terminal(args: &[&str], answers: &[(&str, &str)]) -> String {
    let command = [&[TOOL], args].concat().join(" ");
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = script.spawn().expect("script, from the package bsdutils");
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = Vec::new();
    for (prompt, answer) in answers {
        let seen = shown.len();
        while !shown[seen..].windows(prompt.len()).any(|part| part == prompt.as_bytes()) {
            let mut byte = [0];
            assert_eq!(screen.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&shown));
            shown.push(byte[0]);
        }
        // The echo was turned off before.
        keyboard.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }
    screen.read_to_end(&mut shown).unwrap();
    child.wait().unwrap();
    String::from_utf8(shown).unwrap()
}

#[test]
fn a_passphrase_is_asked_for_twice_at_the_terminal_and_not_shown() {
    let (_folder, path, text) = place();
    let make = ["keygen", "--vault", &text, "--passphrase", "--cost", "interactive"];
    let differ = at_terminal(&make, &[("New passphrase: ", "open sesame"), ("again: ", "open barley")]);
    assert!(differ.contains("the two passphrases differ"), "{differ}");
    assert!(!path.exists());
    let made = at_terminal(&make, &[("New passphrase: ", "open sesame"), ("again: ", "open sesame")]);
    assert!(!differ.contains("sesame") && !made.contains("sesame"), "{differ}{made}");
    let public = FileVault::open(&path, Some(b"open sesame")).unwrap().public_key();
    assert!(made.contains(&public.to_string()), "{made}");
}

#[test]
fn where_there_is_no_terminal_that_is_said() {
    let (_folder, path, text) = place();
    // A separate session has no terminal.
    let mut command = Command::new("setsid");
    command.args(["-w", TOOL, "keygen", "--vault", &text, "--passphrase"]).stdin(Stdio::null());
    refused(command.output().expect("setsid, from the package util-linux"), "terminal");
    assert!(!path.exists());
}
