//! The file vault: how it is made, who may open it, and what happens with a damaged file.

use crate::support;
use crate::support::needs;
use curve_tun::vault::{Cost, Exposure, FileVault, Purpose, STEP, Vault};
use curve_tun::{Error, PublicKey};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const CHEAP: Cost = Cost { operations: 1, memory: 8192 };
const PAGE: usize = 4096;
/// Bytes in a slot of the counter's bound.
const SLOT: usize = 48;

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    (folder, path)
}

fn create(path: &Path) -> FileVault {
    FileVault::create(path, None, CHEAP).unwrap()
}

fn open(path: &Path) -> Result<FileVault, Error> {
    FileVault::open(path, None)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The counter of the next nonce.
fn counter(vault: &FileVault) -> u64 {
    let nonce = vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16]).unwrap();
    vault.counter_in(&nonce)
}

#[test]
fn a_new_file_is_its_owners_alone_and_opens_again_with_the_same_key() {
    let (_folder, path) = place();
    let vault = create(&path);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.len()), (0o600, 3 * PAGE as u64));
    let (key, first) = (vault.public_key(), counter(&vault));
    drop(vault);
    let vault = open(&path).unwrap();
    assert_eq!(vault.public_key(), key);
    assert!(counter(&vault) > first);
    let info = FileVault::inspect(&path).unwrap();
    assert_eq!((info.public_key, info.sealed), (key, false));
}

#[test]
fn what_is_already_there_is_never_overwritten() {
    let (folder, path) = place();
    fs::write(&path, b"precious").unwrap();
    let dangling = folder.path().join("link");
    symlink(folder.path().join("nowhere"), &dangling).unwrap();
    for path in [&path, &dangling, &folder.path().to_path_buf()] {
        assert_eq!(FileVault::create(path, None, CHEAP).err(), Some(Error::AlreadyExists));
    }
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert!(!folder.path().join("nowhere").exists());
}

#[test]
fn paths_that_lead_nowhere_are_said_so() {
    let (folder, path) = place();
    assert_eq!(open(&path).err(), Some(Error::FileNotFound));
    assert_eq!(FileVault::inspect(&path), Err(Error::FileNotFound));
    let deeper = folder.path().join("no/folder");
    assert_eq!(FileVault::create(&deeper, None, CHEAP).err(), Some(Error::FileNotFound));
    assert_eq!(FileVault::create(Path::new("a\0b"), None, CHEAP).err(), Some(Error::InvalidArgument));
}

#[test]
fn a_file_open_to_group_or_others_is_refused_and_the_reason_named() {
    let (_folder, path) = place();
    drop(create(&path));
    for bit in 0..6 {
        let mode = 0o600 | 1 << bit;
        set_mode(&path, mode);
        assert_eq!(open(&path).err(), Some(Error::VaultPermissions), "{mode:o}");
        assert_eq!(FileVault::inspect(&path), Err(Error::VaultPermissions), "{mode:o}");
        assert_eq!(FileVault::exposure(&path), Ok(Some(Exposure::Mode(mode))));
    }
    let reason = FileVault::exposure(&path).unwrap().unwrap().to_string();
    assert_eq!(reason, "group or others have access to it (mode 0640)");
    set_mode(&path, 0o600);
    assert_eq!(FileVault::exposure(&path), Ok(None));
    open(&path).unwrap();
}

#[test]
fn links_pipes_folders_and_sockets_are_refused() {
    let (folder, path) = place();
    drop(create(&path));
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for (path, exposure) in [
        (link.as_path(), Exposure::Link),
        (&pipe, Exposure::NotAFile),
        (&socket, Exposure::NotAFile),
        (folder.path(), Exposure::NotAFile),
    ] {
        assert_eq!(open(path).err(), Some(Error::VaultPermissions), "{exposure:?}");
        assert_eq!(FileVault::exposure(path), Ok(Some(exposure)));
    }
    assert_eq!(Exposure::Link.to_string(), "it is a symbolic link");
    assert_eq!(Exposure::NotAFile.to_string(), "it is not a regular file");
}

