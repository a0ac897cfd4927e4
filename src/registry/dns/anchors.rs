//! Trust anchors: the keys at which proofs begin.

use super::heard::Heard;
use super::validity::{Validity, now};
use crate::error::{Error, Result as Answer};
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, RRSIG};
use hickory_resolver::proto::dnssec::{DigestType, PublicKey, TrustAnchors, Verifier};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::txt::trust_anchor::{Entry, Parser};
use std::fmt::{self, Display, Formatter};

/// The flags of a key-signing key.
const KSK: u16 = 257;
/// The most signatures that are tried for one set of keys.
const TRIED_MAX: usize = 8;

/// The trusted keys, each with its zone.
pub(super) struct Anchors(Vec<(Name, Anchor)>);

enum Anchor {
    Key(DNSKEY),
    Digest(DS),
}

impl Anchor {
    fn is(&self, zone: &Name, key: &DNSKEY) -> bool {
        match self {
            Anchor::Key(anchor) => {
                let (ours, theirs) = (anchor.public_key(), key.public_key());
                ours.public_bytes() == theirs.public_bytes() && ours.algorithm() == theirs.algorithm()
            }
            Anchor::Digest(digest) => {
                digest.algorithm() == key.algorithm() && digest.covers(zone, key).unwrap_or(false)
            }
        }
    }
}

impl Anchors {
    /// Returns the keys of the root zone that are built into the resolver's library.
    pub(super) fn of_the_root() -> Anchors {
        let built_in = TrustAnchors::default();
        let keys = (0..built_in.len()).filter_map(|i| built_in.get(i).cloned());
        Anchors(keys.map(|key| (Name::root(), Anchor::Key(DNSKEY::with_flags(KSK, key)))).collect())
    }

    /// Parses DNSKEY and DS records in the form of zone files, as `keymgr` and `dig` print them.
    /// Signatures of such records are skipped.
    pub(super) fn parse(text: &str) -> Result<Anchors, WrongAnchors> {
        let mut anchors = Vec::new();
        for (line, words) in records(text)? {
            match read(&words) {
                Some(Read::Anchor(zone, anchor)) => anchors.push((zone, anchor)),
                Some(Read::Signature) => {}
                None => return Err(WrongAnchors::Line(line)),
            }
        }
        if anchors.is_empty() { Err(WrongAnchors::None) } else { Ok(Anchors(anchors)) }
    }

    /// Returns all keys of the anchored zones that contain `name`. Each zone's set of keys is
    /// proven by the signature of an anchored key in it.
    ///
    /// The resolver's library alone would accept a zone's key as an anchor only together with all
    /// other keys of the zone.
    pub(super) async fn proven(&self, heard: &Heard, name: &Name) -> Answer<TrustAnchors> {
        let mut proven = TrustAnchors::empty();
        let mut zones: Vec<&Name> = self.0.iter().map(|(zone, _)| zone).collect();
        zones.retain(|zone| zone.zone_of(name));
        zones.dedup();
        for zone in zones {
            for key in self.proven_set(zone, &heard.keys(zone).await?) {
                proven.insert_with_name(key.public_key(), zone.into());
            }
        }
        Ok(proven)
    }

    fn proven_set<'a>(&self, zone: &Name, records: &'a [Record]) -> Vec<&'a DNSKEY> {
        let keys = || {
            records.iter().filter_map(|record| match &record.data {
                RData::DNSSEC(DNSSECRData::DNSKEY(key)) if record.name == *zone => Some(key),
                _ => None,
            })
        };
        let signatures = records.iter().filter_map(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::RRSIG(signature)) if record.name == *zone => Some(signature),
            _ => None,
        });
        let anchored = |key: &&DNSKEY| self.0.iter().any(|(of, anchor)| of == zone && anchor.is(zone, key));
        let proves =
            |signature: &RRSIG| keys().filter(anchored).any(|key| signs(zone, key, signature, records));
        if signatures.take(TRIED_MAX).any(proves) { keys().collect() } else { Vec::new() }
    }
}

