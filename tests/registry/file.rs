//! The registry in a file: its grammar, its changes, its writers.

use crate::support::needs;
use crate::support::registry::{ip, key, keys, suite};
use curve_tun::connection::Options;
use curve_tun::net::{Connector, Listener, TimedServer, Timeout};
use curve_tun::registry::{
    BadPath, Candidate, Entry, FileRegistry, Malformed, PathProblem, Place, Problem, Registry,
    RegistryFileError, ServerKeys, ServerName, Subject,
};
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, PublicKey};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const SOON: Timeout = Some(Duration::from_secs(20));

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A file of this text in `folder`.
fn file(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("peers");
    fs::write(&path, text).unwrap();
    path
}

fn entry(place: &str, key: PublicKey, comment: &str) -> Entry {
    Entry { subject: Subject::Client(place.parse().unwrap()), key, comment: comment.to_owned() }
}

fn admits(registry: &FileRegistry, address: &str, key: PublicKey) -> bool {
    registry.verify(&Candidate::new(ip(address), key)).unwrap()
}

#[test]
fn the_registry_in_a_file_passes_the_suite() {
    let folders = RefCell::new(Vec::new());
    suite(|entries| {
        let text: String = entries.iter().map(|(address, key)| format!("{address} {key}\n")).collect();
        let folder = folder();
        let registry = FileRegistry::open(file(&folder, &text)).unwrap();
        folders.borrow_mut().push(folder);
        Arc::new(registry)
    });
}

#[test]
fn every_form_of_a_line_is_read() {
    let [a, b, c] = keys();
    let text = format!(
        "# who may come in\n\n \t \n  # indented\n10.0.0.0/8 {a}\n\t10.1.0.0/16\t {b}  the  lab, Zürich \r\n* {c}\n\
         ! {b} lost\n[DB.example.org.]:7000 {a} a server\n[::ffff:192.0.2.1]:7 {b}\n[2001:DB8::1]:7 {b}#no\n"
    );
    let folder = folder();
    let wrong = FileRegistry::open(file(&folder, &text));
    let problem = Malformed { line: 11, column: 17, problem: Problem::BadKey };
    assert_eq!(wrong.err(), Some(RegistryFileError::Malformed(problem)));

    let path = file(&folder, text.strip_suffix("#no\n").unwrap());
    let mut entries = Vec::new();
    FileRegistry::each_entry(&path, |entry| entries.push(entry)).unwrap();
    let server = |text: &str, key| Entry {
        subject: Subject::Server(text.parse().unwrap()),
        key,
        comment: String::new(),
    };
    let expected = [
        entry("10.0.0.0/8", a, ""),
        entry("10.1.0.0/16", b, "the  lab, Zürich"),
        entry("*", c, ""),
        entry("!", b, "lost"),
        Entry { comment: "a server".into(), ..server("[db.example.org]:7000", a) },
        server("[192.0.2.1]:7", b),
        server("[2001:db8::1]:7", b),
    ];
    assert_eq!(entries, expected);

    let registry = FileRegistry::open(&path).unwrap();
    assert!(admits(&registry, "10.9.9.9", a) && admits(&registry, "10.1.9.9", c));
    assert!(!admits(&registry, "10.1.9.9", b), "denied");
    assert!(!admits(&registry, "192.0.2.1", b), "a server's entry lets no client in");
    let name = ServerName::new("db.EXAMPLE.org", 7000).unwrap();
    assert_eq!(registry.server_keys(&name, None), Ok(vec![a]));
    let none = |text: &str| registry.server_keys(&text.parse().unwrap(), None) == Err(Error::NotFound);
    assert!(none("[192.0.2.1]:7"), "denied");
    assert!(none("[10.0.0.1]:7"), "a client's entry names no server");
}