#[test]
fn another_users_file_is_refused() {
    if !needs::root() {
        return;
    }
    let (_folder, path) = place();
    drop(create(&path));
    chown(&path, Some(4711), None).unwrap();
    assert_eq!(open(&path).err(), Some(Error::VaultPermissions));
    let exposure = FileVault::exposure(&path).unwrap().unwrap();
    assert_eq!(exposure, Exposure::Owner(4711));
    assert_eq!(exposure.to_string(), "it belongs to user 4711, not to 0");
}

#[test]
fn one_vault_at_a_time_has_the_file() {
    let (_folder, path) = place();
    let vault = create(&path);
    for _ in 0..2 {
        assert_eq!(open(&path).err(), Some(Error::VaultInUse));
        FileVault::inspect(&path).unwrap();
    }
    counter(&vault);
    drop(vault);
    open(&path).unwrap();
}

#[test]
fn a_passphrase_is_needed_where_there_is_one_and_only_there() {
    let (folder, path) = place();
    let key = FileVault::create(&path, Some(b"open sesame"), CHEAP).unwrap().public_key();
    for wrong in [None, Some(&b""[..]), Some(b"open sesamE"), Some(b"open sesame "), Some(b"open\0sesame")] {
        assert_eq!(FileVault::open(&path, wrong).err(), Some(Error::WrongPassphrase));
    }
    assert_eq!(FileVault::open(&path, Some(b"open sesame")).unwrap().public_key(), key);
    assert!(FileVault::inspect(&path).unwrap().sealed);
    let plain = folder.path().join("plain");
    drop(create(&plain));
    assert_eq!(FileVault::open(&plain, Some(b"open sesame")).err(), Some(Error::WrongPassphrase));
}

#[test]
fn costs_and_passphrases_out_of_range_make_no_file() {
    let (_folder, path) = place();
    let create = |passphrase: &[u8], operations, memory| {
        FileVault::create(&path, Some(passphrase), Cost { operations, memory }).err()
    };
    for (operations, memory) in
        [(0, 8192), (65_537, 8192), (1, 8191), (1, (1 << 32) + 1), (u64::MAX, u64::MAX)]
    {
        assert_eq!(create(b"p", operations, memory), Some(Error::InvalidArgument));
    }
    assert_eq!(create(b"", 1, 8192), Some(Error::InvalidArgument));
    assert!(!path.exists());
    assert_eq!(create(b"p", 1, 8192), None);
}

/// Returns the file with a valid checksum for the contents of its header.
fn with_checksum(mut file: Vec<u8>) -> Vec<u8> {
    let checksum = support::sodium::blake2b(&file[..192]);
    file[192..224].copy_from_slice(&checksum);
    file
}

#[test]
fn heads_that_nobody_wrote_are_refused() {
    let (_folder, path) = place();
    drop(FileVault::create(&path, Some(b"p"), CHEAP).unwrap());
    let whole = fs::read(&path).unwrap();
    assert_eq!(with_checksum(whole.clone()), whole);
    let try_with = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&path, with_checksum(file)).unwrap();
        FileVault::open(&path, Some(b"p")).err()
    };
    assert_eq!(try_with(16, &2u32.to_be_bytes()), Some(Error::VaultVersion));
    assert_eq!(try_with(16, &0u32.to_be_bytes()), Some(Error::VaultCorrupt));
    // An unknown kind, the state of a token, and costs that would take all memory or all time.
    assert_eq!(try_with(20, &3u32.to_be_bytes()), Some(Error::VaultCorrupt));
    assert_eq!(try_with(20, &2u32.to_be_bytes()), Some(Error::VaultCorrupt));
    assert_eq!(try_with(24, &u64::MAX.to_be_bytes()), Some(Error::VaultCorrupt));
    assert_eq!(try_with(32, &(1u64 << 40).to_be_bytes()), Some(Error::VaultCorrupt));
    assert_eq!(try_with(32, &0u64.to_be_bytes()), Some(Error::VaultCorrupt));
}