/// Why a text contains no trust anchors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WrongAnchors {
    /// It has no DNSKEY or DS record.
    None,
    /// The record that begins at this line, counted from 1, is not a DNSKEY, DS or RRSIG record.
    Line(usize),
}

impl Display for WrongAnchors {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            WrongAnchors::None => write!(f, "there is no DNSKEY or DS record"),
            WrongAnchors::Line(line) => write!(f, "line {line}: not a DNSKEY or DS record"),
        }
    }
}

impl std::error::Error for WrongAnchors {}

impl From<WrongAnchors> for Error {
    fn from(_: WrongAnchors) -> Error {
        Error::InvalidArgument
    }
}

/// Splits a text into records. Returns the line at which each record begins, and its words. A
/// record is one line, or several lines if a bracket is open at their ends.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, WrongAnchors> {
    let (mut records, mut words, mut open, mut start) = (Vec::new(), Vec::new(), false, 1);
    for (number, line) in (1..).zip(text.lines()) {
        if !open {
            start = number;
        }
        let line = line.split(';').next().unwrap_or_default().replace('(', " ( ").replace(')', " ) ");
        for word in line.split_ascii_whitespace() {
            match word {
                "(" | ")" if open == (word == "(") => return Err(WrongAnchors::Line(start)),
                "(" | ")" => open = !open,
                word => words.push(word.to_owned()),
            }
        }
        if !open && !words.is_empty() {
            records.push((start, std::mem::take(&mut words)));
        }
    }
    if open { Err(WrongAnchors::Line(start)) } else { Ok(records) }
}

/// The content of a record.
enum Read {
    Anchor(Name, Anchor),
    Signature,
}

/// Parses `owner [TTL] [IN] DNSKEY|DS|RRSIG fields`.
fn read(words: &[String]) -> Option<Read> {
    let (owner, rest) = words.split_first()?;
    let mut zone = Name::from_ascii(owner).ok()?.to_lowercase();
    zone.set_fqdn(true);
    // Anything that may come before the type is either a number or `IN`.
    let is_type = |word: &&String| word.parse::<u32>().is_err() && !word.eq_ignore_ascii_case("IN");
    let place = rest.iter().position(|word| is_type(&word)).filter(|place| *place <= 2)?;
    let (kind, fields) = (rest[place].to_ascii_uppercase(), &rest[place + 1..]);
    let anchor = match &*kind {
        "DNSKEY" => key(fields)?,
        "DS" => digest(fields)?,
        // A signature of such records. It is not used, because signatures are asked for again.
        "RRSIG" if fields.first().is_some_and(|of| is_anchor(of)) => return Some(Read::Signature),
        _ => return None,
    };
    Some(Read::Anchor(zone, anchor))
}

fn is_anchor(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("DNSKEY") || kind.eq_ignore_ascii_case("DS")
}

fn key(fields: &[String]) -> Option<Anchor> {
    match &Parser::new(format!(". IN DNSKEY {}", fields.join(" "))).parse().ok()?[..] {
        [Entry::DNSKEY(record)] => Some(Anchor::Key(record.data().clone())),
        _ => None,
    }
}

fn digest(fields: &[String]) -> Option<Anchor> {
    let record = RData::try_from_str(RecordType::DS, &fields.join(" ")).ok()?;
    let RData::DNSSEC(DNSSECRData::DS(digest)) = record else { return None };
    let bytes = match digest.digest_type() {
        DigestType::SHA1 => 20,
        DigestType::SHA256 => 32,
        DigestType::SHA384 => 48,
        _ => return None,
    };
    // The resolver's library ignores an odd digit at the end.
    let digits: usize = fields.get(3..)?.iter().map(String::len).sum();
    (digest.digest().len() == bytes && digits == 2 * bytes).then_some(Anchor::Digest(digest))
}

