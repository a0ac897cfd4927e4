//! Turns the pointers, lengths and integers of a C caller into Rust values, and NULL and panics
//! into results.
//!
//! No exported function decides these for itself: each is one [`catch`] whose body first converts
//! its arguments here.

use super::result::curve_tun_result;
use crate::contain::contain;
use crate::crypto::{KEY_BYTES, PublicKey};
use crate::error::{Error, Result};
use crate::sys::ForkGuard;
use std::ffi::{OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

/// How a return type reports a failure.
pub(super) trait Failure {
    fn failure(error: Error) -> Self;
}

impl Failure for curve_tun_result {
    fn failure(error: Error) -> Self {
        error.into()
    }
}

impl Failure for () {
    fn failure(_: Error) {}
}

impl Failure for bool {
    fn failure(_: Error) -> bool {
        false
    }
}

/// A file descriptor.
impl Failure for c_int {
    fn failure(_: Error) -> c_int {
        -1
    }
}

/// A number of bytes.
impl Failure for usize {
    fn failure(_: Error) -> usize {
        0
    }
}

/// A port.
impl Failure for u16 {
    fn failure(_: Error) -> u16 {
        0
    }
}

/// Runs an exported function's body; a panic in it is [`Error::Internal`]. An object that was in
/// use closes itself as the panic passes it (see each object's `run`).
pub(super) fn catch<R: Failure>(body: impl FnOnce() -> Result<R>) -> R {
    contain(body).flatten().unwrap_or_else(R::failure)
}

/// As [`catch`], for the many bodies that return no value on success.
pub(super) fn catch_ok(body: impl FnOnce() -> Result<()>) -> curve_tun_result {
    catch(|| body().map(|()| curve_tun_result::CURVE_TUN_OK))
}

/// The caller's memory for a value, written once and only on success.
pub(super) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    pub(super) fn set(&mut self, value: T) {
        // SAFETY: `out`'s caller promised a writable place that nothing else uses during the call.
        unsafe { self.0.write_unaligned(value) }
    }
}

/// An object as a C program holds it. The program's pointer points to the object itself, which is
/// the first field.
#[repr(C)]
struct Held<T> {
    object: T,
    /// The process that may use the object. A child of `fork()` must not: the parent's threads may
    /// hold its locks, and its counters belong to the parent.
    fork_guard: ForkGuard,
}

impl<T> Out<*mut T> {
    /// Gives the caller a new object, for use with [`object`] and [`end`].
    pub(super) fn give(&mut self, object: T) {
        let held = Held { object, fork_guard: ForkGuard::here() };
        self.set(Box::into_raw(Box::new(held)).cast());
    }
}

/// # Safety
/// `place` is NULL or may be written during the call.
pub(super) unsafe fn out<T>(place: *mut T) -> Result<Out<T>> {
    NonNull::new(place).map(Out).ok_or(Error::Null)
}

/// Returns the object of a call; `Forked` in a child of the process that made it.
///
/// # Safety
/// `object` is NULL or came from [`Out::give`], and is not ended during the call.
pub(super) unsafe fn object<'a, T>(object: *const T) -> Result<&'a T> {
    // SAFETY: the caller's promise: it is the start of a `Held`.
    let held = unsafe { object.cast::<Held<T>>().as_ref() }.ok_or(Error::Null)?;
    held.fork_guard.check()?;
    Ok(&held.object)
}

/// Frees an object that [`Out::give`] gave; does nothing for NULL.
///
/// # Safety
/// `object` is NULL or came from [`Out::give`], and this is the last use of it.
pub(super) unsafe fn end<T>(object: *mut T) {
    if !object.is_null() {
        catch(|| {
            // SAFETY: the caller's promise: it is the start of a boxed `Held`.
            drop(unsafe { Box::from_raw(object.cast::<Held<T>>()) });
            Ok(())
        })
    }
}

/// # Safety
/// `values` is NULL or `len` values that may be read and do not change during the call.
pub(super) unsafe fn slice<'a, T>(values: *const T, len: usize) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    check(values, len)?;
    // SAFETY: the caller's promise; alignment and size have been checked.
    Ok(unsafe { std::slice::from_raw_parts(values, len) })
}

/// As [`slice`], for bytes.
///
/// # Safety
/// As [`slice`].
pub(super) unsafe fn bytes<'a>(bytes: *const u8, len: usize) -> Result<&'a [u8]> {
    // SAFETY: the caller's promise.
    unsafe { slice(bytes, len) }
}

/// # Safety
/// `bytes` is NULL or `len` bytes that may be written and that nothing else uses during the call.
pub(super) unsafe fn bytes_mut<'a>(bytes: *mut u8, len: usize) -> Result<&'a mut [u8]> {
    if len == 0 {
        return Ok(&mut []);
    }
    check(bytes, len)?;
    // SAFETY: the caller's promise; the size has been checked. The bytes are only written, or read
    // once written.
    Ok(unsafe { std::slice::from_raw_parts_mut(bytes, len) })
}

