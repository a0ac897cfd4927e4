//! A vault's file rewritten with the same key: another passphrase, a counter that is safe after a
//! restore, an existing key.

use curve_tun::vault::{Cost, FileVault, Purpose, Vault};
use curve_tun::{Error, KEY_TEXT_LEN, PublicKey, SecretKey};
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const TOOL: &str = env!("CARGO_BIN_EXE_curve-tun");
const CHEAP: Cost = Cost { operations: 1, memory: 8192 };
const DEARER: Cost = Cost { operations: 2, memory: 16384 };

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    (folder, path)
}

/// The names in a folder.
fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn nonce(vault: &FileVault) -> [u8; 16] {
    vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16]).unwrap()
}

fn opens(path: &Path, passphrase: Option<&[u8]>) -> Result<PublicKey, Error> {
    FileVault::open(path, passphrase).map(|vault| {
        nonce(&vault);
        vault.public_key()
    })
}

#[test]
fn a_passphrase_is_given_changed_and_taken_away_and_the_key_stays() {
    let (folder, path) = place();
    let key = FileVault::create(&path, None, CHEAP).unwrap().public_key();
    let steps: [Option<&[u8]>; 5] = [None, Some(b"one"), Some(b"t\0wo\xff"), Some(b"t\0wo\xff"), None];
    // What a killed process left behind.
    fs::write(folder.path().join("vault.new"), b"half").unwrap();
    for pair in steps.windows(2) {
        let [old, new] = pair else { unreachable!() };
        let before = fs::read(&path).unwrap();
        assert_eq!(
            FileVault::change_passphrase(&path, Some(b"wrong"), *new, CHEAP),
            Err(Error::WrongPassphrase)
        );
        assert_eq!(FileVault::change_passphrase(&path, *old, Some(b""), CHEAP), Err(Error::InvalidArgument));
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(FileVault::change_passphrase(&path, *old, *new, CHEAP), Ok(key));
        assert_eq!(opens(&path, *new), Ok(key));
        if old != new {
            assert_eq!(opens(&path, *old), Err(Error::WrongPassphrase));
        }
        let file = fs::metadata(&path).unwrap();
        assert_eq!((file.mode() & 0o7777, file.len()), (0o600, before.len() as u64));
        assert_eq!(names(&folder), ["vault"]);
    }
}

#[test]
fn what_is_in_use_or_not_trusted_is_left_as_it_is() {
    let (folder, path) = place();
    let vault = FileVault::create(&path, None, CHEAP).unwrap();
    assert_eq!(FileVault::renew(&path, None), Err(Error::VaultInUse));
    assert_eq!(FileVault::change_passphrase(&path, None, Some(b"p"), CHEAP), Err(Error::VaultInUse));
    drop(vault);
    assert_eq!(FileVault::renew(&folder.path().join("none"), None), Err(Error::FileNotFound));
    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    assert_eq!(FileVault::renew(&path, None), Err(Error::VaultPermissions));
    assert_eq!(names(&folder), ["vault"]);
}

#[test]
fn a_copy_that_was_restored_repeats_counters_unless_it_is_renewed() {
    let (folder, path) = place();
    let key = FileVault::create(&path, Some(b"p"), DEARER).unwrap().public_key();
    let backup = folder.path().join("backup");
    fs::copy(&path, &backup).unwrap();
    // The nonces of three openings, as counters under the nonce block key of the backup.
    let counters = || -> HashSet<u64> {
        let nonces: Vec<_> = (0..3).map(|_| nonce(&FileVault::open(&path, Some(b"p")).unwrap())).collect();
        let old = FileVault::open(&backup, Some(b"p")).unwrap();
        nonces.iter().map(|nonce| old.counter_in(nonce)).collect()
    };
    let mut used = counters();
    fs::copy(&backup, &path).unwrap();
    assert_eq!(counters(), used, "this is what a restored copy does");
    // Each time it is restored.
    for _ in 0..3 {
        fs::copy(&backup, &path).unwrap();
        assert_eq!(FileVault::renew(&path, Some(b"wrong")), Err(Error::WrongPassphrase));
        assert_eq!(FileVault::renew(&path, Some(b"p")), Ok(key));
        let renewed = counters();
        assert!(used.is_disjoint(&renewed));
        used.extend(renewed);
        assert_eq!(fs::read(&path).unwrap()[24..40], fs::read(&backup).unwrap()[24..40], "the cost stays");
    }
}

#[test]
fn a_vault_whose_counter_is_damaged_altogether_is_renewed() {
    for passphrase in [None, Some(&b"p"[..])] {
        let (_folder, path) = place();
        let key = FileVault::create(&path, passphrase, CHEAP).unwrap().public_key();
        let mut file = fs::read(&path).unwrap();
        file[4096..].fill(0);
        fs::write(&path, file).unwrap();
        assert_eq!(opens(&path, passphrase), Err(Error::VaultCorrupt));
        assert_eq!(FileVault::renew(&path, passphrase), Ok(key));
        assert_eq!(opens(&path, passphrase), Ok(key));
    }
}

