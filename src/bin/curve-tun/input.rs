//! Secrets that come in: from a file, standard input or the terminal; wiped when dropped.

use super::failure::Failure;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use zeroize::Zeroizing;

/// The most bytes that a line may have.
const LINE_MAX: usize = 1024;

/// The first line of a file, or of standard input for "-", without its line end; at most 1024 bytes.
pub fn secret_line(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |e: io::Error| {
        Failure::new(format_args!("cannot read {}: {e}", path.display()))
            .hint("Check the path and its permissions.")
    };
    let mut file = if path == Path::new("-") {
        // Past the buffer of standard input, which is not wiped.
        File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?)
    } else {
        File::open(path).map_err(failed)?
    };
    let mut line = Zeroizing::new(vec![0; LINE_MAX + 1]);
    let mut len = 0;
    // Byte by byte: what follows the line is another reader's.
    while len < line.len() && file.read(&mut line[len..=len]).map_err(failed)? == 1 && line[len] != b'\n' {
        len += 1;
    }
    if len > LINE_MAX {
        return Err(Failure::new(format_args!("{}: the line is over {LINE_MAX} bytes", path.display()))
            .hint("The first line of the file must be the secret alone."));
    }
    if line[..len].ends_with(b"\r") {
        len -= 1;
    }
    line.truncate(len);
    Ok(line)
}

/// Asks at the terminal, without echo.
pub fn ask(prompt: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let typed = rpassword::prompt_password(prompt).map_err(|e| {
        Failure::new(format_args!("cannot ask for the passphrase at a terminal: {e}"))
            .hint("Give it with --passphrase-file FILE, or - for standard input.")
    })?;
    Ok(Zeroizing::new(typed.into_bytes()))
}
