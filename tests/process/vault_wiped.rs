//! What a file vault leaves in memory: one copy of its key while it is open, none afterwards, and
//! never its passphrase. There is only one test, since the search sees whatever else a test process
//! does.

#[path = "../support/mod.rs"]
mod support;

use curve_tun::PublicKey;
use curve_tun::vault::{Cost, FileVault, Purpose, Vault};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use support::memory::Needle;

const CHEAP: Cost = Cost { operations: 1, memory: 1 << 20 };

/// The two keys in a plain vault's file, each stored masked.
fn keys(path: &Path) -> [Needle; 2] {
    let mut keys = [[0; 32]; 2];
    let file = File::open(path).unwrap();
    for (key, offset) in keys.iter_mut().zip([112, 144]) {
        file.read_exact_at(key, offset).unwrap();
    }
    keys.map(|mut key| Needle::take(&mut key))
}

fn seal(vault: &FileVault) {
    vault.box_seal(Purpose::Vouch, &PublicKey([9; 32]), &[], &mut [0; 16]).unwrap();
}

#[test]
fn a_file_vault_leaves_one_copy_of_its_keys_while_open_and_no_passphrase() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, sealed) = (folder.path().join("plain"), folder.path().join("sealed"));

    let vault = FileVault::create(&plain, None, CHEAP).unwrap();
    seal(&vault);
    let needles = keys(&plain);
    assert_eq!(needles.each_ref().map(Needle::count), [1, 1], "while the maker has it open");
    drop(vault);
    assert_eq!(needles.each_ref().map(Needle::count), [0, 0], "after it");
    let vault = FileVault::open(&plain, None).unwrap();
    seal(&vault);
    assert_eq!(needles.each_ref().map(Needle::count), [1, 1], "while it is open");
    drop(vault);
    assert_eq!(needles.each_ref().map(Needle::count), [0, 0], "after that");

    let mut letters: Vec<u8> = (0..24).map(|i| b'a' + (i * 7 + 3) % 26).collect();
    let passphrase = Needle::take(&mut letters);
    let count = || passphrase.count();
    passphrase.with(|passphrase| drop(FileVault::create(&sealed, Some(passphrase), CHEAP).unwrap()));
    assert_eq!(count(), 0, "after making a sealed vault");
    passphrase.with(|passphrase| assert!(FileVault::create(&sealed, Some(passphrase), CHEAP).is_err()));
    assert_eq!(count(), 0, "after failing to");
    let vault = passphrase.with(|passphrase| FileVault::open(&sealed, Some(passphrase)).unwrap());
    seal(&vault);
    assert_eq!(count(), 0, "while a sealed vault is open");
    drop(vault);
    passphrase.with(|passphrase| {
        passphrase[23] ^= 1;
        assert!(FileVault::open(&sealed, Some(passphrase)).is_err());
        passphrase[23] ^= 1;
    });
    assert_eq!(count(), 0, "after a wrong one");
}
