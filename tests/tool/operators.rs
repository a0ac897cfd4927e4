//! `curve-tun peers` by several users: the attributes that decide who may read a file are kept, and
//! a group of operators may change it.
//!
//! These tests need root, to become each of these users, and the packages acl, attr and util-linux.

use crate::support::registry::key;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// Users that exist on no machine, and the group of the operators.
const SERVICE: u32 = 47_110;
const ALICE: u32 = 47_111;
const BOB: u32 = 47_112;
const MALLORY: u32 = 47_113;
const OPERATORS: u32 = 47_120;

/// A folder with a registry file, and the tool where every user can run it.
struct House {
    _root: TempDir,
    tool: PathBuf,
    folder: PathBuf,
    file: PathBuf,
}

impl House {
    /// The folder's owner, group and mode.
    fn new(owner: u32, group: u32, mode: u32) -> House {
        assert!(nix::unistd::geteuid().is_root(), "needs root");
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        let tool = root.path().join("curve-tun");
        fs::copy(env!("CARGO_BIN_EXE_curve-tun"), &tool).unwrap();
        let folder = root.path().join("etc");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("peers");
        let house = House { _root: root, tool, folder, file };
        give(&house.folder, owner, group, mode);
        house
    }

    /// The registry file, with an entry for `key(250)` from anywhere.
    fn with_file(self, owner: u32, group: u32, mode: u32) -> House {
        fs::write(&self.file, format!("# ours\n* {}  the first", key(250))).unwrap();
        give(&self.file, owner, group, mode);
        self
    }

