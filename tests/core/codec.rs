//! Packets of the handshake as bytes: what is accepted is written back unchanged, and nothing else
//! is accepted. No libsodium is called, so that Miri can run it (`scripts/miri`).
#![cfg(feature = "test-util")]

use curve_tun::protocol::rewrite;
use proptest::prelude::*;

/// The kinds: magic, and bytes of the whole packet.
const KINDS: [([u8; 8], usize); 3] = [
    ([0x6c, 0x09, 0xaf, 0xb2, 0x8a, 0xa9, 0xfa, 0xfc], 128),
    ([0x1c, 0x45, 0xdc, 0xb9, 0x41, 0xc0, 0xe3, 0xf6], 168),
    ([0x6c, 0x09, 0xaf, 0xb2, 0x8a, 0xa9, 0xfa, 0xfd], 224),
];

/// Returns the position and value of the counter that a handshake uses only once.
fn counter((_, len): &([u8; 8], usize)) -> Option<(usize, u64)> {
    match len {
        128 => Some((40, 0)),
        224 => Some((104, 1)),
        _ => None,
    }
}

fn packet(kind: &([u8; 8], usize), fill: u8) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..kind.1).map(|at| fill.wrapping_add(at as u8)).collect();
    packet[..8].copy_from_slice(&kind.0);
    if let Some((at, value)) = counter(kind) {
        packet[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }
    packet
}

#[test]
fn a_packet_of_each_kind_is_written_as_it_came() {
    for kind in &KINDS {
        for fill in [0, 1, 0x80, 0xff] {
            let packet = packet(kind, fill);
            assert_eq!(rewrite(&packet).as_ref(), Some(&packet), "{} bytes", kind.1);
        }
    }
}

#[test]
fn another_length_magic_or_counter_is_no_packet() {
    for kind in &KINDS {
        let whole = packet(kind, 7);
        for len in (0..whole.len()).step_by(if cfg!(miri) { 13 } else { 1 }) {
            assert_eq!(rewrite(&whole[..len]), None, "{len} of {} bytes", kind.1);
        }
        assert_eq!(rewrite(&[&whole[..], &[0]].concat()), None, "a byte more than {}", kind.1);
        let wrong = counter(kind).map_or(0..0, |(at, _)| at..at + 8);
        for at in (0..8).chain(wrong) {
            let mut changed = whole.clone();
            changed[at] ^= 0x40;
            assert_eq!(rewrite(&changed), None, "byte {at} of {}", kind.1);
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_taken_is_written_as_it_came(
        kind in 0..KINDS.len(),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        keep in 0usize..300,
    ) {
        // A packet that ends in any bytes, at any length.
        let mut bytes = bytes;
        let start = packet(&KINDS[kind], 3);
        let keep = keep.min(start.len()).min(bytes.len());
        bytes[..keep].copy_from_slice(&start[..keep]);
        if let Some(again) = rewrite(&bytes) {
            prop_assert_eq!(again, bytes);
        }
    }
}
