//! A vault file of any content, checked against an independent reader of docs/VAULTS.md, sections 3
//! and 4.
#![no_main]

use curve_tun::vault::{FileVault, MemoryVault, Purpose, STEP, Vault};
use curve_tun::{Error, PublicKey};
use libsodium_sys as sodium;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const PAGE: usize = 4096;
const HEAD: usize = 224;
const SLOT: usize = 48;
const PASSPHRASE: &[u8] = b"correct horse";

/// What an input has repaired, so that its other bytes are examined, and whether a passphrase is
/// given.
mod flag {
    pub const HEAD_CHECKSUM: u8 = 1;
    pub const FIRST_SLOT: u8 = 2;
    pub const SECOND_SLOT: u8 = 4;
    pub const PUBLIC_KEY: u8 = 8;
    pub const SEAL: u8 = 16;
    pub const MAGIC: u8 = 32;
    pub const PASSPHRASE: u8 = 64;
}

fn blake2b(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    // SAFETY: the pointers are valid for the lengths beside them; no key is given.
    unsafe {
        sodium::crypto_generichash(
            digest.as_mut_ptr(),
            32,
            bytes.as_ptr(),
            bytes.len() as u64,
            std::ptr::null(),
            0,
        )
    };
    digest
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Derives the key of the secret box of section 3, with the cost and salt of the head.
fn passphrase_key(head: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    // SAFETY: every pointer is valid for the length beside it, the salt has its 16 bytes.
    let made = unsafe {
        sodium::crypto_pwhash(
            key.as_mut_ptr(),
            32,
            PASSPHRASE.as_ptr().cast(),
            PASSPHRASE.len() as u64,
            head[40..56].as_ptr(),
            number(&head[24..32]),
            number(&head[32..40]) as usize,
            sodium::crypto_pwhash_ALG_ARGON2ID13 as i32,
        )
    };
    assert_eq!(made, 0);
    key
}

fn seal(head: &mut [u8]) {
    let keys = head[112..176].to_vec();
    let key = passphrase_key(head);
    let nonce = head[56..80].to_vec();
    // SAFETY: 64 bytes into 80, a nonce of 24, a key of 32.
    unsafe {
        sodium::crypto_secretbox_easy(
            head[112..192].as_mut_ptr(),
            keys.as_ptr(),
            64,
            nonce.as_ptr(),
            key.as_ptr(),
        )
    };
}

/// Returns the two keys of a sealed head if the passphrase opens it.
fn opened(head: &[u8]) -> Option<[u8; 64]> {
    let (key, mut keys) = (passphrase_key(head), [0; 64]);
    // SAFETY: 80 bytes into 64, a nonce of 24, a key of 32.
    let opens = unsafe {
        sodium::crypto_secretbox_open_easy(
            keys.as_mut_ptr(),
            head[112..192].as_ptr(),
            80,
            head[56..80].as_ptr(),
            key.as_ptr(),
        )
    };
    (opens == 0).then_some(keys)
}

fn public_key(secret: &[u8]) -> PublicKey {
    MemoryVault::from_secret(secret.try_into().unwrap()).unwrap().public_key()
}

/// Builds the file that an input describes: the head, the two slots, and the length if it is cut.
fn file(flags: u8, input: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 3 * PAGE];
    let mut rest = input;
    for (start, size) in [(0, HEAD), (PAGE, SLOT), (2 * PAGE, SLOT)] {
        let (part, after) = rest.split_at(rest.len().min(size));
        file[start..start + part.len()].copy_from_slice(part);
        rest = after;
    }
    if flags & flag::MAGIC != 0 {
        file[..16].copy_from_slice(b"curve_tun vault\n");
        file[16..20].copy_from_slice(&1u32.to_be_bytes());
        file[20..23].fill(0);
    }
    if flags & flag::PUBLIC_KEY != 0 {
        let public = public_key(&file[112..144]);
        file[80..112].copy_from_slice(&public.0);
    }
    if flags & flag::SEAL != 0 {
        let (operations, kib) = (1 + file[31] % 3, 8 + file[39] % 56);
        file[24..40].fill(0);
        file[31] = operations;
        file[32..40].copy_from_slice(&(u64::from(kib) * 1024).to_be_bytes());
        seal(&mut file[..HEAD]);
    }
    if flags & flag::HEAD_CHECKSUM != 0 {
        let checksum = blake2b(&file[..192]);
        file[192..224].copy_from_slice(&checksum);
    }
    for (repair, start) in [(flag::FIRST_SLOT, PAGE), (flag::SECOND_SLOT, 2 * PAGE)] {
        if flags & repair != 0 {
            let checksum = blake2b(&[&file[192..224], &file[start..start + 16]].concat());
            file[start + 16..start + SLOT].copy_from_slice(&checksum);
        }
    }
    if let [high, low, ..] = rest {
        file.resize(usize::from(u16::from_be_bytes([*high, *low])), 0);
    }
    file
}

