//! Reads passphrases and PINs that are kept in a file.

use crate::crypto::Secret;
use crate::error::{Error, Result};
use crate::sys::secret_exposure;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The most bytes of the line.
const LINE_MAX: usize = 1024;

/// Passes the first line of the file, without its line end, to `take`; the copy is wiped
/// afterwards.
///
/// # Errors
/// `VaultPermissions` if the file is not trusted with a secret ([`secret_exposure`]);
/// `InvalidArgument` if the line has over 1024 bytes; those of [`Error::of_file`] and of `take`.
pub(crate) fn first_line<R>(path: &Path, take: impl FnOnce(&[u8]) -> Result<R>) -> Result<R> {
    // Room for the line's end, in its longer form.
    let mut bytes = Secret::<{ LINE_MAX + 2 }>::zeroed()?;
    let mut file = File::open(path).map_err(|e| Error::of_file(&e))?;
    // The checks are on the file that was opened.
    if secret_exposure(&file.metadata().map_err(|e| Error::of_file(&e))?).is_some() {
        return Err(Error::VaultPermissions);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what `first_line` reads from a file with this content.
    fn line_of(content: &[u8]) -> Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        first_line(file.path(), |line| Ok(line.to_vec()))
    }

    #[test]
    fn the_line_is_what_stands_before_its_end() {
        for len in [0, 1, 2, 1022, 1023, LINE_MAX] {
            let line: Vec<u8> = (0..len).map(|at| b'a' + (at % 26) as u8).collect();
            for end in ["", "\n", "\r\n", "\nmore", "\r\nmore\n", "\n\n"] {
                assert_eq!(
                    line_of(&[&line, end.as_bytes()].concat()),
                    Ok(line.clone()),
                    "{len} bytes, {end:?}"
                );
            }
        }
        assert_eq!(line_of(b"a\rb\r\r\n"), Ok(b"a\rb\r".to_vec()));
    }

    #[test]
    fn a_line_that_is_too_long_is_refused() {
        for end in ["", "\n", "\r\n", "\nmore"] {
            for len in [LINE_MAX + 1, LINE_MAX + 2, LINE_MAX + 3, 5000] {
                let content = [&vec![b'a'; len], end.as_bytes()].concat();
                assert_eq!(line_of(&content), Err(Error::InvalidArgument), "{len} bytes, {end:?}");
            }
        }
    }

    #[test]
    fn a_file_that_others_can_read_or_change_is_no_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "x").unwrap();
        let judged = |mode| {
            let mode: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(file.path(), mode).unwrap();
            first_line(file.path(), |_| Ok(()))
        };
        for mode in [0o600, 0o400, 0o640, 0o440, 0o700, 0o750] {
            assert_eq!(judged(mode), Ok(()), "{mode:04o}");
        }
        for mode in [0o644, 0o604, 0o602, 0o620, 0o660, 0o601, 0o666, 0o777] {
            assert_eq!(judged(mode), Err(Error::VaultPermissions), "{mode:04o}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_and_a_refusal_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let missing = first_line(&folder.path().join("none"), |_| Ok(()));
        assert_eq!(missing, Err(Error::of_file(&std::io::Error::from(ErrorKind::NotFound))));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(first_line(file.path(), |_| Err::<(), _>(Error::WeakKey)), Err(Error::WeakKey));
    }
}