/// Gives the slots valid checksums.
fn tie_slots(file: &mut [u8]) {
    let tag: [u8; 32] = file[192..224].try_into().unwrap();
    for page in [PAGE, 2 * PAGE] {
        let checksum = support::sodium::blake2b(&[&tag, &file[page..page + 16]].concat());
        file[page + 16..page + SLOT].copy_from_slice(&checksum);
    }
}

#[test]
fn a_public_key_that_is_not_the_secrets_is_refused() {
    let (_folder, path) = place();
    drop(create(&path));
    let mut file = fs::read(&path).unwrap();
    file[80] ^= 1;
    let mut file = with_checksum(file);
    // The slots are tied to the header: without new checksums the file would be refused for another
    // reason.
    tie_slots(&mut file);
    fs::write(&path, file).unwrap();
    FileVault::inspect(&path).unwrap();
    assert_eq!(open(&path).err(), Some(Error::VaultCorrupt));
}

/// A plain and a sealed vault, each with its passphrase; some of their counters are used.
fn used_vaults(folder: &TempDir) -> [(PathBuf, Option<&'static [u8]>); 2] {
    [("plain", None), ("sealed", Some(&b"p"[..]))].map(|(name, passphrase)| {
        let path = folder.path().join(name);
        counter(&FileVault::create(&path, passphrase, CHEAP).unwrap());
        counter(&FileVault::open(&path, passphrase).unwrap());
        (path, passphrase)
    })
}

#[test]
fn each_byte_flipped_is_an_error_or_the_same_key_and_repeats_no_counter() {
    let folder = tempfile::tempdir().unwrap();
    for (path, passphrase) in used_vaults(&folder) {
        let (whole, key) = (fs::read(&path).unwrap(), FileVault::inspect(&path).unwrap().public_key);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let mut opened = 0;
        // The bytes between the parts are never read; one check is enough to show it.
        let between = |at: usize| at % PAGE >= 224;
        for at in (0..whole.len()).filter(|at| passphrase.is_none() || !between(*at)) {
            file.write_all_at(&[whole[at] ^ 1 << (at % 8)], at as u64).unwrap();
            match FileVault::open(&path, passphrase) {
                Ok(vault) => {
                    assert_eq!(vault.public_key(), key, "byte {at}");
                    assert!(at >= 224, "byte {at} of the head matters");
                    if at % PAGE < SLOT {
                        assert!(counter(&vault) >= 2 * STEP, "byte {at}");
                        drop(vault);
                        file.write_all_at(&whole, 0).unwrap();
                    }
                    opened += 1;
                }
                Err(Error::VaultCorrupt | Error::VaultVersion) => assert!(at < 224, "byte {at}"),
                Err(error) => panic!("byte {at}: {error:?}"),
            }
            file.write_all_at(&whole[at..=at], at as u64).unwrap();
        }
        let unread = if passphrase.is_none() { whole.len() - 224 } else { 2 * 224 };
        assert_eq!(opened, unread);
    }
}

#[test]
fn each_other_length_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for (path, passphrase) in used_vaults(&folder) {
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let whole = file.metadata().unwrap().len();
        for len in [2 * whole, whole + 1].into_iter().chain((0..whole).rev()) {
            file.set_len(len).unwrap();
            assert_eq!(FileVault::open(&path, passphrase).err(), Some(Error::VaultCorrupt), "{len} bytes");
        }
    }
}

#[test]
fn the_counter_ends_before_it_would_repeat() {
    let (_folder, path) = place();
    drop(create(&path));
    let mut file = fs::read(&path).unwrap();
    for (page, sequence) in [(PAGE, 6u64), (2 * PAGE, 7)] {
        let bound = u64::MAX - 2 * STEP + STEP * (sequence - 6) + 1;
        let slot = [sequence.to_be_bytes(), bound.to_be_bytes()].concat();
        let checksum = support::sodium::blake2b(&[&file[192..224], &slot].concat());
        file[page..page + SLOT].copy_from_slice(&[&slot[..], &checksum].concat());
    }
    fs::write(&path, &file).unwrap();
    let vault = open(&path).unwrap();
    let sealed = vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16]);
    assert_eq!(sealed, Err(Error::CounterExhausted));
}
