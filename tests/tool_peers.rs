//! `curve-tun peers`, as a command.

#[path = "support/registry.rs"]
mod registry;

use registry::key;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

fn peers(verb: &str, registry: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_curve-tun"));
    command.args(["peers", verb, "--registry"]).arg(registry).args(arguments).stdin(Stdio::null());
    command
}

/// Exit code, standard output, standard error.
fn run(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peers");
    (folder, path)
}

#[test]
fn entries_are_added_listed_checked_and_removed() {
    let (_folder, path) = folder();
    let (a, b) = (key(1).to_string(), key(2).to_string());
    let silent = (0, String::new(), String::new());
    assert_eq!(run(peers("add", &path, &["192.0.2.0/24", &a, "--comment", "the lab"])), silent);
    assert_eq!(run(peers("add", &path, &["192.0.2.0/24", &a])), silent, "it is there already");
    assert_eq!(run(peers("add", &path, &["*", &b])), silent);
    assert_eq!(run(peers("add", &path, &["[Server.example]:7000", &a])), silent);
    let listed = format!("192.0.2.0/24 {a} the lab\n* {b}\n[server.example]:7000 {a}\n");
    assert_eq!(run(peers("list", &path, &[])), (0, listed, String::new()));
    assert_eq!(run(peers("check", &path, &[])), (0, "3 entries\n".into(), String::new()));
    let check = |whom, key| run(peers("check", &path, &[whom, key]));
    let (yes, no) = ((0, "yes\n".to_owned(), String::new()), (3, "no\n".to_owned(), String::new()));
    assert_eq!(check("192.0.2.9", &a), yes);
    assert_eq!(check("198.51.100.9", &a), no);
    assert_eq!(check("2001:db8::1", &b), yes);
    assert_eq!(check("[SERVER.example.]:7000", &a), yes);
    assert_eq!(check("[server.example]:7001", &a), no);
    assert_eq!(run(peers("add", &path, &["!", &b, "--comment", "lost"])), silent);
    assert_eq!(check("2001:db8::1", &b), no);
    assert_eq!(run(peers("remove", &path, &["!", &b])), silent);
    assert_eq!(check("2001:db8::1", &b), yes);
    let (code, out, error) = run(peers("remove", &path, &["!", &b]));
    assert_eq!((code, &*out), (1, ""));
    assert!(error.contains("there is no such entry") && error.contains("peers list"), "{error}");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let (_folder, path) = folder();
    let a = key(1).to_string();
    let fails = |command, code, words: &[&str]| {
        let (got, out, error) = run(command);
        assert_eq!((got, &*out), (code, ""), "{error}");
        words.iter().for_each(|word| assert!(error.contains(word), "{word:?} is not in {error:?}"));
    };
    fails(peers("list", &path, &[]), 1, &["there is no such file", "peers add"]);
    fails(peers("add", &path, &["192.0.2.1/24", &a]), 2, &["192.0.2.1/24", "the network is 192.0.2.0/24"]);
    fails(peers("add", &path, &["*", &a[1..]]), 2, &["44 characters"]);
    fails(peers("check", &path, &["192.0.2.0/24", &a]), 2, &["not an address"]);
    fails(peers("add", &path, &["example.org", &a]), 2, &["[host]:port"]);
    fails(peers("check", &path, &["[host]:0"]), 2, &["[host]:port"]);
    fails(peers("add", &path, &[&format!("[{}]:1", "a".repeat(64)), &a]), 2, &["63"]);
    fails(peers("add", &path, &["*", &a, "--comment", "a\nb"]), 1, &["comment", "one line"]);
    fs::write(&path, format!("* {a}\n192.0.2.1  {}\n", &a[2..])).unwrap();
    for command in [peers("check", &path, &[]), peers("remove", &path, &["*", &a])] {
        fails(command, 1, &["peers: line 2, column 12: ", "Correct that line"]);
    }
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions(&path, open).unwrap();
    fails(peers("list", &path, &[]), 1, &["all users may write it", "chmod o-w"]);
}

#[test]
fn many_commands_at_once_lose_nothing() {
    let (_folder, path) = folder();
    let children: Vec<_> = (0..20)
        .map(|i| peers("add", &path, &[&format!("192.0.2.{i}"), &key(i).to_string()]).spawn().unwrap())
        .collect();
    children.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
    assert_eq!(run(peers("check", &path, &[])).1, "20 entries\n");
}

#[test]
fn a_command_killed_at_any_time_leaves_a_whole_file() {
    let (_folder, path) = folder();
    let first = key(0).to_string();
    assert_eq!(run(peers("add", &path, &["*", &first])).0, 0);
    for i in 1..40u8 {
        let mut child = peers("add", &path, &["*", &key(i).to_string()]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(u64::from(i) * 150));
        child.kill().unwrap();
        child.wait().unwrap();
        let (code, out, error) = run(peers("check", &path, &["192.0.2.1", &first]));
        assert_eq!((code, &*out), (0, "yes\n"), "{error}");
    }
    assert_eq!(
        run(peers("add", &path, &["*", &key(99).to_string()])).0,
        0,
        "the next writer is not in the way"
    );
}

#[test]
fn the_help_teaches() {
    let help = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_curve-tun"));
        command.arg("peers").args(arguments).arg("--help");
        run(command)
    };
    let (code, text, _) = help(&[]);
    assert_eq!(code, 0);
    for word in ["add", "remove", "list", "check", "192.0.2.0/24", "nowhere", "[host]:port"] {
        assert!(text.contains(word), "{word}");
    }
    for verb in ["add", "remove", "list", "check"] {
        let (code, text, _) = help(&[verb]);
        assert!(code == 0 && text.contains("--registry <FILE>"), "{text}");
    }
}
