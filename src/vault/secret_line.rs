//! Passphrases and PINs that are kept in a file.

use crate::crypto::Secret;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The most bytes that the line may have.
const LINE_MAX: usize = 1024;

/// Gives `take` the first line of the file, without its end; the copy is wiped afterwards.
///
/// # Errors
/// `InvalidArgument` if the line has over 1024 bytes; those of [`Error::of_file`] and of `take`.
pub(crate) fn first_line<R>(path: &Path, take: impl FnOnce(&[u8]) -> Result<R>) -> Result<R> {
    // Room for the line's end, in its longer form.
    let mut bytes = Secret::<{ LINE_MAX + 2 }>::zeroed()?;
    let mut file = File::open(path).map_err(|e| Error::of_file(&e))?;
    let mut len = 0;
    while len < bytes.bytes().len() && !bytes.bytes()[..len].contains(&b'\n') {
        match file.read(&mut bytes.bytes_mut()[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::of_file(&e)),
        }
    }
    let read = &bytes.bytes()[..len];
    let line = read.split(|byte| *byte == b'\n').next().unwrap_or(read);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > LINE_MAX { Err(Error::InvalidArgument) } else { take(line) }
}