#[test]
fn a_wrong_line_is_named_with_its_column() {
    let folder = folder();
    let k = key(1).to_string();
    let long = "x".repeat(5000);
    let mut reasons = BTreeSet::new();
    let cases = [
        ("host.example KEY", 1, Problem::BadPlace),
        ("  10.0.0.1/8 KEY", 3, Problem::BitsAfterPrefix("10.0.0.0/8".parse().unwrap())),
        ("10.0.0.0/33 KEY", 1, Problem::BadPlace),
        ("fe80::1%eth0 KEY", 1, Problem::ScopedPlace),
        ("!10.0.0.1 KEY", 1, Problem::BadPlace),
        ("[host] KEY", 1, Problem::BadServer),
        ("[host]:0 KEY", 1, Problem::BadServer),
        ("[host]:65536 KEY", 1, Problem::BadServer),
        ("[ho st]:1 KEY", 1, Problem::BadServer),
        ("[a..b]:1 KEY", 1, Problem::BadServer),
        (&format!("[{}]:1 KEY", "a".repeat(64)), 1, Problem::LongName),
        (&format!("[{}a]:1 KEY", "a.".repeat(127)), 1, Problem::LongName),
        ("[192.0.2.1%eth0]:1 KEY", 1, Problem::BadScope),
        ("[fe80::1%]:1 KEY", 1, Problem::BadScope),
        ("10.0.0.1", 9, Problem::MissingKey),
        ("10.0.0.1  ", 11, Problem::MissingKey),
        ("10.0.0.1 abc", 10, Problem::BadKey),
        ("10.0.0.1  KEY=", 11, Problem::BadKey),
        ("10.0.0.1 KEY a\u{1b}[2J", 10 + 44 + 2, Problem::ControlCharacter),
        ("10.0.0.1 KEY a\rb", 10 + 44 + 2, Problem::ControlCharacter),
        ("# \u{7f}", 3, Problem::ControlCharacter),
        (&long, 4097, Problem::TooLong),
    ];
    for (wrong, column, problem) in cases {
        let text = format!("# first\n* KEY\n{wrong}\n* KEY\n").replace("KEY", &k);
        let result = FileRegistry::open(file(&folder, &text)).err();
        let expected = Malformed { line: 3, column, problem };
        assert_eq!(result, Some(RegistryFileError::Malformed(expected)), "{wrong}");
        assert_eq!(result.unwrap().error(), Error::BadRegistryFile);
        reasons.insert(expected.to_string().rsplit_once(": ").unwrap().1.to_owned());
    }
    assert_eq!(reasons.len(), 10, "each problem has a reason of its own: {reasons:?}");
    let path = folder.path().join("peers");
    fs::write(&path, b"* \xff\n").unwrap();
    let expected = Malformed { line: 1, column: 3, problem: Problem::NotUtf8 };
    assert_eq!(FileRegistry::open(&path).err(), Some(RegistryFileError::Malformed(expected)));
    assert_eq!(expected.to_string(), "line 1, column 3: the line is not UTF-8");
    fs::write(&path, format!("\u{feff}* {k}\n")).unwrap();
    let expected = Malformed { line: 1, column: 1, problem: Problem::ByteOrderMark };
    assert_eq!(FileRegistry::open(&path).err(), Some(RegistryFileError::Malformed(expected)));
}

