//! Parses numbers in texts that come from elsewhere. The standard library's `parse` alone would
//! accept "+8" and "008".

use std::str::FromStr;

/// Parses a text of decimal digits. Returns `None` if the text is empty, if it has anything else in
/// it, or if the number is too large.
#[cfg(feature = "pkcs11")]
pub(crate) fn digits<N: FromStr>(text: &str) -> Option<N> {
    read(text)
}

/// Parses a number in its only valid form: like [`digits`], but without leading zeros.
pub(crate) fn canonical<N: FromStr>(text: &str) -> Option<N> {
    if text.len() > 1 && text.starts_with('0') { None } else { read(text) }
}

fn read<N: FromStr>(text: &str) -> Option<N> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_alone() {
        for (text, number) in [("0", 0), ("7", 7), ("10", 10), ("255", 255)] {
            assert_eq!(canonical::<u8>(text), Some(number), "{text}");
        }
        for text in ["", "+7", "-7", "-0", " 7", "7 ", "7.", "0x7", "07", "00", "256", "\u{0667}"] {
            assert_eq!(canonical::<u8>(text), None, "{text:?}");
        }
        #[cfg(feature = "pkcs11")]
        for (text, number) in [("07", Some(7)), ("00", Some(0)), ("", None), ("+7", None), ("0256", None)] {
            assert_eq!(digits::<u8>(text), number, "{text:?}");
        }
    }
}
