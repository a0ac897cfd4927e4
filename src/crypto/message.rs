//! Boxes whose nonces share their first 16 bytes.
//!
//! XSalsa20 derives a subkey from the key and the first 16 bytes of the nonce with HSalsa20, and
//! then runs Salsa20 under that subkey with the last 8 bytes. Within one direction of a connection
//! the first 16 bytes never change, so the subkey is computed once. The result has the same bytes
//! as that of `crypto_box_easy_afternm`, without its HSalsa20 for each message.
//!
//! The first 32 bytes of the key stream are the key of Poly1305; the rest enciphers the message.
//! libsodium's vector code makes a whole [`CHUNK`] in the time of two single blocks. So the head
//! and the tail of a message are enciphered with a whole chunk each, and what lies between is
//! enciphered directly from source to destination.

use super::memory::Secret;
use super::{KEY_BYTES, TAG_BYTES, public, sodium, wipe, wipe_stack};
use crate::error::{Error, Result};

/// Bytes in a block of Salsa20.
const BLOCK: usize = 64;
/// Bytes of key stream that AVX2 makes at once: 8 blocks.
const CHUNK: usize = 8 * BLOCK;
/// Bytes of a message that the first chunk enciphers.
const FIRST: usize = CHUNK - KEY_BYTES;

/// The Salsa20 subkey of one direction of a connection.
pub(crate) struct MessageKey(Secret<KEY_BYTES>);

/// A piece of key stream. It is made in place, and wiped when dropped.
struct KeyStream([u8; CHUNK]);

impl KeyStream {
    fn zeroed() -> KeyStream {
        KeyStream([0; CHUNK])
    }
}

impl Drop for KeyStream {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

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

    /// Appends the tag and the ciphertext of `message` to `out`.
    pub(crate) fn seal(&self, nonce: [u8; 8], message: &[u8], out: &mut Vec<u8>) {
        let mut stream = KeyStream::zeroed();
        self.fill(&mut stream, nonce, 0, KEY_BYTES + message.len());
        let (one_time_key, stream) = stream.0.split_at(KEY_BYTES);
        let (first, rest) = message.split_at(message.len().min(FIRST));
        let (bulk, tail) = rest.split_at(bulk_len(rest.len()));
        let start = out.len();
        out.reserve(TAG_BYTES + message.len());
        out.extend_from_slice(&[0; TAG_BYTES]);
        out.extend_from_slice(first);
        xor(&mut out[start + TAG_BYTES..], stream);
        if !bulk.is_empty() {
            let to = out.spare_capacity_mut()[..bulk.len()].as_mut_ptr().cast();
            // SAFETY: `to` has room for `bulk`, which lies elsewhere, and is all written: then it
            // may count.
            unsafe {
                self.encipher(nonce, CHUNK / BLOCK, bulk.as_ptr(), to, bulk.len());
                out.set_len(out.len() + bulk.len());
            }
        }
        if !tail.is_empty() {
            let at = out.len();
            out.extend_from_slice(tail);
            self.xor_tail(nonce, (CHUNK + bulk.len()) / BLOCK, &mut out[at..]);
        }
        let (tag, sealed) = out[start..].split_at_mut(TAG_BYTES);
        // SAFETY: 16 bytes for the tag, the ciphertext with its length, a key of 32 bytes.
        unsafe {
            sodium::crypto_onetimeauth(
                tag.as_mut_ptr(),
                sealed.as_ptr(),
                sealed.len() as u64,
                one_time_key.as_ptr(),
            );
        }
    }

    /// Opens the ciphertext `sealed` in place. If `tag` is not its tag, returns `BadPacket` and
    /// leaves `sealed` as it was.
    pub(crate) fn open(&self, nonce: [u8; 8], tag: &[u8; TAG_BYTES], sealed: &mut [u8]) -> Result<()> {
        let mut stream = KeyStream::zeroed();
        self.fill(&mut stream, nonce, 0, KEY_BYTES + sealed.len());
        let (one_time_key, stream) = stream.0.split_at(KEY_BYTES);
        // SAFETY: 16 bytes of tag, the ciphertext with its length, a key of 32 bytes.
        let verified = unsafe {
            sodium::crypto_onetimeauth_verify(
                tag.as_ptr(),
                sealed.as_ptr(),
                sealed.len() as u64,
                one_time_key.as_ptr(),
            )
        };
        if public(verified) != 0 {
            return Err(Error::BadPacket);
        }
        let (first, rest) = sealed.split_at_mut(sealed.len().min(FIRST));
        let (bulk, tail) = rest.split_at_mut(bulk_len(rest.len()));
        xor(first, stream);
        if !bulk.is_empty() {
            let start = bulk.as_mut_ptr();
            // SAFETY: in place over exactly `bulk`.
            unsafe { self.encipher(nonce, CHUNK / BLOCK, start, start, bulk.len()) }
        }
        if !tail.is_empty() {
            self.xor_tail(nonce, (CHUNK + bulk.len()) / BLOCK, tail);
        }
        Ok(())
    }