/// Returns the sequence number and the bound of a slot, if it is intact.
fn slot(file: &[u8], index: u64) -> Option<(u64, u64)> {
    let start = PAGE * (1 + index as usize);
    let sequence = number(&file[start..start + 8]);
    let checksum = blake2b(&[&file[192..224], &file[start..start + 16]].concat());
    let whole = checksum == file[start + 16..start + SLOT] && sequence % 2 == index;
    whole.then(|| (sequence, number(&file[start + 8..start + 16])))
}

/// The sequence number before the write of the first bound that is used, and the first counter below it.
fn counters(file: &[u8]) -> Result<(u64, Option<u64>), Error> {
    let slots = [slot(file, 0), slot(file, 1)].into_iter().flatten();
    let newest = slots.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)));
    let (sequence, bound) = newest.ok_or(Error::VaultCorrupt)?;
    // One more slot is written before a counter is used.
    Ok((sequence.saturating_add(1), bound.checked_add(STEP)))
}

/// Returns the head's public key, and whether it is sealed.
fn head(file: &[u8]) -> Result<(PublicKey, u64), Error> {
    let head = file.get(..HEAD).ok_or(Error::VaultCorrupt)?;
    if &head[..16] != b"curve_tun vault\n" {
        return Err(Error::VaultCorrupt);
    }
    let (version, kind) = (number(&head[16..20]), number(&head[20..24]));
    if version > 1 {
        return Err(Error::VaultVersion);
    }
    let cost =
        (1..=65_536).contains(&number(&head[24..32])) && (8192..=1 << 32).contains(&number(&head[32..40]));
    let genuine = blake2b(&head[..192]) == head[192..224];
    if version == 1 && genuine && (kind == 0 || kind == 2 || kind == 1 && cost) {
        Ok((PublicKey(head[80..112].try_into().unwrap()), kind))
    } else {
        Err(Error::VaultCorrupt)
    }
}

/// Returns what opening has to give: the public key and the state of the counters.
fn expected(file: &[u8], passphrase: bool) -> Result<(PublicKey, u64, Option<u64>), Error> {
    let (public, kind) = head(file)?;
    if file.len() != 3 * PAGE {
        return Err(Error::VaultCorrupt);
    }
    let (sequence, start) = counters(file)?;
    let keys = match (kind, passphrase) {
        (0, false) => file[112..176].try_into().unwrap(),
        (1, true) => opened(&file[..HEAD]).ok_or(Error::WrongPassphrase)?,
        (2, _) => return Err(Error::VaultCorrupt),
        _ => return Err(Error::WrongPassphrase),
    };
    if public_key(&keys[..32]) == public { Ok((public, sequence, start)) } else { Err(Error::VaultCorrupt) }
}

/// Returns the first counter that the vault uses.
fn first_counter(vault: &FileVault) -> Result<u64, Error> {
    let nonce = vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16])?;
    Ok(vault.counter_in(&nonce))
}

fn put(path: &Path, contents: &[u8]) {
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    made.write_all(contents).unwrap();
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&flags, input)) = input.split_first() else { return };
    let file = file(flags, input);
    let with_passphrase = flags & flag::PASSPHRASE != 0;
    let said = head(&file);
    if said.is_ok_and(|(_, kind)| kind == 1) && (number(&file[24..32]) > 3 || number(&file[32..40]) > 1 << 16)
    {
        // A valid cost that its maker may have chosen, but trying it would take all the time.
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("vault");
    put(&path, &file);

    let expected_info =
        said.and_then(
            |(public, kind)| if kind == 2 { Err(Error::VaultCorrupt) } else { Ok((public, kind == 1)) },
        );
    assert_eq!(FileVault::inspect(&path).map(|info| (info.public_key, info.sealed)), expected_info);

    let passphrase = with_passphrase.then_some(PASSPHRASE);
    let vault = FileVault::open(&path, passphrase);
    let expected = expected(&file, with_passphrase);
    assert!(fs::read(&path).unwrap() == file, "opening changes nothing");
    let (public, sequence, start) = match (vault, expected) {
        (Err(error), Err(expected)) => return assert_eq!(error, expected),
        (Ok(vault), Ok((public, sequence, start))) => {
            assert_eq!(vault.public_key(), public);
            // Writing the next bound needs a sequence number and a bound that exist.
            let start = start.filter(|start| sequence < u64::MAX && start.checked_add(STEP).is_some());
            assert_eq!(first_counter(&vault), start.ok_or(Error::CounterExhausted));
            (public, sequence, start)
        }
        (vault, expected) => panic!("{:?}, not {expected:?}", vault.map(|vault| vault.public_key())),
    };
    // Opened again, it continues above.
    let (Some(start), true) = (start, sequence < u64::MAX - 2) else { return };
    let vault = FileVault::open(&path, passphrase).unwrap();
    assert_eq!(vault.public_key(), public);
    let next = start.checked_add(2 * STEP).filter(|next| next.checked_add(STEP).is_some());
    assert_eq!(first_counter(&vault), next.ok_or(Error::CounterExhausted));
    assert_eq!(fs::metadata(&path).unwrap().len(), 3 * PAGE as u64);
});