#[test]
fn what_others_could_have_written_is_refused() {
    let folder = folder();
    let path = file(&folder, "");
    let chmod = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let refused = |error| assert_eq!(FileRegistry::open(&path).err().map(RegistryFileError::error), error);
    for mode in [0o400, 0o600, 0o644, 0o664] {
        chmod(&path, mode);
        refused(None);
    }
    for mode in [0o602, 0o646, 0o666] {
        chmod(&path, mode);
        refused(Some(Error::RegistryPermissions));
    }
    chmod(&path, 0o644);
    chmod(folder.path(), 0o777);
    refused(Some(Error::RegistryPermissions));
    chmod(folder.path(), 0o1777);
    refused(None);
    fs::remove_file(&path).unwrap();
    refused(Some(Error::FileNotFound));
    fs::create_dir(&path).unwrap();
    refused(Some(Error::InvalidArgument));
    fs::remove_dir(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    refused(Some(Error::InvalidArgument));
}

#[test]
fn a_file_over_a_gibibyte_is_refused_unread() {
    let folder = folder();
    let path = file(&folder, "");
    File::options().write(true).open(&path).unwrap().set_len((1 << 30) + 1).unwrap();
    assert_eq!(FileRegistry::open(&path).err(), Some(RegistryFileError::Failed(Error::TooLarge)));
}

#[test]
fn a_file_of_another_user_is_refused_and_a_change_by_root_leaves_it_to_its_group() {
    if !needs::root() {
        return;
    }
    let folder = folder();
    let path = file(&folder, "");
    chown(&path, None, Some(4711)).unwrap();
    let registry = FileRegistry::open(&path).unwrap();
    registry.add(&entry("10.0.0.1", key(1), "")).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().gid(), 4711);
    chown(&path, Some(4711), None).unwrap();
    let refused = FileRegistry::open(&path).err().unwrap();
    assert_eq!(
        refused.to_string().split(": ").nth(1).unwrap().split(',').next(),
        Some("it belongs to user 4711")
    );
    assert_eq!(refused.error(), Error::RegistryPermissions);
}

#[test]
fn a_link_in_a_folder_of_everybodys_is_refused() {
    let (safe, open) = (folder(), folder());
    let link = open.path().join("peers");
    symlink(file(&safe, ""), &link).unwrap();
    assert!(FileRegistry::open(&link).is_ok());
    fs::set_permissions(open.path(), Permissions::from_mode(0o777)).unwrap();
    assert_eq!(
        FileRegistry::open(&link).err().map(RegistryFileError::error),
        Some(Error::RegistryPermissions)
    );
}

#[test]
fn a_change_of_the_file_is_seen_by_the_next_decision() {
    let [a, b] = keys();
    let folder = folder();
    let path = file(&folder, &format!("10.0.0.1 {a}\n"));
    let registry = FileRegistry::open(&path).unwrap();
    for round in 0..50 {
        let (in_force, gone) = if round % 2 == 0 { (b, a) } else { (a, b) };
        if round % 4 < 2 {
            // In place, with the same size, perhaps within one tick of the file system's clock.
            fs::write(&path, format!("10.0.0.1 {in_force}\n")).unwrap();
        } else {
            let new = folder.path().join("new");
            fs::write(&new, format!("10.0.0.1 {in_force}\n")).unwrap();
            fs::rename(&new, &path).unwrap();
        }
        assert!(admits(&registry, "10.0.0.1", in_force) && !admits(&registry, "10.0.0.1", gone), "{round}");
    }
}

#[test]
fn a_large_file_that_has_changed_is_answered_later() {
    let [a, b] = keys();
    let folder = folder();
    let text =
        |key: PublicKey| format!("{}10.0.0.1 {key}\n", format!("# {}\n", "x".repeat(1000)).repeat(300));
    let path = file(&folder, &text(a));
    // Until the stamp of a recent file can be relied on, the file counts as changed.
    let settled = |registry: &FileRegistry| {
        while registry.deferred() {
            thread::sleep(Duration::from_millis(10));
            assert!(admits(registry, "10.0.0.1", registry.lookup(ip("10.0.0.1"))[0]));
        }
    };
    let registry = FileRegistry::open(&path).unwrap();
    settled(&registry);
    fs::write(&path, text(b)).unwrap();
    assert_eq!((registry.deferred(), registry.max_concurrency()), (true, 1));
    assert!(admits(&registry, "10.0.0.1", b) && !admits(&registry, "10.0.0.1", a));
    settled(&registry);
    fs::write(&path, format!("10.0.0.1 {a}\n")).unwrap();
    assert!(!registry.deferred(), "a small one is read on the spot");
    assert!(admits(&registry, "10.0.0.1", a));
}

