//! Randomness that depends on who draws and how often they drew, and not on what others did before: so the same
//! history of one end always makes the same packets. It remembers what was drawn.

use libsodium_sys as sodium;
use std::cell::RefCell;
use std::ffi::{c_char, c_void};
use std::sync::Once;

#[derive(Default)]
struct Chance {
    who: u64,
    draws: std::collections::HashMap<u64, u64>,
    secrets: Vec<[u8; 32]>,
}

thread_local! {
    static CHANCE: RefCell<Chance> = RefCell::default();
}

extern "C" fn name() -> *const c_char {
    c"model".as_ptr()
}

extern "C" fn word() -> u32 {
    let mut bytes = [0; 4];
    fill(bytes.as_mut_ptr().cast(), bytes.len());
    u32::from_ne_bytes(bytes)
}

extern "C" fn fill(bytes: *mut c_void, len: usize) {
    // SAFETY: libsodium hands on its caller's buffer.
    let bytes = unsafe { std::slice::from_raw_parts_mut(bytes.cast::<u8>(), len) };
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

/// Begins anew on this thread.
pub fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let implementation = Box::leak(Box::new(sodium::randombytes_implementation {
            implementation_name: Some(name),
            random: Some(word),
            stir: None,
            uniform: None,
            buf: Some(fill),
            close: None,
        }));
        // SAFETY: it lives for ever; this is before the first draw.
        unsafe { sodium::randombytes_set_implementation(implementation) };
    });
    CHANCE.with_borrow_mut(|chance| *chance = Chance::default());
}

/// Who draws from here on.
pub fn turn(who: u64) {
    CHANCE.with_borrow_mut(|chance| chance.who = who);
}

/// Every key that was drawn: long-term, short-term, minute and block keys.
pub fn secrets() -> Vec<[u8; 32]> {
    CHANCE.with_borrow(|chance| chance.secrets.clone())
}
