//! The command `curve-tun peers`.

use crate::support::registry::{ip, key};
use curve_tun::Error;
use curve_tun::registry::{Candidate, FileRegistry, Registry, RegistryFileError, ServerKeys};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

fn peers(verb: &str, registry: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_curve-tun"));
    command.args(["peers", verb, "--registry"]).arg(registry).args(arguments).stdin(Stdio::null());
    command
}

/// Returns exit code, standard output and standard error.
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
fn a_key_is_denied_in_a_file_with_a_wrong_line_which_is_named_and_stays() {
    let (_folder, path) = folder();
    let (a, b) = (key(1).to_string(), key(2).to_string());
    let long = format!("# {}", "x".repeat(9000));
    let wrongs: [&[u8]; 5] = [b"10.0.0.1/24 x", b"* \xff\xfe", b"typo", long.as_bytes(), b"\x00\x00"];
    for (i, wrong) in wrongs.into_iter().enumerate() {
        let end: &[u8] = if i % 2 == 0 { b"\n" } else { b"" };
        let before = [format!("* {a}\n10.0.0.0/8 {b}\n").as_bytes(), wrong, end].concat();
        fs::write(&path, format!("* {a}\n")).unwrap();
        // Like a server that has the file open.
        let server = FileRegistry::open(&path).unwrap();
        let admits = |key| server.verify(&Candidate::new(ip("192.0.2.1"), key)).unwrap();
        assert!(admits(key(1)));
        fs::write(&path, &before).unwrap();
        for refused in [peers("add", &path, &["*", &b]), peers("remove", &path, &["*", &a])] {
            let (code, out, error) = run(refused);
            assert_eq!((code, &*out), (1, ""));
            assert!(error.contains("line 3, column ") && error.contains("denies"), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), before);
        let (code, out, error) = run(peers("add", &path, &["!", &a, "--comment", "stolen"]));
        assert_eq!((code, &*out), (0, ""), "{error}");
        for word in ["line 3, column ", "Correct that line", "peers"] {
            assert!(error.contains(word), "{word:?} is not in {error:?}");
        }
        let line_end: &[u8] = if i % 2 == 0 { b"" } else { b"\n" };
        let expected = [&before, line_end, format!("! {a} stolen\n").as_bytes()].concat();
        assert_eq!(fs::read(&path).unwrap(), expected);
        assert!(!admits(key(1)), "denied");
        assert_eq!(server.lookup(ip("192.0.2.1")), []);
        assert!(matches!(server.problem(), Some(RegistryFileError::Malformed(wrong)) if wrong.line == 3));
        // The other lines of the invalid file have no effect.
        assert!(!server.verify(&Candidate::new(ip("10.0.0.1"), key(2))).unwrap());
        let corrected: Vec<u8> = format!("* {b}\n! {a} stolen\n").into_bytes();
        fs::write(&path, corrected).unwrap();
        assert!(admits(key(2)) && !admits(key(1)));
        assert_eq!(server.problem(), None);
        fs::write(&path, format!("* {a}\n")).unwrap();
        assert!(admits(key(1)), "what the wrong file denied counts until it is right");
    }
}

#[test]
fn a_known_servers_key_is_denied_in_a_file_with_a_wrong_line() {
    let (_folder, path) = folder();
    let a = key(1).to_string();
    fs::write(&path, format!("[a.example]:1 {a}\n")).unwrap();
    let client = FileRegistry::open(&path).unwrap();
    let known = || client.server_keys(&"[a.example]:1".parse().unwrap(), None);
    assert_eq!(known(), Ok(vec![key(1)]));
    fs::write(&path, format!("[a.example]:1 {a}\ntypo\n")).unwrap();
    assert_eq!(known(), Ok(vec![key(1)]));
    assert_eq!(run(peers("add", &path, &["!", &a])).0, 0);
    assert_eq!(known(), Err(Error::NotFound));
}

#[test]
fn a_link_local_client_is_let_in_whichever_interface_it_comes_in_by() {
    let (_folder, path) = folder();
    let a = key(1).to_string();
    assert_eq!(run(peers("add", &path, &["fe80::/10", &a])).0, 0);
    for address in ["fe80::7", "fe80::7%eth0", "fe80::7%2"] {
        assert_eq!(run(peers("check", &path, &[address, &a])), (0, "yes\n".into(), String::new()));
    }
    let (code, _, error) = run(peers("add", &path, &["fe80::7%eth0", &a]));
    assert!(code == 2 && error.contains("leave out %"), "{error}");
    let (code, _, error) = run(peers("check", &path, &["2001:db8::7%eth0", &a]));
    assert!(code == 2 && error.contains("not an address"), "{error}");
    assert_eq!(run(peers("add", &path, &["[fe80::7%none]:7000", &a])).0, 0);
    assert_eq!(run(peers("check", &path, &["[FE80::7%none]:7000", &a])).1, "yes\n");
    assert_eq!(run(peers("check", &path, &["[fe80::7%other]:7000", &a])).1, "no\n");
}

