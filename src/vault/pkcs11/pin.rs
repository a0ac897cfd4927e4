//! The PIN of a token, kept so that a session that was lost can be opened again.

use crate::crypto::{Guarded, Secret};
use crate::error::{Error, Result};
use cryptoki::types::RawAuthPin;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The most bytes that a PIN may have.
const PIN_MAX: usize = 255;

/// In guarded memory: the length, then the PIN.
pub(super) struct Pin(Guarded<{ 1 + PIN_MAX }>);

impl Pin {
    /// # Errors
    /// `InvalidArgument` if it has none or more than 255 bytes, `OutOfMemory`.
    pub(super) fn new(pin: &[u8]) -> Result<Pin> {
        let length =
            u8::try_from(pin.len()).ok().filter(|length| *length > 0).ok_or(Error::InvalidArgument)?;
        let guarded = Guarded::new_with(|bytes| {
            bytes[0] = length;
            bytes[1..=pin.len()].copy_from_slice(pin);
            Ok(())
        })?;
        Ok(Pin(guarded))
    }

    /// The first line of the file.
    ///
    /// # Errors
    /// Those of [`Pin::new`] and [`Error::of_file`].
    pub(super) fn from_file(path: &Path) -> Result<Pin> {
        // One byte more than it may have, and a line end.
        let mut bytes = Secret::<{ PIN_MAX + 2 }>::zeroed()?;
        let mut file = File::open(path).map_err(|e| Error::of_file(&e))?;
        let mut len = 0;
        while len < bytes.bytes().len() {
            match file.read(&mut bytes.bytes_mut()[len..]) {
                Ok(0) => break,
                Ok(count) => len += count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::of_file(&e)),
            }
        }
        let read = &bytes.bytes()[..len];
        let line = read.split(|byte| *byte == b'\n').next().unwrap_or(read);
        Pin::new(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// A copy for a login; it wipes itself when dropped.
    pub(super) fn for_login(&self) -> RawAuthPin {
        RawAuthPin::new(Box::new(self.bytes().to_vec()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        let [length, pin @ ..] = self.0.bytes();
        &pin[..usize::from(*length)]
    }
}
