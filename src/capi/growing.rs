//! Structs that may grow: how one whose size differs from ours is read and filled. This is the only
//! place that decides it.
//!
//! A struct begins with its `size` in the header that its program was built with. A smaller struct
//! is read as if the rest were zero, down to a minimum below which it means nothing, and is filled
//! up to its end. A larger struct is read only if the fields that are unknown here are zero, and is
//! filled with zeros there.

use super::boundary::bytes;
use crate::error::{Error, Result};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// A struct that begins with its `size`.
///
/// # Safety
/// It is `repr(C)`, and its first field is a `usize`.
pub(super) unsafe trait Growing: Copy {
    /// The bytes of the fields without which the struct means nothing. This number never grows.
    const LEAST: usize;
}

/// A struct that a program fills.
///
/// # Safety
/// Any integers in its fields, zeros among them, make a valid one.
pub(super) unsafe trait Given: Growing {}

/// Declares a struct that may grow: `given` to us, or only `filled` by us.
macro_rules! growing {
    (filled $struct:ident, $least:expr) => {
        const _: () = assert!(std::mem::offset_of!($struct, size) == 0);
        // SAFETY: it is `repr(C)`, as all structs of the header are, and begins with its `size`.
        unsafe impl growing::Growing for $struct {
            const LEAST: usize = $least;
        }
    };
    (given $struct:ident, $least:expr) => {
        growing!(filled $struct, $least);
        // SAFETY: it has integers, arrays of them, and pointers and functions that may be NULL.
        unsafe impl growing::Given for $struct {}
    };
}

pub(super) use growing;

/// The most bytes that a struct of a later version may have: one page, as for the system calls of
/// Linux. A size that was never set is refused, before memory behind the struct is touched.
const MOST: usize = 4096;

/// Returns the size that the program gave; `InvalidArgument` if it is below the least, above the
/// most, or not a multiple of the alignment, so that no pointer is cut in two.
///
/// # Safety
/// `place` is what [`read`] or [`out`] demands.
unsafe fn size<T: Growing>(place: NonNull<T>) -> Result<usize> {
    // SAFETY: the caller's promise.
    let size = unsafe { place.cast::<usize>().read_unaligned() };
    let ok = (T::LEAST..=MOST).contains(&size) && size.is_multiple_of(align_of::<T>());
    if ok { Ok(size) } else { Err(Error::InvalidArgument) }
}

/// Returns the struct as the caller filled it, with zeros for the fields that it lacks, and our own
/// size; `InvalidArgument` if it is smaller than the least, or sets a field that is unknown here.
///
/// # Safety
/// `place` is NULL or a `T` of as many readable bytes as its first field says, or at least that
/// field.
pub(super) unsafe fn read<T: Given>(place: *const T) -> Result<T> {
    let place = NonNull::new(place.cast_mut()).ok_or(Error::Null)?;
    // SAFETY: the caller's promise.
    let size = unsafe { size(place)? };
    let known = size.min(size_of::<T>());
    // SAFETY: the caller's promise: the struct has `size` bytes.
    let unknown = unsafe { bytes(place.cast::<u8>().add(known).as_ptr(), size - known) }?;
    if unknown.iter().any(|&byte| byte != 0) {
        return Err(Error::InvalidArgument);
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the caller's promise, and `known` is at most the size of both. Whatever these bytes
    // are, they and the zeros after them make a `T`.
    unsafe {
        value.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(place.cast::<u8>().as_ptr(), known);
        value.as_mut_ptr().cast::<usize>().write(size_of::<T>());
        Ok(value.assume_init())
    }
}

/// The caller's memory for a struct, whose `size` stays as the caller set it.
pub(super) struct Out<T>(NonNull<T>, usize);

/// # Safety
/// As [`read`], but for `size` bytes that may be written.
pub(super) unsafe fn out<T: Growing>(place: *mut T) -> Result<Out<T>> {
    let place = NonNull::new(place).ok_or(Error::Null)?;
    // SAFETY: the caller's promise.
    Ok(Out(place, unsafe { size(place)? }))
}

impl<T: Growing> Out<T> {
    /// Fills the fields that the caller's struct has, and zeros those that are unknown here.
    pub(super) fn set(&mut self, value: T) {
        const SIZE: usize = size_of::<usize>();
        let (place, size) = (self.0.cast::<u8>(), self.1);
        let known = size.min(size_of::<T>());
        // SAFETY: the promise of `out`'s caller: the struct has `size` bytes. `value` has `known`.
        // The first field, the size, is left alone.
        unsafe {
            let from = (&raw const value).cast::<u8>();
            place.add(SIZE).as_ptr().copy_from_nonoverlapping(from.add(SIZE), known - SIZE);
            place.add(known).write_bytes(0, size - known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capi::growing;

    /// As a later version has it: `old` is what there was at first.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Grown {
        size: usize,
        old: u64,
        new: [u64; 2],
    }

    growing!(given Grown, std::mem::offset_of!(Grown, new));

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Old {
        size: usize,
        old: u64,
    }

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Later {
        known: Grown,
        later: [u8; 16],
    }

    fn read_as<T>(given: &T) -> Result<Grown> {
        // SAFETY: the struct has as many bytes as its first field says.
        unsafe { read((&raw const *given).cast::<Grown>()) }
    }

    fn fill<T>(given: &mut T, value: Grown) -> Result<()> {
        // SAFETY: as above.
        unsafe { out((&raw mut *given).cast::<Grown>()) }.map(|mut out| out.set(value))
    }

    const VALUE: Grown = Grown { size: 24 + 8, old: 7, new: [8, 9] };

    #[test]
    fn the_fields_that_an_older_program_lacks_are_zero() {
        let old = Old { size: size_of::<Old>(), old: 7 };
        assert_eq!(read_as(&old), Ok(Grown { size: 32, old: 7, new: [0; 2] }));
        // And what one between lacks.
        assert_eq!(read_as(&Grown { size: 24, ..VALUE }), Ok(Grown { size: 32, old: 7, new: [8, 0] }));
        assert_eq!(read_as(&VALUE), Ok(VALUE));
    }

    #[test]
    fn a_later_program_may_set_nothing_that_is_unknown_here() {
        let later = |later| Later { known: Grown { size: 32 + 16, ..VALUE }, later };
        assert_eq!(read_as(&later([0; 16])), Ok(VALUE));
        for byte in 0..16 {
            let mut set = [0; 16];
            set[byte] = 1;
            assert_eq!(read_as(&later(set)), Err(Error::InvalidArgument));
        }
    }

    #[test]
    fn a_size_that_is_none_is_refused() {
        for size in [0, 1, 8, 15, 17, 31, 33, usize::MAX, isize::MAX as usize + 1] {
            assert_eq!(read_as(&Old { size, old: 0 }), Err(Error::InvalidArgument), "{size}");
            assert_eq!(fill(&mut Old { size, old: 0 }, VALUE), Err(Error::InvalidArgument), "{size}");
        }
    }

    #[test]
    fn what_is_filled_ends_where_the_callers_struct_does() {
        let mut old = [Old { size: size_of::<Old>(), old: 0 }, Old { size: 99, old: 99 }];
        fill(&mut old[0], VALUE).unwrap();
        assert_eq!(old, [Old { size: 16, old: 7 }, Old { size: 99, old: 99 }]);
        let mut later = Later { known: Grown { size: 32 + 16, old: 0, new: [0; 2] }, later: [5; 16] };
        fill(&mut later, VALUE).unwrap();
        assert_eq!(later, Later { known: Grown { size: 48, ..VALUE }, later: [0; 16] });
    }
}