#[test]
fn what_is_no_registry_file_is_said_to_be_none_and_nothing_is_made_beside_it() {
    let a = key(1).to_string();
    let (folder, path) = folder();
    // An earlier version of the tool may have left it.
    let lock = Path::new("/dev/zero.lock");
    let there = lock.exists();
    for (path, words) in [
        (Path::new("/dev/zero"), vec!["/dev/zero: it is not a regular file", "Name a file of lines"]),
        (folder.path(), vec!["it is not a regular file"]),
        (&path.with_file_name("x".repeat(251)), vec!["xxx", "the name is too long", "at most 250 bytes"]),
        (&path.with_file_name("x".repeat(5000)), vec!["the name is too long"]),
        (&folder.path().join("none/peers"), vec!["none: there is no such file", "Make the folder first"]),
    ] {
        let (code, out, error) = run(peers("add", path, &["*", &a]));
        assert_eq!((code, &*out), (1, ""));
        words.iter().for_each(|word| assert!(error.contains(word), "{word:?} is not in {error:?}"));
    }
    assert_eq!(lock.exists(), there);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let longest = path.with_file_name("x".repeat(250));
    assert_eq!(run(peers("add", &longest, &["*", &a])), (0, String::new(), String::new()));
    // A comment that does not fit does not create a file, either.
    let (code, _, error) = run(peers("add", &path, &["*", &a, "--comment", " a"]));
    assert!(code == 1 && error.contains("comment") && !path.exists(), "{error}");
    fs::write(&path, format!("\u{feff}* {a}\n")).unwrap();
    let (code, _, error) = run(peers("check", &path, &[]));
    assert!(code == 1 && error.contains("peers: line 1, column 1: there is a byte order mark"), "{error}");
    fs::write(&path, format!("# net\n10.0.0.1/24 {a}\n")).unwrap();
    let (code, _, error) = run(peers("check", &path, &[]));
    assert!(code == 1 && error.contains("line 2, column 1: ") && error.contains("10.0.0.0/24"), "{error}");
}

#[test]
fn a_key_is_found_and_removed_everywhere() {
    let (_folder, path) = folder();
    let (a, b) = (key(1).to_string(), key(2).to_string());
    let theirs = format!("# {a} is theirs\n* {b}\n");
    let ours = format!("* {a} the laptop\n192.0.2.0/24 {a}\n[a.example]:1 {a}\n! {a} lost\n* {a}\n");
    fs::write(&path, format!("{theirs}{ours}")).unwrap();
    assert_eq!(run(peers("find", &path, &[&a])), (0, ours.clone(), String::new()));
    assert_eq!(run(peers("find", &path, &[&key(3).to_string()])), (3, String::new(), String::new()));
    assert_eq!(run(peers("check", &path, &["192.0.2.1"])), (0, format!("{b}\n"), String::new()));
    assert_eq!(run(peers("purge", &path, &[&a])), (0, "4 removed\n".into(), String::new()));
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{theirs}! {a} lost\n"));
    let (code, out, error) = run(peers("purge", &path, &[&a]));
    assert!(code == 1 && out.is_empty() && error.contains("there is no such entry"), "{error}");
    assert_eq!(run(peers("check", &path, &["[a.example]:1"])), (3, String::new(), String::new()));
    fs::write(&path, format!("typo\n{ours}")).unwrap();
    let (code, out, error) = run(peers("find", &path, &[&a]));
    assert_eq!((code, out), (1, ours), "those of the right lines are printed");
    assert!(error.contains("line 1, column 1"), "{error}");
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
    for word in ["add", "remove", "purge", "list", "find", "check", "192.0.2.0/24", "nowhere", "[host]:port"]
    {
        assert!(text.contains(word), "{word}");
    }
    for verb in ["add", "remove", "purge", "list", "find", "check"] {
        let (code, text, _) = help(&[verb]);
        assert!(code == 0 && text.contains("--registry <FILE>"), "{text}");
    }
}
