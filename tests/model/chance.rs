//! Randomness that depends on who draws and how often they have drawn, and not on what others did
//! before: so the same history of one end always makes the same packets. It records what was drawn.

use crate::support::random_source;
use libsodium_sys as sodium;
use std::cell::RefCell;

#[derive(Default)]
struct Chance {
    who: u64,
    draws: std::collections::HashMap<u64, u64>,
    secrets: Vec<[u8; 32]>,
}

thread_local! {
    static CHANCE: RefCell<Chance> = RefCell::default();
}

fn fill(bytes: &mut [u8]) {
    CHANCE.with_borrow_mut(|chance| {
        let who = chance.who;
        let draw = chance.draws.entry(who).or_default();
        *draw += 1;
        let mut seed = [0; sodium::randombytes_SEEDBYTES as usize];
        seed[..8].copy_from_slice(&who.to_le_bytes());
        seed[8..16].copy_from_slice(&draw.to_le_bytes());
        // SAFETY: the buffer has its length, the seed the size that is asked for.
        unsafe {
            sodium::randombytes_buf_deterministic(bytes.as_mut_ptr().cast(), bytes.len(), seed.as_ptr())
        };
        if let Ok(secret) = <[u8; 32]>::try_from(&*bytes) {
            chance.secrets.push(secret);
        }
    });
}

/// Starts again on this thread.
pub fn begin() {
    random_source::install(fill);
    CHANCE.with_borrow_mut(|chance| *chance = Chance::default());
}

/// Sets who draws from here on.
pub fn turn(who: u64) {
    CHANCE.with_borrow_mut(|chance| chance.who = who);
}

/// Returns every key that was drawn: long-term, short-term, minute and block keys.
pub fn secrets() -> Vec<[u8; 32]> {
    CHANCE.with_borrow(|chance| chance.secrets.clone())
}