#[test]
fn a_change_of_the_file_keeps_the_connections_that_are_there() {
    let vault = || Arc::new(MemoryVault::generate().unwrap());
    let (server_vault, old, new) = (vault(), vault(), vault());
    let folder = folder();
    let path = file(&folder, &format!("* {}\n", old.public_key()));
    let key = server_vault.public_key();
    let registry = Arc::new(FileRegistry::open(&path).unwrap());
    let server = TimedServer::new(server_vault, registry, Options::default()).unwrap();
    let listener = Listener::bind("127.0.0.1", 0, server).unwrap();
    let port = listener.port();
    let connect =
        |vault| Connector::new(vault).server_key(key).timeout(SOON).connect("127.0.0.1", port).unwrap();
    let accept = || listener.accept(SOON).unwrap();
    thread::scope(|scope| {
        let accepting = scope.spawn(accept);
        let kept = connect(old.clone());
        let kept_end = accepting.join().unwrap();
        fs::write(&path, format!("* {}\n", new.public_key())).unwrap();
        let accepting = scope.spawn(accept);
        let refused = connect(old.clone());
        assert_eq!(refused.recv(&mut [0; 8], SOON), Err(Error::Closed));
        let _admitted = connect(new.clone());
        assert_eq!(accepting.join().unwrap().peer_key(), Ok(new.public_key()));
        kept.send(b"still here", SOON).unwrap();
        assert_eq!(kept_end.recv_with(SOON, |message| Ok(message == b"still here")), Ok(true));
    });
}

#[test]
fn a_bad_new_file_keeps_the_old_entries_and_is_reported() {
    let [a, b] = keys();
    let folder = folder();
    let path = file(&folder, &format!("10.0.0.1 {a}\n"));
    let registry = FileRegistry::open(&path).unwrap();
    assert_eq!(registry.problem(), None);
    let in_force = |expected: Option<RegistryFileError>| {
        assert!(admits(&registry, "10.0.0.1", a) && !admits(&registry, "10.0.0.1", b));
        assert_eq!(registry.problem(), expected);
        assert_eq!(registry.reload().err(), expected);
    };
    let exposed = RegistryFileError::BadPath(BadPath {
        path: fs::canonicalize(folder.path()).unwrap().into(),
        problem: PathProblem::WritableByAll,
    });
    fs::write(&path, format!("10.0.0.1 {b}\nwhat is this\n")).unwrap();
    let problem = Malformed { line: 2, column: 1, problem: Problem::BadPlace };
    in_force(Some(RegistryFileError::Malformed(problem)));
    fs::remove_file(&path).unwrap();
    in_force(Some(RegistryFileError::Failed(Error::FileNotFound)));
    fs::write(&path, format!("10.0.0.1 {b}\n")).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    in_force(Some(exposed));
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    assert!(admits(&registry, "10.0.0.1", b));
    assert_eq!(registry.problem(), None);
}