/// Runs the tool under strace.
fn traced(strace: &[&str], arguments: &[&str]) -> Output {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(strace).arg(TOOL).args(arguments);
    command.output().expect("strace, from the package of that name")
}

#[test]
fn a_tool_killed_in_each_of_its_system_calls_leaves_the_old_file_or_the_new_one() {
    let (folder, path) = place();
    let key = FileVault::create(&path, None, CHEAP).unwrap().public_key();
    let log = folder.path().join("log");
    let renew = ["renew", "--vault", path.to_str().unwrap()];
    assert_eq!(traced(&["-o", log.to_str().unwrap()], &renew).status.code(), Some(0));
    let log = fs::read_to_string(&log).unwrap();
    let (mut seen, mut calls) = (std::collections::HashMap::new(), Vec::new());
    for line in log.lines() {
        let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
        let Some((name, _)) = call.split_once('(').filter(|(name, _)| !name.contains(' ')) else { continue };
        let number = seen.entry(name.to_owned()).and_modify(|n| *n += 1).or_insert(1);
        calls.push((name.to_owned(), *number, call.contains("/vault\"")));
    }
    let start = calls.iter().position(|(name, _, of_vault)| name == "openat" && *of_vault).unwrap();
    assert!(calls.iter().any(|(name, ..)| name.starts_with("rename")), "{calls:?}");
    let before = fs::read(&path).unwrap();
    let mut replaced = 0;
    for (name, number, _) in &calls[start..] {
        traced(&["-o", "/dev/null", "-e", &format!("inject={name}:signal=KILL:when={number}")], &renew);
        replaced += usize::from(fs::read(&path).unwrap()[..224] != before[..224]);
        assert_eq!(opens(&path, None), Ok(key), "{name} {number}");
    }
    assert!(replaced > 0 && replaced < calls.len() - start);
}

#[test]
fn a_disk_that_fails_leaves_the_old_file() {
    let (folder, path) = place();
    let key = FileVault::create(&path, None, CHEAP).unwrap().public_key();
    let (before, log) = (fs::read(&path).unwrap(), "/dev/null");
    for (call, said) in
        [("pwrite64:error=ENOSPC", "disk is full"), ("fsync:error=EIO:when=1", "reported a failure")]
    {
        let output = traced(
            &["-o", log, "-e", &format!("inject={call}")],
            &["renew", "--vault", path.to_str().unwrap()],
        );
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{told}");
        assert!(told.contains(said) && told.lines().count() == 2, "{told}");
        assert_eq!((fs::read(&path).unwrap(), names(&folder)), (before.clone(), vec!["vault".to_owned()]));
    }
    assert_eq!(opens(&path, None), Ok(key));
}

/// Returns what the tool prints.
fn printed(arguments: &[&str]) -> String {
    let output = Command::new(TOOL).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn a_key_that_was_there_before_is_imported_and_resealed_by_the_tool() {
    let (folder, path) = place();
    let file = |name: &str, contents: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let secret = SecretKey::generate().unwrap();
    let (key, mut text) = (secret.public_key().unwrap().to_string(), [0; KEY_TEXT_LEN]);
    secret.expose_text(&mut text);
    let (secret, vault) = (file("secret", &text), path.to_str().unwrap());
    let (one, two) = (file("one", b"one\n"), file("two", b"two\n"));
    assert_eq!(printed(&["keygen", "--vault", vault, "--secret", &secret]), key);
    assert_eq!(opens(&path, None).unwrap().to_string(), key);
    fs::remove_file(&path).unwrap();
    // Sealing may also be requested explicitly.
    let sealed =
        ["keygen", "--vault", vault, "--passphrase", "--passphrase-file", &one, "--cost", "interactive"];
    assert_eq!(printed(&[&sealed[..], &["--secret", &secret]].concat()), key);
    assert_eq!(opens(&path, Some(b"one")).unwrap().to_string(), key);
    let change = ["passphrase", "--vault", vault, "--passphrase-file"];
    let new = ["--new-passphrase-file", &two, "--cost", "interactive"];
    assert_eq!(printed(&[&change[..], &[&one], &new].concat()), key);
    assert_eq!(opens(&path, Some(b"two")).unwrap().to_string(), key);
    assert_eq!(printed(&["renew", "--vault", vault, "--passphrase-file", &two]), key);
    assert_eq!(printed(&[&change[..], &[&two, "--remove"]].concat()), key);
    assert_eq!(opens(&path, None).unwrap().to_string(), key);
    assert_eq!(
        printed(&["passphrase", "--vault", vault, "--new-passphrase-file", &one, "--cost", "interactive"]),
        key
    );
    assert_eq!(opens(&path, Some(b"one")).unwrap().to_string(), key);
}