/// Returns whether this is a signature by `key` of the zone's keys that is in force now.
fn signs(zone: &Name, key: &DNSKEY, signature: &RRSIG, records: &[Record]) -> bool {
    let input = signature.input();
    input.type_covered == RecordType::DNSKEY
        && input.signer_name == *zone
        && input.num_labels == zone.num_labels()
        && input.algorithm == key.algorithm()
        && key.calculate_key_tag().is_ok_and(|tag| tag == input.key_tag)
        && key.zone_key()
        && !key.revoke()
        && Validity::of(signature, now()).is_some()
        && key.verify_rrsig(zone, DNSClass::IN, signature, records.iter()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "rC2Ba5fSHrxG2Jmwdo7QkmJZq0TaLGTwtGsmVRkk2Yg=";
    const DIGEST: &str = "76B2B9F26C05F4C6E1C8B6E3D1C9E37A6DF3C0F8D5C1E2A3B4C5D6E7F8091A2B";

    #[test]
    fn keys_and_digests_are_read_as_tools_print_them() {
        for (text, anchors) in [
            (format!("test. DNSKEY 257 3 15 {KEY}\ntest. DNSKEY 256 3 15 {KEY}\n"), 2),
            (
                format!(
                    "; <<>> DiG <<>> test. DNSKEY\n;; ANSWER:\n\nTest.\t3600\tIN\tDNSKEY\t257 3 15 {KEY}\r\n\n;; x"
                ),
                1,
            ),
            (
                format!(
                    "test. in 60 dnskey 257 3 15 (\n {} ; half\n{} ) ; KSK; alg = ED25519",
                    &KEY[..20],
                    &KEY[20..]
                ),
                1,
            ),
            (format!("test. DS 13049 15 2 {DIGEST}"), 1),
            (format!(". 60 IN DS 13049 15 2 {} {}", &DIGEST[..8], &DIGEST[8..]), 1),
            (
                format!(
                    "test. 60 IN DNSKEY 257 3 15 {KEY}\ntest. 60 IN RRSIG DNSKEY 15 1 60 (\n\t20300101000000 20200101000000 \
                     1 test.\n\t{KEY} )"
                ),
                1,
            ),
        ] {
            assert_eq!(Anchors::parse(&text).map(|anchors| anchors.0.len()), Ok(anchors), "{text}");
        }
        for (text, wrong) in [
            (String::new(), None),
            ("; nothing\n\n".into(), None),
            (format!("test. RRSIG DNSKEY 15 1 60 20300101000000 20200101000000 1 test. {KEY}"), None),
            ("what is this".into(), Some(1)),
            ("test.".into(), Some(1)),
            (format!("\ntest. DNSKEY 257 3 15 (\n {KEY}\n"), Some(2)),
            (format!("test. DNSKEY 257 3 15 ( ( {KEY} ) )"), Some(1)),
            (format!("test. DNSKEY 257 3 15 {KEY} )"), Some(1)),
            (format!("test. DNSKEY 257 3 15 {KEY}\ntest. A 192.0.2.1"), Some(2)),
            (format!("test. DNSKEY 257 3 15 (\n{KEY}\n)\n;\ntest. RRSIG A 15 1 60 {KEY}"), Some(5)),
            (format!("test. CH DNSKEY 257 3 15 {KEY}"), Some(1)),
            (format!("test. 1 IN 2 DNSKEY 257 3 15 {KEY}"), Some(1)),
            ("test. DNSKEY 257 3 15 x".into(), Some(1)),
            ("test. DNSKEY".into(), Some(1)),
            ("test. DS 13049 15".into(), Some(1)),
            ("test. DS 13049 15 2 x".into(), Some(1)),
            (format!("test. DS 13049 15 2 {DIGEST}0"), Some(1)),
            (format!("test. DS 13049 15 4 {DIGEST}"), Some(1)),
            (format!("test. DS 13049 15 9 {DIGEST}"), Some(1)),
            ("$INCLUDE /etc/passwd".into(), Some(1)),
            (format!("a..b DNSKEY 257 3 15 {KEY}"), Some(1)),
        ] {
            let wrong = wrong.map_or(WrongAnchors::None, WrongAnchors::Line);
            assert_eq!(Anchors::parse(&text).err(), Some(wrong), "{text}");
        }
    }
}
