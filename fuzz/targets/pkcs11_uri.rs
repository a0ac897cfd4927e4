//! PKCS #11 URIs, checked against an independent parser of RFC 7512 and of docs/VAULTS.md, section
//! 8.
#![no_main]

use curve_tun::Error;
use curve_tun::vault::read_pkcs11_uri;
use std::collections::BTreeMap;

const IN_PATH: [&str; 13] = [
    "token",
    "manufacturer",
    "model",
    "serial",
    "slot-id",
    "slot-description",
    "slot-manufacturer",
    "library-description",
    "library-manufacturer",
    "library-version",
    "object",
    "id",
    "type",
];
const IN_QUERY: [&str; 4] = ["module-path", "pin-source", "pin-value", "x-curve-tun-state"];

/// Whether a byte may stand for itself in a value: `unreserved`, `pk11-res-avail`, and what the
/// path or the query adds.
fn may_stand(byte: u8, more: &str) -> bool {
    byte.is_ascii_alphanumeric()
        || "-._~:[]@!$'()*+,=".contains(char::from(byte))
        || more.contains(char::from(byte))
}

fn percent_decoded(value: &str, more: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while let Some(&byte) = value.as_bytes().get(at) {
        if byte == b'%' {
            let digits = value.as_bytes().get(at + 1..at + 3)?;
            let both = digits.iter().all(u8::is_ascii_hexdigit);
            let digits = both.then(|| std::str::from_utf8(digits).unwrap())?;
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            at += 3;
        } else if may_stand(byte, more) {
            bytes.push(byte);
            at += 1;
        } else {
            return None;
        }
    }
    Some(bytes)
}

fn number(text: &str) -> Option<u128> {
    let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    // Longer than any number that fits, except for leading zeros.
    let significant = text.trim_start_matches('0');
    (digits && significant.len() < 30).then(|| significant.parse().unwrap_or(0))
}

/// Returns the value in the form that `read_pkcs11_uri` gives, if the attribute may have it.
fn value(name: &str, bytes: Vec<u8>) -> Option<Vec<u8>> {
    if name == "id" {
        return Some(bytes);
    }
    if name == "pin-value" {
        return (1..=255).contains(&bytes.len()).then_some(bytes);
    }
    let text = String::from_utf8(bytes).ok()?;
    let text = match name {
        "type" => (text == "private").then_some(text)?,
        "slot-id" => number(&text).filter(|id| *id <= u64::MAX.into())?.to_string(),
        "library-version" => {
            let (major, minor) = text.split_once('.').unwrap_or((&text, "0"));
            let byte = |text| number(text).filter(|number| *number <= 255);
            format!("{}.{}", byte(major)?, byte(minor)?)
        }
        "pin-source" if text.starts_with("file:///") => text["file://".len()..].to_owned(),
        "pin-source" if text.starts_with("file:/") && !text.starts_with("file://") => {
            text["file:".len()..].to_owned()
        }
        _ => text,
    };
    let is_path = ["module-path", "pin-source", "x-curve-tun-state"].contains(&name);
    (!is_path || text.starts_with('/')).then(|| text.into_bytes())
}

fn read(text: &str) -> Option<BTreeMap<&'static str, Vec<u8>>> {
    let (scheme, rest) = text.split_at(text.find(':')?);
    if !scheme.eq_ignore_ascii_case("pkcs11") {
        return None;
    }
    let (path, query) = rest[1..].split_once('?').unwrap_or((&rest[1..], ""));
    let mut said = BTreeMap::new();
    for (list, separator, names, more) in [(path, ';', &IN_PATH[..], "&"), (query, '&', &IN_QUERY[..], "/?|")]
    {
        if list.is_empty() {
            continue;
        }
        for attribute in list.split(separator) {
            let (name, encoded) = attribute.split_at(attribute.find('=')?);
            let name = *names.iter().find(|known| **known == name)?;
            let value = value(name, percent_decoded(&encoded[1..], more)?)?;
            if said.insert(name, value).is_some() {
                return None;
            }
        }
    }
    let both = said.contains_key("pin-value") && said.contains_key("pin-source");
    (!both).then_some(said)
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let parsed = read_pkcs11_uri(text).map(BTreeMap::from_iter);
    assert_eq!(parsed, read(text).ok_or(Error::InvalidArgument));
});