    /// Opens `sealed` into `out`, which has the same length. If `tag` is not its tag, returns
    /// `BadPacket` and writes nothing.
    #[cfg(feature = "nif")]
    pub(crate) fn open_apart(
        &self,
        nonce: [u8; 8],
        tag: &[u8; TAG_BYTES],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        let mut stream = KeyStream::zeroed();
        self.fill(&mut stream, nonce, 0, KEY_BYTES + sealed.len());
        let (one_time_key, stream) = stream.0.split_at(KEY_BYTES);
        // SAFETY: 16 bytes of tag, the ciphertext with its length, a key of 32 bytes.
        let verified = unsafe {
            sodium::crypto_onetimeauth_verify(
                tag.as_ptr(),
                sealed.as_ptr(),
                sealed.len() as u64,
                one_time_key.as_ptr(),
            )
        };
        if public(verified) != 0 {
            return Err(Error::BadPacket);
        }
        self.xor_apart(nonce, stream, sealed, out);
        Ok(())
    }

    /// Enciphers a message from one place to another; `stream` is the key stream for it from the
    /// first chunk.
    ///
    /// # Panics
    /// If the two do not have the same length.
    #[cfg(feature = "nif")]
    fn xor_apart(&self, nonce: [u8; 8], stream: &[u8], from: &[u8], to: &mut [u8]) {
        assert_eq!(from.len(), to.len(), "a message and its ciphertext are equally long");
        let bulk = bulk_len(from.len().saturating_sub(FIRST));
        let (first, rest) = to.split_at_mut(from.len().min(FIRST));
        first.copy_from_slice(&from[..first.len()]);
        xor(first, stream);
        if rest.is_empty() {
            return;
        }
        let (bulk, tail) = rest.split_at_mut(bulk);
        if !bulk.is_empty() {
            let source = from[FIRST..FIRST + bulk.len()].as_ptr();
            // SAFETY: both are exactly as long as `bulk`, and a shared and an exclusive slice do
            // not overlap.
            unsafe { self.encipher(nonce, CHUNK / BLOCK, source, bulk.as_mut_ptr(), bulk.len()) }
        }
        if !tail.is_empty() {
            tail.copy_from_slice(&from[FIRST + bulk.len()..]);
            self.xor_tail(nonce, (CHUNK + bulk.len()) / BLOCK, tail);
        }
    }

    /// Enciphers at most one chunk, with the key stream from `block` on.
    fn xor_tail(&self, nonce: [u8; 8], block: usize, bytes: &mut [u8]) {
        let mut stream = KeyStream::zeroed();
        self.fill(&mut stream, nonce, block, bytes.len());
        xor(bytes, &stream.0);
    }

    /// Writes the key stream from `block` on over the zeros of `stream`: at least `len` bytes of
    /// it, or all that fit.
    fn fill(&self, stream: &mut KeyStream, nonce: [u8; 8], block: usize, len: usize) {
        let start = stream.0.as_mut_ptr();
        // SAFETY: in place, at most a chunk.
        unsafe { self.encipher(nonce, block, start, start, rounded(len)) }
    }

    /// Calls `crypto_stream_salsa20_xor_ic`.
    ///
    /// # Safety
    /// `from` can be read and `to` be written for `len` bytes; they are equal or do not overlap.
    unsafe fn encipher(&self, nonce: [u8; 8], block: usize, from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: as the caller says; the nonce has 8 bytes, the key 32.
        unsafe {
            sodium::crypto_stream_salsa20_xor_ic(
                to,
                from,
                len as u64,
                nonce.as_ptr(),
                block as u64,
                self.0.bytes().as_ptr(),
            );
        }
    }
}

/// Returns how many of `len` bytes to encipher without a chunk of their own. These are all but a
/// tail that spans several blocks.
fn bulk_len(len: usize) -> usize {
    if len % CHUNK <= BLOCK { len } else { len - len % CHUNK }
}

/// Returns how much key stream to make for `len` bytes. Vector code makes 1, 4 or 8 blocks faster
/// than a number between.
fn rounded(len: usize) -> usize {
    match len {
        _ if !cfg!(target_arch = "x86_64") => len.min(CHUNK),
        _ if len <= BLOCK => BLOCK,
        _ if len <= 4 * BLOCK => 4 * BLOCK,
        _ => CHUNK,
    }
}

fn xor(bytes: &mut [u8], stream: &[u8]) {
    bytes.iter_mut().zip(stream).for_each(|(byte, key)| *byte ^= key);
}