#[test]
fn writing_keeps_what_is_not_changed() {
    let [a, b] = keys();
    let folder = folder();
    let before = format!("# mine\n\n10.0.0.1 {a}  as it was\r\n  * {b}");
    let path = file(&folder, &before);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    let registry = FileRegistry::open(&link).unwrap();
    assert_eq!(registry.add(&entry("10.0.0.2", b, "new, ü")), Ok(true));
    assert_eq!(registry.add(&entry("10.0.0.2", b, "other")), Ok(false));
    let after = format!("{before}\n10.0.0.2 {b} new, ü\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), after);
    assert!(admits(&registry, "10.0.0.2", b));
    let subject = Subject::Client(Place::Anywhere);
    registry.remove(&subject, &b).unwrap();
    assert_eq!(registry.remove(&subject, &b), Err(Error::NotFound.into()));
    assert_eq!(fs::read_to_string(&path).unwrap(), after.replace(&format!("  * {b}\n"), ""));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    for comment in ["a\nb", "\u{1b}", " a", &"x".repeat(1025)] {
        let refused = registry.add(&entry("10.0.0.3", a, comment));
        assert_eq!(refused, Err(Error::InvalidArgument.into()));
    }
    fs::write(&path, "wrong").unwrap();
    assert!(matches!(registry.add(&entry("10.0.0.3", a, "")), Err(RegistryFileError::Malformed(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "wrong");
}

#[test]
fn a_new_file_is_readable_and_a_missing_one_is_made() {
    let folder = folder();
    let path = folder.path().join("peers");
    assert_eq!(FileRegistry::open(&path).err(), Some(RegistryFileError::Failed(Error::FileNotFound)));
    let registry = FileRegistry::open_or_create(&path).unwrap();
    assert!(!admits(&registry, "10.0.0.1", key(1)));
    fs::write(folder.path().join("peers.new"), "left by a writer that was killed").unwrap();
    registry.add(&entry("10.0.0.1", key(1), "")).unwrap();
    assert!(admits(&FileRegistry::open_or_create(&path).unwrap(), "10.0.0.1", key(1)));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o022, 0, "nobody else may write it");
}

#[test]
fn a_file_that_is_gone_is_not_made_by_a_change() {
    let folder = folder();
    let path = file(&folder, "");
    let registry = FileRegistry::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let gone = Err(RegistryFileError::Failed(Error::FileNotFound));
    assert_eq!(registry.add(&entry("10.0.0.1", key(1), "")), gone);
    assert!(!path.exists());
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(registry.add(&entry("10.0.0.1", key(1), "")), gone);
}

#[test]
fn a_link_that_leads_nowhere_stays_a_link() {
    let folder = folder();
    let link = folder.path().join("peers");
    symlink(folder.path().join("none/peers"), &link).unwrap();
    let gone = Err(RegistryFileError::Failed(Error::FileNotFound));
    assert_eq!(FileRegistry::add_to(&link, &entry("10.0.0.1", key(1), "")), gone);
    assert!(link.is_symlink());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn writers_take_turns_and_readers_see_whole_files() {
    let folder = folder();
    let path = file(&folder, &format!("* {}\n", key(250)));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let registry = FileRegistry::open(&path).unwrap();
            while !done.load(Ordering::Relaxed) {
                registry.reload().unwrap();
                assert!(admits(&registry, "192.0.2.1", key(250)));
            }
        });
        let writers: Vec<_> = (0..4u8)
            .map(|writer| {
                let path = &path;
                scope.spawn(move || {
                    // Each opens the file itself, as another process would.
                    let registry = FileRegistry::open(path).unwrap();
                    for i in 0..10 {
                        registry.add(&entry(&format!("10.0.{writer}.{i}"), key(writer), "")).unwrap();
                    }
                    registry
                        .remove(&entry(&format!("10.0.{writer}.0"), key(writer), "").subject, &key(writer))
                })
            })
            .collect();
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        results.into_iter().for_each(|result| result.unwrap().unwrap());
    });
    let mut count = 0;
    FileRegistry::each_entry(&path, |_| count += 1).unwrap();
    assert_eq!(count, 1 + 4 * 9);
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_fewer_entries() {
    let folder = folder();
    let text = format!("10.0.0.1 {} one\n* {}\n", key(1), key(2));
    for len in 0..text.len() {
        let path = folder.path().join("peers");
        File::create(&path).unwrap().write_all(&text.as_bytes()[..len]).unwrap();
        if let Ok(registry) = FileRegistry::open(&path) {
            let keys = registry.lookup(ip("10.0.0.1"));
            assert!(keys.iter().all(|k| [key(1), key(2)].contains(k)), "{len}");
        }
    }
}

#[test]
fn the_documents_example_is_a_registry_file() {
    let text = include_str!("../../docs/REGISTRIES.md");
    let example = text.split("```text /etc/myserver/registry\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = folder();
    let registry = FileRegistry::open(file(&folder, example)).unwrap();
    let mail = registry.lookup(ip("192.0.2.7"));
    assert_eq!(mail.len(), 2, "the mail gateway's key, and the one from anywhere");
    assert!(!registry.lookup(ip("2001:db8::1")).is_empty());
    assert!(registry.server_keys(&"[db.example.org]:7000".parse().unwrap(), None).is_ok());
}
