//! Packets of the handshake: what is parsed is written back unchanged.
#![no_main]

use curve_tun::protocol::rewrite;

libfuzzer_sys::fuzz_target!(|packet: &[u8]| {
    if let Some(again) = rewrite(packet) {
        assert_eq!(again, packet);
        assert!([128, 168, 224].contains(&packet.len()));
    }
});
