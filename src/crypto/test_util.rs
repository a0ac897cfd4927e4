//! Hooks for the project's tests: scripted randomness, counts of agreements and openings, and a
//! view of what becomes public (feature `test-util`, never part of a build that ships).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// A function that is given the place and the size of a value before the crate uses it.
pub type Hook = fn(*mut u8, usize);

thread_local! {
    static PUBLISHED: Cell<Option<Hook>> = const { Cell::new(None) };
    static AGREEMENTS: Cell<u64> = const { Cell::new(0) };
    static OPENINGS: Cell<u64> = const { Cell::new(0) };
    static SCRIPT: RefCell<VecDeque<Vec<u8>>> = const { RefCell::new(VecDeque::new()) };
}

/// Makes the next draws of random bytes on this thread return these bytes, in order.
///
/// A draw of another length panics, because the script and the code are then out of step.
pub fn script<'a>(draws: impl IntoIterator<Item = &'a [u8]>) {
    SCRIPT.with_borrow_mut(|script| *script = draws.into_iter().map(<[u8]>::to_vec).collect());
}

/// Returns how many scripted draws have not been taken.
pub fn remaining() -> usize {
    SCRIPT.with_borrow(VecDeque::len)
}

/// Returns how many keys this thread has agreed (scalar multiplications with another party's
/// point).
pub fn agreements() -> u64 {
    AGREEMENTS.get()
}

/// Returns how many boxes this thread has tried to open with an agreed key.
pub fn openings() -> u64 {
    OPENINGS.get()
}

/// Makes `hook` see, on this thread, the bytes of each value that is computed from secrets and is
/// public.
pub fn on_public(hook: Hook) {
    PUBLISHED.set(Some(hook));
}

pub(super) fn publish<T: Copy>(mut value: T) -> T {
    if let Some(hook) = PUBLISHED.get() {
        hook((&raw mut value).cast(), size_of::<T>());
    }
    value
}

pub(super) fn count_agreement() {
    AGREEMENTS.set(AGREEMENTS.get() + 1);
}

pub(super) fn count_opening() {
    OPENINGS.set(OPENINGS.get() + 1);
}

pub(super) fn take(bytes: &mut [u8]) -> bool {
    SCRIPT.with_borrow_mut(|script| match script.pop_front() {
        Some(mut draw) => {
            bytes.copy_from_slice(&draw);
            super::wipe(&mut draw);
            true
        }
        None => false,
    })
}