fn check<T>(values: *const T, len: usize) -> Result<()> {
    let size = len.checked_mul(size_of::<T>()).and_then(|size| isize::try_from(size).ok());
    match (values.is_null(), size) {
        (true, _) => Err(Error::Null),
        (false, Some(_)) if values.is_aligned() => Ok(()),
        _ => Err(Error::InvalidArgument),
    }
}

/// # Safety
/// `place` is NULL or `N` bytes that may be read and do not change during the call.
pub(super) unsafe fn array<'a, const N: usize>(place: *const u8) -> Result<&'a [u8; N]> {
    // SAFETY: the caller's promise; bytes have no alignment.
    unsafe { place.cast::<[u8; N]>().as_ref() }.ok_or(Error::Null)
}

/// # Safety
/// `place` is NULL or `N` bytes that may be written and that nothing else uses during the call.
pub(super) unsafe fn array_mut<'a, const N: usize>(place: *mut u8) -> Result<&'a mut [u8; N]> {
    // SAFETY: the caller's promise; bytes have no alignment. The bytes are only written, or read
    // once written.
    unsafe { place.cast::<[u8; N]>().as_mut() }.ok_or(Error::Null)
}

/// # Safety
/// As [`array`], for the bytes of a key.
pub(super) unsafe fn key(place: *const u8) -> Result<PublicKey> {
    // SAFETY: the caller's promise.
    unsafe { array::<KEY_BYTES>(place) }.map(|bytes| PublicKey(*bytes))
}

/// Returns a string of at most `max` bytes; the error `otherwise` if it is longer or not UTF-8.
///
/// # Safety
/// `text` is NULL or ends with a zero, and does not change during the call.
pub(super) unsafe fn string<'a>(text: *const c_char, max: usize, otherwise: Error) -> Result<&'a str> {
    if text.is_null() {
        return Err(Error::Null);
    }
    // SAFETY: the caller's promise: it reads to the zero and no further.
    let len = unsafe { libc::strnlen(text, max + 1) };
    if len > max {
        return Err(otherwise);
    }
    // SAFETY: `len` bytes have just been read.
    std::str::from_utf8(unsafe { bytes(text.cast(), len) }?).map_err(|_| otherwise)
}

/// Returns the path of a file, in whatever bytes the system takes; `InvalidArgument` for more than
/// 4,095 of them.
///
/// # Safety
/// As [`string`].
pub(super) unsafe fn path<'a>(text: *const c_char) -> Result<&'a Path> {
    const MAX: usize = libc::PATH_MAX as usize - 1;
    if text.is_null() {
        return Err(Error::Null);
    }
    // SAFETY: the caller's promise: it reads to the zero and no further.
    let len = unsafe { libc::strnlen(text, MAX + 1) };
    if len > MAX {
        return Err(Error::InvalidArgument);
    }
    // SAFETY: `len` bytes have just been read.
    Ok(Path::new(OsStr::from_bytes(unsafe { bytes(text.cast(), len) }?)))
}

/// Writes `text` and a zero into the caller's buffer; `TooSmall` if they do not fit.
pub(super) fn write_text(text: &str, buffer: &mut [u8]) -> Result<()> {
    let (place, zero) = buffer.split_at_mut_checked(text.len()).ok_or(Error::TooSmall)?;
    *zero.first_mut().ok_or(Error::TooSmall)? = 0;
    place.copy_from_slice(text.as_bytes());
    Ok(())
}

/// Reads a flag: 0 or 1.
pub(super) fn flag(value: u32) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::InvalidArgument),
    }
}

/// Reads a timeout: negative waits for ever, 0 polls.
pub(super) fn timeout(milliseconds: i64) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

/// Returns `InvalidArgument` if the memory that is read and the memory that is written overlap.
pub(super) fn disjoint(
    (read, read_len): (*const u8, usize),
    (written, written_len): (*mut u8, usize),
) -> Result<()> {
    let (a, b) = (read.addr(), written.addr());
    let apart = a.saturating_add(read_len) <= b || b.saturating_add(written_len) <= a;
    if apart || read_len == 0 || written_len == 0 { Ok(()) } else { Err(Error::InvalidArgument) }
}

/// Checks that a reserved field is 0.
pub(super) fn zero(value: u32) -> Result<()> {
    if value == 0 { Ok(()) } else { Err(Error::InvalidArgument) }
}

/// Reads what a pointer points to with `read`, or returns `None` for NULL.
pub(super) fn given<T, R>(pointer: *const T, read: impl FnOnce(*const T) -> Result<R>) -> Result<Option<R>> {
    if pointer.is_null() { Ok(None) } else { read(pointer).map(Some) }
}
