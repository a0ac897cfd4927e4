//! Accidents to the two slots of a counter's bound, one after the other: the key survives, and no
//! counter is repeated.
//!
//! The model is that of docs/VAULTS.md, section 4: at any time one of the two pages may be bad,
//! that is damaged or an old version, until it is rewritten; and a process may be killed within
//! each of its writes.

use crate::nonce_giver;
use crate::support;
use curve_tun::vault::{Cost, FileVault, Purpose, STEP, Vault};
use curve_tun::{Error, PublicKey};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const PAGE: usize = 4096;
/// Bytes in a slot.
const SLOT: usize = 48;
/// How many accidents happen in a row.
const IN_A_ROW: u32 = 3;

/// The counter of the next nonce.
fn counter(vault: &FileVault) -> u64 {
    let nonce = vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16]).unwrap();
    vault.counter_in(&nonce)
}

fn slot(index: usize) -> Range<usize> {
    (1 + index) * PAGE..(1 + index) * PAGE + SLOT
}

/// Returns the sequence number and the bound in a slot of the file.
fn numbers(file: &[u8], index: usize) -> (u64, u64) {
    let number = |at: usize| u64::from_be_bytes(file[at..at + 8].try_into().unwrap());
    (number(slot(index).start), number(slot(index).start + 8))
}

/// Puts these numbers into a slot, with a matching checksum.
fn put(file: &mut [u8], index: usize, sequence: u64, bound: u64) {
    let numbers = [sequence.to_be_bytes(), bound.to_be_bytes()].concat();
    let checksum = support::sodium::blake2b(&[&file[192..224], &numbers].concat());
    file[slot(index)].copy_from_slice(&[&numbers[..], &checksum].concat());
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The vault is opened and used, and nothing happens.
    Use,
    /// A slot reverts to its state before this many writes.
    Lost(usize, usize),
    /// A slot is damaged.
    Damaged(usize),
    /// Only part of the last write to a slot was done.
    Torn(usize),
    /// A process that opens the vault is killed after this many of its two writes, and part of the
    /// next one.
    Killed(usize, bool),
}

const EVENTS: [Event; 13] = [
    Event::Use,
    Event::Lost(0, 1),
    Event::Lost(0, 2),
    Event::Lost(1, 1),
    Event::Lost(1, 2),
    Event::Damaged(0),
    Event::Damaged(1),
    Event::Torn(0),
    Event::Torn(1),
    Event::Killed(0, true),
    Event::Killed(1, false),
    Event::Killed(1, true),
    Event::Killed(2, false),
];

/// A vault's file, and its history.
#[derive(Clone)]
struct Disk {
    path: PathBuf,
    file: Vec<u8>,
    /// The writes to each slot, the newest last.
    written: [Vec<Vec<u8>>; 2],
    /// The slot that does not hold the last write to it.
    bad: Option<usize>,
    /// No counter from here on can have been used.
    used: u64,
}

impl Disk {
    fn new(folder: &TempDir) -> Disk {
        let path = folder.path().join("vault");
        drop(FileVault::create(&path, None, Cost::default()).unwrap());
        let file = fs::read(&path).unwrap();
        let written = [0, 1].map(|index| vec![file[slot(index)].to_vec()]);
        let mut disk = Disk { path, file, written, bad: None, used: 0 };
        (0..3).for_each(|_| disk.undergo(Event::Use).unwrap());
        disk
    }

    /// Applies it; `None` if the model does not allow it now, since the other slot is bad.
    fn undergo(&mut self, event: Event) -> Option<()> {
        match event {
            Event::Use => {
                self.open(2);
                self.used = (0..2).map(|index| numbers(&self.file, index).1).max().unwrap();
            }
            Event::Lost(index, before) => {
                self.spoil(index, |written| written[written.len() - 1 - before].clone())?;
            }
            Event::Damaged(index) => self.spoil(index, |written| written[0].iter().map(|b| !b).collect())?,
            Event::Torn(index) => self.spoil(index, |written| {
                let [.., old, new] = written else { panic!("it was written twice") };
                [&new[..16], &old[16..]].concat()
            })?,
            Event::Killed(writes, in_next) => {
                self.open(writes);
                if in_next {
                    // The slot of that write is the only one that may be bad.
                    let older = usize::from(numbers(&self.file, 1).0 < numbers(&self.file, 0).0);
                    let index = self.bad.unwrap_or(older);
                    self.file[slot(index)][8..].fill(0x5a);
                    self.bad = Some(index);
                }
            }
        }
        Some(())
    }

    fn spoil(&mut self, index: usize, spoilt: impl FnOnce(&[Vec<u8>]) -> Vec<u8>) -> Option<()> {
        if self.bad.is_some_and(|bad| bad != index) {
            return None;
        }
        self.bad = Some(index);
        let spoilt = spoilt(&self.written[index]);
        self.file[slot(index)].copy_from_slice(&spoilt);
        Some(())
    }

