//! Reads secrets from a file or standard input. They are wiped when dropped.

use super::failure::Failure;
use curve_tun::SecretKey;
use curve_tun::vault::secret_exposure;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

/// The most bytes in a line.
pub const LINE_MAX: usize = 1024;

/// A line without its end; at most one byte longer than [`LINE_MAX`].
pub struct Line {
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether the line ended, rather than the file.
    pub ended: bool,
    pub too_long: bool,
}

/// Reads a line, and nothing after it, because what follows is for another reader.
pub fn read_line(file: &mut File) -> io::Result<Line> {
    let mut bytes = Zeroizing::new(vec![0; LINE_MAX + 1]);
    let (mut len, mut ended) = (0, false);
    while len < bytes.len() && !ended {
        match file.read(&mut bytes[len..=len]) {
            Ok(0) => break,
            Ok(_) if bytes[len] == b'\n' => ended = true,
            Ok(_) => len += 1,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let too_long = len > LINE_MAX;
    bytes.truncate(len);
    Ok(Line { bytes, ended, too_long })
}

/// Returns the first line of a file, or of standard input for "-", without its line end. The line
/// has at most 1024 bytes.
pub fn secret_line(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let shown = path.display();
    let failed = |e: io::Error| {
        Failure::new(format_args!("cannot read {shown}: {e}")).hint("Check the path and its permissions.")
    };
    let mut file = if path == Path::new("-") {
        // Bypass the buffer of standard input, which is not wiped.
        File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?)
    } else {
        let file = File::open(path).map_err(failed)?;
        check_access(path, &file.metadata().map_err(failed)?)?;
        file
    };
    let Line { mut bytes, too_long, .. } = read_line(&mut file).map_err(failed)?;
    if too_long {
        return Err(Failure::new(format_args!("{shown}: the line is over {LINE_MAX} bytes"))
            .hint("The first line of the file must be the secret alone."));
    }
    if bytes.ends_with(b"\r") {
        let len = bytes.len() - 1;
        bytes.truncate(len);
    }
    Ok(bytes)
}

/// Refuses a file whose secret others may know.
fn check_access(path: &Path, metadata: &Metadata) -> Result<(), Failure> {
    let (shown, mode) = (path.display(), metadata.mode() & 0o7777);
    if metadata.is_dir() {
        return Err(Failure::new(format_args!("cannot read {shown}: it is a folder"))
            .hint("Name a file whose first line is the secret."));
    }
    if secret_exposure(metadata).is_none() {
        return Ok(());
    }
    Err(Failure::new(format_args!("{shown}: others can read or change it (mode {mode:04o})"))
        .hint(exposed_hint(path)))
}

/// Returns the hint for a file whose secret others may know.
pub fn exposed_hint(path: &Path) -> String {
    format!(
        "Others may know the secret already: better make a new one. Then: chmod 600 {} (a mounted secret has a \
         setting for its mode).",
        path.display()
    )
}

/// Returns the secret key whose text form is the first line of a file, or of standard input for
/// "-".
pub fn secret_key(path: &Path) -> Result<SecretKey, Failure> {
    let text = secret_line(path)?;
    SecretKey::from_text(&text).map_err(|error| {
        let hint = if text.starts_with(b"\xef\xbb\xbf") {
            "The file begins with a byte order mark: save it without."
        } else {
            "The file must hold the secret key alone, in the form that keygen prints after \"secret\"."
        };
        Failure::new(format_args!("{}: {error}", path.display())).hint(hint)
    })
}
