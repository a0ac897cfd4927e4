//! Parses the text of a TXT record that holds a key (`docs/REGISTRIES.md`).

use crate::crypto::PublicKey;
use crate::decimal::canonical;

/// The first field. Records that begin with anything else have another purpose.
const VERSION: &str = "v=ct1";

/// The content of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyRecord {
    pub key: PublicKey,
    /// The port of the server that the key is for; `None` if it is for all ports.
    pub port: Option<u16>,
}

/// Parses `v=ct1; k=KEY` with an optional `p=PORT`. After the version, the order of the fields does
/// not matter. Fields with other names are ignored; later versions may define them. Returns `None`
/// for anything else.
pub(super) fn parse(text: &[u8]) -> Option<KeyRecord> {
    let text = std::str::from_utf8(text).ok()?;
    let mut fields = text.split(';').map(str::trim).filter(|field| !field.is_empty());
    if fields.next()? != VERSION {
        return None;
    }
    let (mut key, mut port) = (None, None);
    for field in fields {
        // A field that is given twice makes the record invalid.
        match field.split_once('=')? {
            ("k", text) => key = Some(text.parse().ok().filter(|_| key.is_none())?),
            ("p", text) => port = Some(parse_port(text).filter(|_| port.is_none())?),
            _ => {}
        }
    }
    Some(KeyRecord { key: key?, port })
}

fn parse_port(text: &str) -> Option<u16> {
    canonical(text).filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_whole_or_not_at_all() {
        let key = PublicKey([7; 32]);
        for (text, port) in [
            ("v=ct1; k=KEY", None),
            ("v=ct1;k=KEY", None),
            ("  v=ct1 ; p=7000 ; k=KEY ;; ", Some(7000)),
            ("v=ct1; k=KEY; x=; note=a = b", None),
        ] {
            let text = text.replace("KEY", &key.to_string());
            assert_eq!(parse(text.as_bytes()), Some(KeyRecord { key, port }), "{text}");
        }
        for text in [
            "",
            "v=ct1",
            "k=KEY; v=ct1",
            "v=ct2; k=KEY",
            "v=ct1; k=KEY; k=KEY",
            "v=ct1; k=KEY; p=0",
            "v=ct1; k=KEY; p=+1",
            "v=ct1; k=KEY; p=65536",
            "v=ct1; k=KEY; p=1; p=1",
            "v=ct1; k=KEY; p",
            "v=ct1; k=KEYA",
            "v=ct1 k=KEY",
        ] {
            let text = text.replace("KEY", &key.to_string());
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"v=ct1; \xff"), None);
    }
}