    /// Opens and uses the vault; only this many of its two writes reach the disk.
    fn open(&mut self, writes: usize) {
        fs::write(&self.path, &self.file).unwrap();
        let vault = FileVault::open(&self.path, None).expect("the key is not lost");
        let next = counter(&vault);
        assert!(next >= self.used, "{next} was below {}", self.used);
        drop(vault);
        let after = fs::read(&self.path).unwrap();
        let first = usize::from(numbers(&after, 1).0 < numbers(&after, 0).0);
        for index in [first, 1 - first].into_iter().take(writes) {
            let written = after[slot(index)].to_vec();
            self.file[slot(index)].copy_from_slice(&written);
            self.written[index].push(written);
            self.bad = self.bad.filter(|bad| *bad != index);
        }
    }
}

#[test]
fn no_accidents_in_a_row_lose_the_key_or_repeat_a_counter() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let start = Disk::new(&folder);
    let mut tried = 0;
    for number in 0..EVENTS.len().pow(IN_A_ROW) {
        let events = (0..IN_A_ROW).map(|place| EVENTS[number / EVENTS.len().pow(place) % EVENTS.len()]);
        let (mut disk, mut so_far) = (start.clone(), Vec::new());
        let run = || {
            for event in events.chain([Event::Use, Event::Use]) {
                so_far.push(event);
                disk.undergo(event)?;
            }
            Some(())
        };
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            Ok(whole) => tried += usize::from(whole.is_some()),
            Err(_) => panic!("after {so_far:?}"),
        }
    }
    assert!(tried > 1000, "{tried} are too few to tell");
}

/// Returns the counter that a vault continues with whose slots have these numbers.
fn goes_on_with(path: &Path, slots: [(u64, u64); 2]) -> u64 {
    let mut file = fs::read(path).unwrap();
    slots
        .into_iter()
        .enumerate()
        .for_each(|(index, (sequence, bound))| put(&mut file, index, sequence, bound));
    fs::write(path, file).unwrap();
    counter(&FileVault::open(path, None).unwrap())
}

#[test]
fn of_any_two_intact_slots_the_higher_bound_counts_and_one_step_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    drop(FileVault::create(&path, None, Cost::default()).unwrap());
    for (slots, highest) in [
        ([(0, 0), (1, 0)], 0),
        // The second write of the first slot was lost.
        ([(0, 0), (3, 2 * STEP)], 2 * STEP),
        ([(8, 6 * STEP), (1, 0)], 6 * STEP),
        ([(8, 7 * STEP), (9, 8 * STEP)], 8 * STEP),
        ([(10, 9 * STEP), (9, 8 * STEP)], 9 * STEP),
        // States that no run can leave: not to be trusted, but no reason to lose a key.
        ([(8, 7 * STEP), (9, 9 * STEP + 5)], 9 * STEP + 5),
        ([(8, 7 * STEP), (9, 0)], 7 * STEP),
        ([(8, 0), (7, 7 * STEP)], 7 * STEP),
    ] {
        assert_eq!(goes_on_with(&path, slots), highest + STEP, "{slots:?}");
    }
}

#[test]
fn slots_of_an_older_file_count_no_less_and_those_of_another_vault_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["one", "other"].map(|name| folder.path().join(name));
    for path in [&path, &other] {
        drop(FileVault::create(path, None, Cost::default()).unwrap());
    }
    let (old, foreign) = (fs::read(&path).unwrap(), fs::read(&other).unwrap());
    let last = (0..4).map(|_| counter(&FileVault::open(&path, None).unwrap())).max().unwrap();
    let new = fs::read(&path).unwrap();
    for mixed in [[&new[..2 * PAGE], &old[2 * PAGE..]], [&old[..2 * PAGE], &new[2 * PAGE..]]] {
        fs::write(&path, mixed.concat()).unwrap();
        assert!(counter(&FileVault::open(&path, None).unwrap()) > last);
    }
    let swapped = [&new[..PAGE], &new[2 * PAGE..], &new[PAGE..2 * PAGE]].concat();
    for unusable in [swapped, [&old[..PAGE], &foreign[PAGE..]].concat()] {
        fs::write(&path, unusable).unwrap();
        assert_eq!(FileVault::open(&path, None).err(), Some(Error::VaultCorrupt));
    }
}

#[test]
fn a_page_that_the_disk_cannot_read_is_a_damaged_slot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    drop(FileVault::create(&path, None, Cost::default()).unwrap());
    // The first read is that of the header.
    for (which, code, nonces) in
        [("2", 0, 3), ("3", 0, 3), ("2..3", Error::Io.code(), 0), ("1", Error::Io.code(), 0)]
    {
        let before = counter(&FileVault::open(&path, None).unwrap());
        let mut giver = Command::new("strace");
        giver.args(["-f", "-qq", "-o", "/dev/null", "-P", path.to_str().unwrap(), "-e"]);
        giver.arg(format!("inject=pread64:error=EIO:when={which}"));
        let mut giver = nonce_giver::command(Some(giver), &path, Some("1"));
        let output = giver.output().expect("strace, from the package of that name");
        let given = nonce_giver::nonces(&output.stdout);
        assert_eq!((output.status.code(), given.len()), (Some(code), 16 * nonces), "read {which}");
        let vault = FileVault::open(&path, None).unwrap();
        let given =
            given.chunks(16).map(|nonce| vault.counter_in(nonce.try_into().unwrap())).collect::<Vec<_>>();
        assert!(
            given.iter().all(|given| *given > before) && given.iter().all(|given| counter(&vault) > *given)
        );
    }
}
