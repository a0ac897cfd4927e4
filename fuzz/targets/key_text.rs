//! The text of keys, checked against an independent RFC 4648 decoder; through the C face, which
//! takes any bytes.
#![no_main]

use curve_tun::PublicKey;
use curve_tun_fuzz::c::curve_tun_public_key_from_text;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Returns the key if the text is its only valid text.
fn decode(text: &[u8]) -> Option<[u8; 32]> {
    let digits = text.strip_suffix(b"=").filter(|digits| digits.len() == 43)?;
    let (mut bits, mut count, mut key) = (0u32, 0, Vec::new());
    for digit in digits {
        bits = bits << 6 | ALPHABET.iter().position(|c| c == digit)? as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            key.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // Two bits are left over; in the valid form they are 0.
    (bits == 0).then(|| key.try_into().ok()).flatten()
}

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let expected = decode(text);
    let mut key = [0xa5; 32];
    // SAFETY: the text has its length, the key 32 bytes.
    let result =
        unsafe { curve_tun_public_key_from_text(text.as_ptr().cast(), text.len(), key.as_mut_ptr()) };
    assert_eq!(result == 0, expected.is_some());
    assert_eq!(key, expected.unwrap_or([0xa5; 32]), "written to on failure, or another key");
    if let Ok(text) = std::str::from_utf8(text) {
        let parsed = text.parse::<PublicKey>().ok();
        assert_eq!(parsed.map(|key| key.0), expected);
        if let Some(key) = parsed {
            assert_eq!(key.to_string(), text);
        }
    }
});
