//! The stream layer without I/O: its bytes and rules, two ends that play fair, and peers that do not.

mod bytes;
mod grammar;
mod pair;

/// A message of the layer, of this kind.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], body].concat()
}

/// An OPEN with what stands after the magic.
fn open(rest: &[u8]) -> Vec<u8> {
    message(3, &[b"ctstrm01", rest].concat())
}

/// The OPEN of a stream, and of messages of up to `max` bytes.
fn open_stream() -> Vec<u8> {
    open(&[0, 0, 0, 0, 0])
}

fn open_messages(max: u32) -> Vec<u8> {
    open(&[&[1], &max.to_be_bytes()[..]].concat())
}
