//! The bound of the counter. It is on disk before any counter below it is used.
//!
//! Two slots, a page each, are written in turn:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | sequence number, even in the first slot, odd in the second |
//! | 8 | 8 | bound: every counter that was ever used is below it, if this slot is the newer one |
//! | 16 | 32 | BLAKE2b of the header's checksum and the 16 bytes before |
//!
//! Each write raises the bound by one step, and reaches the disk before a
//! counter below the new bound is used. A write that was cut short, or never
//! reached the disk, leaves the other slot, whose bound was the one in force.
//!
//! What is read later may be less than what was written: a slot may be damaged, or, on a disk that
//! lost a write after reporting it as done, it may be an old one. As long as only one of the two
//! slots is affected, the other is the last that was written or the one before it. So no counter at
//! or above the higher bound plus one step was ever used. Opening writes that bound, over the worse
//! slot, before it writes the next one, below which counters are used. From then on both slots are
//! new, and one of them may fail again.

use super::{FILE_LEN, Header, PAGE, read_exact_at};
use crate::crypto::fingerprint;
use crate::error::{Error, Result};
use crate::sys::{ForkGuard, writing};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// How far a bound is above the last. Opening skips up to twice as many counters: those left below
/// the last bound, and those that a lost write may have added.
pub const STEP: u64 = 1 << 20;
/// Bytes in a slot.
const SLOT_LEN: usize = 8 + 8 + 32;

#[derive(Clone, Copy)]
struct Slot {
    sequence: u64,
    bound: u64,
}

impl Slot {
    fn bytes(self, tag: &[u8; 32]) -> [u8; SLOT_LEN] {
        let mut bytes = [0; SLOT_LEN];
        bytes[..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.bound.to_be_bytes());
        let checksum = fingerprint(&[tag, &bytes[..16]].concat());
        bytes[16..].copy_from_slice(&checksum);
        bytes
    }

    /// `None` if the slot at `index` is damaged.
    fn parse(bytes: &[u8; SLOT_LEN], index: u64, tag: &[u8; 32]) -> Option<Slot> {
        let number = |range: Range<usize>| bytes[range].iter().fold(0, |n, b| n << 8 | u64::from(*b));
        let slot = Slot { sequence: number(0..8), bound: number(8..16) };
        (slot.bytes(tag) == *bytes && slot.sequence % 2 == index).then_some(slot)
    }
}

/// Writes the slots of a new file, whose counter is unused, to their two pages.
pub(super) fn lay_out(pages: &mut [u8], header: &Header) {
    for (sequence, page) in (0..).zip(pages.chunks_exact_mut(PAGE)) {
        page[..SLOT_LEN].copy_from_slice(&Slot { sequence, bound: 0 }.bytes(&header.checksum()));
    }
}

/// The open, locked file of a vault, to raise the bound in.
pub(crate) struct CounterLog {
    file: File,
    tag: [u8; 32],
    newest: Slot,
    /// A write after the newest may have been lost.
    in_doubt: bool,
    fork_guard: ForkGuard,
}

impl CounterLog {
    /// Returns the counter log of a new file, as [`lay_out`] wrote it.
    pub(super) fn new(file: File, header: &Header) -> CounterLog {
        let newest = Slot { sequence: 1, bound: 0 };
        CounterLog { file, tag: header.checksum(), newest, in_doubt: false, fork_guard: ForkGuard::here() }
    }

    /// # Errors
    /// `VaultCorrupt` if both slots are damaged; those of [`Error::of_file`] if neither can be
    /// read.
    pub(super) fn read(file: File, header: &Header) -> Result<CounterLog> {
        let tag = header.checksum();
        let read = |index: u64| {
            let mut bytes = [0; SLOT_LEN];
            read_exact_at(&file, &mut bytes, offset(index))?;
            Slot::parse(&bytes, index, &tag).ok_or(Error::VaultCorrupt)
        };
        let newest = match (read(0), read(1)) {
            // Neither number decreases from one write to the next; should they ever disagree, the
            // larger ones are safe.
            (Ok(a), Ok(b)) => Slot { sequence: a.sequence.max(b.sequence), bound: a.bound.max(b.bound) },
            // A slot that the disk cannot read any more is damaged, too.
            (Ok(slot), Err(Error::VaultCorrupt | Error::Io))
            | (Err(Error::VaultCorrupt | Error::Io), Ok(slot)) => slot,
            (Err(Error::VaultCorrupt), Err(error)) | (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        Ok(CounterLog { file, tag, newest, in_doubt: true, fork_guard: ForkGuard::here() })
    }

    /// Returns counters that may be used from here on: their bound is on disk.
    ///
    /// # Errors
    /// `Forked`, `CounterExhausted`, those of [`Error::of_file`]: no counter is handed out, and the
    /// next call tries again.
    pub(crate) fn raise(&mut self) -> Result<Range<u64>> {
        self.fork_guard.check()?;
        if self.in_doubt {
            self.write()?;
            self.in_doubt = false;
        }
        let start = self.newest.bound;
        self.write()?;
        Ok(start..self.newest.bound)
    }

    /// Writes the next bound over the older slot.
    fn write(&mut self) -> Result<()> {
        let next = Slot {
            sequence: self.newest.sequence.checked_add(1).ok_or(Error::CounterExhausted)?,
            bound: self.newest.bound.checked_add(STEP).ok_or(Error::CounterExhausted)?,
        };
        // The whole page: to write a part, the system would have to read the rest, which may be
        // what fails.
        let mut page = [0; PAGE];
        page[..SLOT_LEN].copy_from_slice(&next.bytes(&self.tag));
        let write = || {
            self.file.write_all_at(&page, offset(next.sequence) as u64)?;
            // The file's size and place do not change, so only its data needs to be synced.
            self.file.sync_data()
        };
        writing(write).map_err(|e| Error::of_file(&e))?;
        self.newest = next;
        Ok(())
    }
}

impl Drop for CounterLog {
    fn drop(&mut self) {
        if self.fork_guard.check().is_ok() {
            // A forked child may still hold the descriptor, and with it the lock. Failing that, the
            // close unlocks.
            let _ = self.file.unlock();
        }
    }
}

/// Returns the offset of the slot of a sequence number.
fn offset(sequence: u64) -> usize {
    if sequence.is_multiple_of(2) { PAGE } else { FILE_LEN - PAGE }
}
