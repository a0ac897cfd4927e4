//! The keys that proofs begin at.

use super::heard::Heard;
use super::validity::{Validity, now};
use crate::error::{Error, Result};
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, RRSIG};
use hickory_resolver::proto::dnssec::{DigestType, PublicKey, TrustAnchors, Verifier};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::txt::trust_anchor::{Entry, Parser};

/// The flags of a key-signing key.
const KSK: u16 = 257;
/// The most signatures that are tried for a set of keys.
const TRIED_MAX: usize = 8;

/// Keys that are trusted, each for its zone.
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
    /// The keys of the root that the resolver's library brings.
    pub(super) fn of_the_root() -> Anchors {
        let built_in = TrustAnchors::default();
        let keys = (0..built_in.len()).filter_map(|i| built_in.get(i).cloned());
        Anchors(keys.map(|key| (Name::root(), Anchor::Key(DNSKEY::with_flags(KSK, key)))).collect())
    }

    /// Reads DNSKEY and DS records in the form of zone files, as `keymgr` and `dig` print them.
    /// `InvalidArgument` for anything else, or nothing.
    pub(super) fn parse(text: &str) -> Result<Anchors> {
        let anchors: Option<Vec<_>> =
            records(text).and_then(|records| records.iter().map(|words| anchor(words)).collect());
        anchors.filter(|anchors| !anchors.is_empty()).map(Anchors).ok_or(Error::InvalidArgument)
    }

    /// All keys of the anchored zones that `name` is in, each set proven by the signature of an
    /// anchored key in it.
    ///
    /// The resolver's library would take a zone's key for an anchor only together with all its
    /// other keys.
    pub(super) async fn proven(&self, heard: &Heard, name: &Name) -> Result<TrustAnchors> {
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

/// The words of each record: a line, or several if a bracket is open at their ends. `None` if one
/// stays open.
fn records(text: &str) -> Option<Vec<Vec<String>>> {
    let (mut records, mut words, mut open) = (Vec::new(), Vec::new(), false);
    for line in text.lines() {
        let line = line.split(';').next().unwrap_or_default().replace('(', " ( ").replace(')', " ) ");
        for word in line.split_ascii_whitespace() {
            match word {
                "(" | ")" if open == (word == "(") => return None,
                "(" | ")" => open = !open,
                word => words.push(word.to_owned()),
            }
        }
        if !open && !words.is_empty() {
            records.push(std::mem::take(&mut words));
        }
    }
    (!open).then_some(records)
}

/// Reads `owner [TTL] [IN] DNSKEY|DS fields`.
fn anchor(words: &[String]) -> Option<(Name, Anchor)> {
    let (owner, rest) = words.split_first()?;
    let mut zone = Name::from_ascii(owner).ok()?.to_lowercase();
    zone.set_fqdn(true);
    // What else may stand there is no type.
    let is_type = |word: &&String| word.parse::<u32>().is_err() && !word.eq_ignore_ascii_case("IN");
    let place = rest.iter().position(|word| is_type(&word)).filter(|place| *place <= 2)?;
    let (kind, fields) = (&rest[place], rest[place + 1..].join(" "));
    let anchor = if kind.eq_ignore_ascii_case("DNSKEY") {
        let [Entry::DNSKEY(record)] = &Parser::new(format!(". IN DNSKEY {fields}")).parse().ok()?[..] else {
            return None;
        };
        Anchor::Key(record.data().clone())
    } else if kind.eq_ignore_ascii_case("DS") {
        let RData::DNSSEC(DNSSECRData::DS(digest)) = RData::try_from_str(RecordType::DS, &fields).ok()?
        else {
            return None;
        };
        let bytes = match digest.digest_type() {
            DigestType::SHA1 => 20,
            DigestType::SHA256 => 32,
            DigestType::SHA384 => 48,
            _ => return None,
        };
        // The resolver's library passes over an odd digit at the end.
        let digits: usize = rest[place + 4..].iter().map(String::len).sum();
        if digest.digest().len() != bytes || digits != 2 * bytes {
            return None;
        }
        Anchor::Digest(digest)
    } else {
        return None;
    };
    Some((zone, anchor))
}

/// Whether this is a signature by `key` of the zone's keys, in force now.
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
        ] {
            assert_eq!(Anchors::parse(&text).map(|anchors| anchors.0.len()), Ok(anchors), "{text}");
        }
        for text in [
            String::new(),
            "; nothing".into(),
            "what is this".into(),
            "test.".into(),
            format!("test. DNSKEY 257 3 15 ( {KEY}"),
            format!("test. DNSKEY 257 3 15 ( ( {KEY} ) )"),
            format!("test. DNSKEY 257 3 15 {KEY} )"),
            format!("test. DNSKEY 257 3 15 {KEY}\ntest. A 192.0.2.1"),
            format!("test. CH DNSKEY 257 3 15 {KEY}"),
            format!("test. 1 IN 2 DNSKEY 257 3 15 {KEY}"),
            "test. DNSKEY 257 3 15 x".into(),
            "test. DS 13049 15 2 x".into(),
            format!("test. DS 13049 15 2 {DIGEST}0"),
            format!("test. DS 13049 15 4 {DIGEST}"),
            format!("test. DS 13049 15 9 {DIGEST}"),
            "$INCLUDE /etc/passwd".into(),
            format!("a..b DNSKEY 257 3 15 {KEY}"),
        ] {
            assert_eq!(Anchors::parse(&text).err(), Some(Error::InvalidArgument), "{text}");
        }
    }
}
