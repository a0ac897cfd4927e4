//! A custom source of random bytes for libsodium, in place of the system's.

use libsodium_sys as sodium;
use std::ffi::{c_char, c_void};
use std::sync::OnceLock;

/// Fills a buffer. It may be called on any thread.
pub type Fill = fn(&mut [u8]);

static FILL: OnceLock<Fill> = OnceLock::new();

extern "C" fn name() -> *const c_char {
    c"test".as_ptr()
}

extern "C" fn word() -> u32 {
    let mut bytes = [0; 4];
    fill(bytes.as_mut_ptr().cast(), bytes.len());
    u32::from_ne_bytes(bytes)
}

extern "C" fn fill(bytes: *mut c_void, len: usize) {
    // SAFETY: libsodium passes on its caller's buffer and its length.
    let bytes = unsafe { std::slice::from_raw_parts_mut(bytes.cast::<u8>(), len) };
    FILL.get().expect("a source is installed with its function")(bytes);
}

/// Makes all random bytes of this process come from `fill_with`, from now on. Only the first call
/// takes effect.
pub fn install(fill_with: Fill) {
    if FILL.set(fill_with).is_err() {
        return;
    }
    let implementation = Box::leak(Box::new(sodium::randombytes_implementation {
        implementation_name: Some(name),
        random: Some(word),
        stir: None,
        uniform: None,
        buf: Some(fill),
        close: None,
    }));
    // SAFETY: it lives for ever, and its function exists.
    assert_eq!(unsafe { sodium::randombytes_set_implementation(implementation) }, 0);
}
