//! The PIN of a token. It is kept so that a lost session can be opened again.

use crate::crypto::Guarded;
use crate::error::{Error, Result};
use crate::vault::secret_line::first_line;
use std::path::Path;

/// The most bytes in a PIN.
const PIN_MAX: usize = 255;

/// A PIN in guarded memory: its length, then its bytes.
pub(super) struct Pin(Guarded<{ 1 + PIN_MAX }>);

impl Pin {
    /// Copies a PIN into guarded memory.
    ///
    /// # Errors
    /// `InvalidArgument` if it has no bytes or more than 255, `OutOfMemory`.
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

    /// Reads the PIN from the first line of the file.
    ///
    /// # Errors
    /// Those of [`Pin::new`] and of reading the file.
    pub(super) fn from_file(path: &Path) -> Result<Pin> {
        first_line(path, Pin::new)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        let [length, pin @ ..] = self.0.bytes();
        &pin[..usize::from(*length)]
    }
}
