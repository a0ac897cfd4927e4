//! Boxes whose nonces share their first 16 bytes.
//!
//! XSalsa20 is HSalsa20 of the key and the nonce's first 16 bytes, then Salsa20
//! under that subkey and the last 8. Within one direction of a connection the
//! first half never changes, so it is computed once; the bytes are those of
//! `crypto_box_easy_afternm`, without its HSalsa20 for each message.

use super::memory::Secret;
use super::{KEY_BYTES, TAG_BYTES, sodium, wipe, wipe_stack};
use crate::error::{Error, Result};

/// Room before a message in its buffer: 16 bytes for the caller, then the tag.
///
/// It is as long as the key that Poly1305 takes from the head of the key
/// stream, so that one pass over header and message makes the key and the
/// ciphertext at once.
pub(crate) const MESSAGE_HEADER: usize = 16 + TAG_BYTES;
/// Bytes in a block of Salsa20; the first half of the first block is Poly1305's key.
const BLOCK: usize = 64;

/// The Salsa20 subkey of one direction of a connection.
pub(crate) struct MessageKey(Secret<KEY_BYTES>);

impl MessageKey {
    pub(super) fn derive(shared: &[u8; KEY_BYTES], prefix: &[u8; 16]) -> Result<MessageKey> {
        let mut subkey = Secret::zeroed()?;
        // SAFETY: output and key have 32 bytes, the input 16; a NULL constant means Salsa20's own.
        unsafe {
            sodium::crypto_core_hsalsa20(
                subkey.bytes_mut().as_mut_ptr(),
                prefix.as_ptr(),
                shared.as_ptr(),
                std::ptr::null(),
            );
        }
        wipe_stack();
        Ok(MessageKey(subkey))
    }

    /// Seals in place the message that follows the header in `buffer`; the tag goes to the header's end.
    ///
    /// # Panics
    /// If `buffer` is shorter than the header.
    #[inline]
    pub(crate) fn seal(&self, nonce: [u8; 8], buffer: &mut [u8]) {
        buffer[..MESSAGE_HEADER].fill(0);
        let start = buffer.as_mut_ptr();
        // SAFETY: reads and writes `buffer` in place, which libsodium allows; nonce 8 bytes, key 32.
        unsafe {
            sodium::crypto_stream_salsa20_xor(
                start,
                start,
                buffer.len() as u64,
                nonce.as_ptr(),
                self.0.bytes().as_ptr(),
            );
        }
        let mut one_time_key = [0; MESSAGE_HEADER];
        one_time_key.copy_from_slice(&buffer[..MESSAGE_HEADER]);
        let (header, sealed) = buffer.split_at_mut(MESSAGE_HEADER);
        // SAFETY: 16 bytes for the tag, the ciphertext with its length, a key of 32 bytes.
        unsafe {
            sodium::crypto_onetimeauth(
                header[MESSAGE_HEADER - TAG_BYTES..].as_mut_ptr(),
                sealed.as_ptr(),
                sealed.len() as u64,
                one_time_key.as_ptr(),
            );
        }
        wipe(&mut one_time_key);
    }

    /// Opens in place what [`MessageKey::seal`] made; `BadPacket`, and `buffer` as it was, if it does not open.
    ///
    /// # Panics
    /// If `buffer` is shorter than the header.
    #[inline]
    pub(crate) fn open(&self, nonce: [u8; 8], buffer: &mut [u8]) -> Result<()> {
        let (header, sealed) = buffer.split_at_mut(MESSAGE_HEADER);
        let mut block = [0; BLOCK];
        // SAFETY: `block` has its length; nonce 8 bytes, key 32.
        unsafe {
            sodium::crypto_stream_salsa20(
                block.as_mut_ptr(),
                BLOCK as u64,
                nonce.as_ptr(),
                self.0.bytes().as_ptr(),
            );
        }
        // SAFETY: 16 bytes of tag, the ciphertext with its length, a key of 32 bytes.
        let genuine = unsafe {
            sodium::crypto_onetimeauth_verify(
                header[MESSAGE_HEADER - TAG_BYTES..].as_ptr(),
                sealed.as_ptr(),
                sealed.len() as u64,
                block.as_ptr(),
            ) == 0
        };
        if genuine {
            let (first, rest) = sealed.split_at_mut(sealed.len().min(BLOCK - KEY_BYTES));
            for (byte, key) in first.iter_mut().zip(&block[KEY_BYTES..]) {
                *byte ^= key;
            }
            if !rest.is_empty() {
                let start = rest.as_mut_ptr();
                // SAFETY: in place over `rest`, from the second block on; nonce 8 bytes, key 32.
                unsafe {
                    sodium::crypto_stream_salsa20_xor_ic(
                        start,
                        start,
                        rest.len() as u64,
                        nonce.as_ptr(),
                        1,
                        self.0.bytes().as_ptr(),
                    );
                }
            }
        }
        wipe(&mut block);
        if genuine { Ok(()) } else { Err(Error::BadPacket) }
    }
}