    /// Returns a command of `curve-tun peers` run by a user, who is in the operators' group if an
    /// operator.
    fn peers(&self, user: u32, verb: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        let id = |option, id: u32| format!("--{option}={id}");
        command.args([id("reuid", user), id("regid", user)]);
        let operator = [0, ALICE, BOB].contains(&user);
        command.arg(if operator { id("groups", OPERATORS) } else { "--clear-groups".to_owned() });
        command.arg(&self.tool).args(["peers", verb, "--registry"]).arg(&self.file).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    fn does(&self, user: u32, verb: &str, arguments: &[&str]) {
        let (code, _, error) = run(self.peers(user, verb, arguments));
        assert_eq!((code, &*error), (0, ""), "{user} {verb} {arguments:?}");
    }

    /// Checks that it fails with these words in the message.
    fn fails(&self, user: u32, verb: &str, arguments: &[&str], words: &[&str]) {
        let (code, out, error) = run(self.peers(user, verb, arguments));
        assert_eq!((code, &*out), (1, ""), "{error}");
        words.iter().for_each(|word| assert!(error.contains(word), "{word:?} is not in {error:?}"));
    }

    /// Whether the service, which opens the file again, lets the key in.
    fn lets_in(&self, key: &str) -> bool {
        let (code, out, error) = run(self.peers(SERVICE, "check", &["192.0.2.1", key]));
        assert!(code == 0 || code == 3, "{error}");
        assert_eq!(out, if code == 0 { "yes\n" } else { "no\n" });
        code == 0
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }
}

fn give(path: &Path, owner: u32, group: u32, mode: u32) {
    chown(path, Some(owner), Some(group)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Returns exit code, standard output and standard error.
fn run(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("needs setpriv of util-linux");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Returns the output of a command that the test needs.
fn said(program: &str, arguments: &[&str], path: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(path).output();
    let output = output.unwrap_or_else(|e| panic!("needs {program} of the packages acl and attr: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns owner, group, mode, access control list and every other extended attribute.
fn decides(path: &Path) -> (u32, u32, u32, String, String) {
    let metadata = fs::metadata(path).unwrap();
    let list = said("getfacl", &["--numeric", "--absolute-names"], path);
    let attributes = said("getfattr", &["--dump", "--match=-", "--absolute-names"], path);
    (metadata.uid(), metadata.gid(), metadata.mode(), list, attributes)
}

#[test]
fn a_service_that_reads_by_an_access_list_sees_a_change_and_reads_on() {
    let house = House::new(0, 0, 0o755).with_file(0, 0, 0o640);
    said("setfacl", &["--modify", &format!("u:{SERVICE}:r,g:{OPERATORS}:r,m::r")], &house.file);
    for (name, value) in [("user.note", "ours"), ("trusted.of_root", "x"), ("security.label", "peers_t")] {
        said("setfattr", &["--name", name, "--value", value], &house.file);
    }
    let before = decides(&house.file);
    let (inode, stolen) = (fs::metadata(&house.file).unwrap().ino(), key(250).to_string());
    assert!(house.lets_in(&stolen));
    house.does(0, "add", &["!", &stolen]);
    assert_eq!(decides(&house.file), before);
    assert_ne!(fs::metadata(&house.file).unwrap().ino(), inode, "it is replaced");
    assert!(!house.lets_in(&stolen));
    house.does(0, "remove", &["!", &stolen]);
    assert_eq!(decides(&house.file), before);
    assert!(house.lets_in(&stolen));
}

#[test]
fn what_a_folder_bequeaths_does_not_reach_a_file_that_is_changed() {
    let house = House::new(0, 0, 0o755).with_file(0, OPERATORS, 0o640);
    let before = decides(&house.file);
    said("setfacl", &["--default", "--modify", &format!("u:{MALLORY}:rw,g:{MALLORY}:rw")], &house.folder);
    house.does(0, "add", &["192.0.2.1", &key(1).to_string()]);
    assert_eq!(decides(&house.file), before);
    let lock = house.folder.join("peers.lock");
    assert_eq!(fs::metadata(&lock).unwrap().mode() & 0o7777, 0o600);
    assert!(!said("getfacl", &["--numeric", "--absolute-names"], &lock).contains(&MALLORY.to_string()));
}

#[test]
fn an_owner_who_may_not_give_it_back_its_attributes_changes_it_in_place() {
    let house = House::new(SERVICE, SERVICE, 0o755).with_file(SERVICE, SERVICE, 0o644);
    // Only root can set it on another file.
    said("setfattr", &["--name", "security.label", "--value", "peers_t"], &house.file);
    let before = decides(&house.file);
    house.does(SERVICE, "add", &["192.0.2.0/24", &key(1).to_string(), "--comment", "Zürich"]);
    assert_eq!(decides(&house.file), before);
    assert_eq!(house.names(), ["peers", "peers.lock"]);
    let expected = format!("# ours\n* {}  the first\n192.0.2.0/24 {} Zürich\n", key(250), key(1));
    assert_eq!(house.text(), expected);
    house.does(SERVICE, "remove", &["*", &key(250).to_string()]);
    assert_eq!(house.text(), expected.replace("\n* ", "\n# "));
}

#[test]
fn operators_of_a_group_change_a_file_of_roots() {
    for (mode, folder) in [(0o664, 0o2770), (0o664, 0o1777), (0o660, 0o2775)] {
        let house = House::new(0, OPERATORS, folder).with_file(0, OPERATORS, mode);
        said("setfacl", &["--modify", &format!("u:{SERVICE}:r")], &house.file);
        said("setfacl", &["--modify", &format!("u:{SERVICE}:x")], &house.folder);
        let before = decides(&house.file);
        let [a, b, c] = [1, 2, 3].map(|i| key(i).to_string());
        house.does(ALICE, "add", &["192.0.2.0/24", &a]);
        house.does(BOB, "add", &["!", &a, "--comment", "lost"]);
        assert!(house.lets_in(&key(250).to_string()) && !house.lets_in(&a), "{folder:o}");
        house.does(0, "add", &["192.0.2.0/24", &b]);
        house.does(BOB, "remove", &["!", &a]);
        house.does(ALICE, "add", &["192.0.2.0/24", &c]);
        house.does(ALICE, "purge", &[&b]);
        assert!(house.lets_in(&a) && !house.lets_in(&b) && house.lets_in(&c), "{folder:o}");
        assert_eq!(decides(&house.file), before, "{folder:o}");
        house.fails(MALLORY, "add", &["*", &a], &["peers"]);
        house.does(0, "check", &[]);
    }
}

#[test]
fn an_operator_by_an_access_list_changes_the_file_and_a_reader_cannot_hold_the_lock() {
    let house = House::new(0, 0, 0o755).with_file(0, 0, 0o640);
    said("setfacl", &["--modify", &format!("u:{ALICE}:rw,u:{SERVICE}:r")], &house.file);
    said("setfacl", &["--modify", &format!("u:{ALICE}:rwx")], &house.folder);
    let before = decides(&house.file);
    house.does(ALICE, "add", &["192.0.2.1", &key(1).to_string()]);
    house.does(0, "add", &["192.0.2.2", &key(2).to_string()]);
    house.does(ALICE, "add", &["192.0.2.3", &key(3).to_string()]);
    assert_eq!(decides(&house.file), before);
    assert!(house.lets_in(&key(250).to_string()));
    let lock = house.folder.join("peers.lock");
    let mut reader = Command::new("setpriv");
    reader.args([format!("--reuid={SERVICE}"), format!("--regid={SERVICE}")]).arg("--clear-groups");
    let read = reader.arg("cat").arg(lock).output().unwrap();
    assert!(!read.status.success(), "the service may read the lock");
}

#[test]
fn many_operators_at_once_lose_nothing_killed_or_not() {
    let house = House::new(0, OPERATORS, 0o2770).with_file(0, OPERATORS, 0o664);
    said("setfacl", &["--modify", &format!("u:{SERVICE}:rx")], &house.folder);
    let users = [0, ALICE, BOB];
    let add = |i: u8| {
        let arguments = [&*format!("192.0.2.{i}"), &*key(i).to_string()].map(str::to_owned);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        house.peers(users[usize::from(i) % 3], "add", &arguments).spawn().unwrap()
    };
    let children: Vec<Child> = (0..24).map(add).collect();
    children.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
    assert_eq!(run(house.peers(0, "check", &[])).1, "25 entries\n");
    for i in 24..64u8 {
        let mut child = add(i);
        std::thread::sleep(std::time::Duration::from_micros(u64::from(i) * 150));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(house.lets_in(&key(250).to_string()));
    }
    house.does(BOB, "add", &["192.0.2.100", &key(100).to_string()]);
    let listed = run(house.peers(0, "list", &[])).1;
    (0..24).chain([100]).for_each(|i| assert!(listed.contains(&key(i).to_string()), "{i} is lost"));
}

#[test]
fn a_file_under_several_names_is_changed_under_all() {
    let house = House::new(0, 0, 0o755).with_file(0, 0, 0o644);
    let other = house.folder.join("other");
    fs::hard_link(&house.file, &other).unwrap();
    house.does(0, "add", &["!", &key(250).to_string()]);
    assert_eq!(fs::read_to_string(other).unwrap(), house.text());
    assert_eq!(fs::metadata(&house.file).unwrap().nlink(), 2);
    assert!(!house.lets_in(&key(250).to_string()));
}

/// Gives this thread, and the processes that it starts, separate mounts.
fn own_mounts() -> impl Fn(&Path, &Path, Option<&str>, MsFlags) {
    unshare(CloneFlags::CLONE_NEWNS).expect("needs root");
    let mount = |from: &Path, to: &Path, size: Option<&str>, flags| {
        nix::mount::mount(Some(from), to, size.map(|_| "tmpfs"), flags, size).unwrap();
    };
    mount(Path::new("none"), Path::new("/"), None, MsFlags::MS_PRIVATE | MsFlags::MS_REC);
    mount
}

/// As in a container.
#[test]
fn a_file_that_is_a_mount_is_changed_in_place() {
    let mount = own_mounts();
    let house = House::new(0, 0, 0o755).with_file(0, 0, 0o644);
    let original = house.folder.join("original");
    fs::rename(&house.file, &original).unwrap();
    fs::write(&house.file, "").unwrap();
    mount(&original, &house.file, None, MsFlags::MS_BIND);
    house.does(0, "add", &["!", &key(250).to_string()]);
    assert!(!house.lets_in(&key(250).to_string()));
    assert_eq!(house.names(), ["original", "peers", "peers.lock"]);
    nix::mount::umount(&house.file).unwrap();
    assert!(fs::read_to_string(original).unwrap().ends_with(&format!("\n! {}\n", key(250))));
}

#[test]
fn a_full_disk_leaves_the_file_as_it_was() {
    let mount = own_mounts();
    let house = House::new(0, 0, 0o755);
    mount(Path::new("none"), &house.folder, Some("size=64k"), MsFlags::empty());
    give(&house.folder, 0, OPERATORS, 0o2775);
    // Fills the page to its end, so that one more byte needs another.
    let text = format!("* {}\n", key(250));
    let text = format!("{}\n{text}", "#".repeat(4096 - 1 - text.len()));
    fs::write(&house.file, &text).unwrap();
    give(&house.file, 0, OPERATORS, 0o664);
    let ballast = house.folder.join("ballast");
    assert!(fs::write(&ballast, [0; 1 << 16]).is_err(), "it fits");
    for user in [0, ALICE] {
        house.fails(user, "add", &["!", &key(250).to_string()], &["the disk is full"]);
        assert_eq!(house.text(), text);
        assert_eq!(house.names(), ["ballast", "peers", "peers.lock"]);
    }
    // Turning a line into a comment takes no space, and a short file has some left.
    house.does(ALICE, "remove", &["*", &key(250).to_string()]);
    fs::write(&house.file, &text[2048..]).unwrap();
    house.does(0, "add", &["!", &key(250).to_string()]);
    house.does(0, "remove", &["!", &key(250).to_string()]);
    fs::remove_file(&ballast).unwrap();
    house.does(0, "add", &["*", &key(1).to_string()]);
}

#[test]
fn who_may_not_change_it_is_told_why_and_leaves_nothing() {
    let add = ["192.0.2.1", &*key(1).to_string()].map(str::to_owned);
    let add: Vec<_> = add.iter().map(String::as_str).collect();
    // Neither the folder nor the file.
    let house = House::new(0, 0, 0o755).with_file(0, 0, 0o644);
    house.fails(ALICE, "add", &add, &["peers: this user may neither write it", "as root", "chmod g+w"]);
    // The file, but not the folder.
    give(&house.file, 0, OPERATORS, 0o664);
    house.fails(ALICE, "add", &add, &["peers.lock: ", "may not make files in", "etc"]);
    // The folder, but not the file.
    give(&house.folder, 0, OPERATORS, 0o775);
    give(&house.file, 0, OPERATORS, 0o644);
    house.fails(ALICE, "add", &add, &["peers: this user may neither write it", "its owner and group kept"]);
    // A lock of an earlier version, which only its creator could open.
    give(&house.file, 0, OPERATORS, 0o664);
    let lock = house.folder.join("peers.lock");
    fs::write(&lock, "").unwrap();
    give(&lock, 0, 0, 0o600);
    house.fails(ALICE, "remove", &["*", &key(250).to_string()], &["peers.lock: ", "the next change by root"]);
    assert_eq!(house.names(), ["peers", "peers.lock"]);
    house.does(0, "add", &["*", &key(2).to_string()]);
    house.does(ALICE, "add", &add);
    // A file that this user cannot even read.
    give(&house.file, 0, 0, 0o600);
    house.fails(MALLORY, "list", &[], &["peers: ", "permission", "may not read"]);
}

#[test]
fn a_refused_sudo_leaves_nothing_and_says_as_whom() {
    let house = House::new(SERVICE, SERVICE, 0o755);
    let user = format!("sudo -u '#{SERVICE}'");
    house.fails(0, "add", &["*", &key(1).to_string()], &["etc: it belongs to user", &user]);
    assert_eq!(house.names(), [""; 0]);
    house.does(SERVICE, "add", &["*", &key(1).to_string()]);
    assert!(house.lets_in(&key(1).to_string()));
    house.fails(0, "add", &["*", &key(2).to_string()], &["etc: it belongs to user", &user]);
    // The folder is root's, the file another user's.
    give(&house.folder, 0, 0, 0o755);
    give(&house.file, MALLORY, MALLORY, 0o644);
    let user = format!("sudo -u '#{MALLORY}'");
    house.fails(0, "list", &[], &["peers: it belongs to user", &user, "chown root"]);
    assert_eq!(house.names(), ["peers", "peers.lock"]);
}

#[test]
fn a_check_as_the_user_of_the_program_sees_what_that_sees() {
    let house = House::new(0, 0, 0o755).with_file(0, 0, 0o600);
    house.does(0, "check", &[]);
    house.fails(0, "check", &["--as", "nobody"], &["peers: ", "permission"]);
    fs::set_permissions(&house.file, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(run(house.peers(0, "check", &["--as", "nobody"])).1, "1 entries\n");
    give(&house.file, MALLORY, MALLORY, 0o644);
    house.fails(0, "check", &["--as", "nobody"], &["it belongs to user"]);
    house.fails(0, "check", &["--as", "no_such_user"], &["there is no user", "getent"]);
    house.fails(ALICE, "check", &["--as", "nobody"], &["Only root"]);
}

#[test]
fn the_documents_file_of_a_group_is_changed_by_operators_and_read_by_the_service() {
    let house = House::new(0, 0, 0o700);
    fs::remove_dir(&house.folder).unwrap();
    let text = include_str!("../../docs/REGISTRIES.md");
    let script = text.split("```sh operators\n").nth(1).expect("the recipe").split("```").next().unwrap();
    let group = OPERATORS.to_string();
    let made = Command::new("sh")
        .args(["-ec", script])
        .env("FILE", &house.file)
        .env("GROUP", group)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let [a, b] = [1, 2].map(|i| key(i).to_string());
    house.does(ALICE, "add", &["*", &a]);
    house.does(BOB, "add", &["*", &b]);
    house.does(ALICE, "remove", &["*", &b]);
    assert!(house.lets_in(&a) && !house.lets_in(&b));
    house.fails(MALLORY, "add", &["*", &b], &["peers: this user may neither write it"]);
}

#[test]
fn the_documents_way_to_edit_keeps_what_decides_and_nobody_waiting() {
    let house = House::new(0, 0, 0o755).with_file(0, 0, 0o640);
    said("setfacl", &["--modify", &format!("u:{SERVICE}:r")], &house.file);
    let before = decides(&house.file);
    let text = include_str!("../../docs/REGISTRIES.md");
    let script = text.split("```sh edit\n").nth(1).expect("the recipe").split("```").next().unwrap();
    // The tool's folder comes first, so that a `vi` there is found.
    let path = format!("{}:{}", house.tool.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let editor = |name: &str, does: &str| {
        let editor = house.tool.with_file_name(name);
        fs::write(&editor, format!("#!/bin/sh\n{does}\n")).unwrap();
        fs::set_permissions(&editor, Permissions::from_mode(0o755)).unwrap();
        editor
    };
    let edit = |editor: Option<&Path>| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("FILE", &house.file).env("PATH", &path).env_remove("EDITOR");
        command.envs(editor.map(|editor| ("EDITOR", editor)));
        command.output().unwrap()
    };
    let denial = format!("! {}", key(250));
    let edited = edit(Some(&editor("editor", &format!("printf '\\n{denial}\\n' >>\"$1\""))));
    assert!(edited.status.success(), "{edited:?}");
    assert_eq!(decides(&house.file), before);
    assert_eq!(house.text().lines().last().unwrap(), denial);
    assert_eq!(house.names(), ["peers", "peers.lock"]);

    // The default editor is vi.
    editor("vi", &format!("echo '* {}' >>\"$1\"", key(1)));
    let edited = edit(None);
    assert!(edited.status.success(), "{edited:?}");
    assert!(house.lets_in(&key(1).to_string()));

    // A key that is denied while the editor is open is denied at once, and stays so.
    let denies = format!("curve-tun peers add --registry '{}' '!' {} || exit", house.file.display(), key(2));
    let edited = edit(Some(&editor("editor", &format!("{denies}\necho '* {}' >>\"$1\"", key(2)))));
    let said = String::from_utf8_lossy(&edited.stdout);
    assert!(!edited.status.success() && said.contains("differ"), "{edited:?}");
    assert!(house.text().contains(&format!("! {}", key(2))), "{}", house.text());
    assert!(!house.lets_in(&key(2).to_string()));

    // An invalid file is not put in place.
    let before = house.text();
    assert!(!edit(Some(&editor("editor", "echo wrong >>\"$1\""))).status.success());
    assert_eq!(house.text(), before);
}
