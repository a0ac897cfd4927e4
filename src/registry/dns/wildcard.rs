//! Checks whether an answer from a wildcard is the one that the zone means.

use super::heard::signature;
use hickory_resolver::proto::dnssec::Nsec3HashAlgorithm;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, NSEC, NSEC3};
use hickory_resolver::proto::rr::{Name, RData, Record};

/// The most rounds of hashing that are computed (RFC 9276).
const ITERATIONS_MAX: u16 = 100;

/// Returns whether the zone `signer` has nothing between `name` and the wildcard of `labels` labels
/// that answers for it, as the proven ones of `records` say (RFC 4035, section 5.3.4; RFC 5155,
/// section 8.8). The name with one label more than the wildcard's parent must not exist. Otherwise
/// a closer wildcard or name would have decided.
///
/// An NSEC3 record with opt-out does not prove this, because names without signatures may exist in
/// its range.
pub(super) fn is_closest(name: &Name, labels: u8, signer: &Name, records: &[Record]) -> bool {
    let labels = usize::from(labels);
    let next_closer = name.trim_to(labels + 1);
    if labels < usize::from(signer.num_labels()) || !signer.zone_of(&next_closer) {
        return false;
    }
    records.iter().filter(|record| record.proof.is_secure()).any(|record| {
        let denies = match &record.data {
            RData::DNSSEC(DNSSECRData::NSEC(nsec)) => nsec_denies(&record.name, nsec, signer, &next_closer),
            RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => {
                nsec3_denies(&record.name, nsec3, signer, &next_closer)
            }
            _ => false,
        };
        denies && is_signed_by(record, signer, records)
    })
}

/// Returns whether the proven signature of a record is by this zone, and not by a zone above.
fn is_signed_by(record: &Record, signer: &Name, records: &[Record]) -> bool {
    records.iter().filter(|one| one.proof.is_secure() && one.name == record.name).any(|one| {
        signature(one).is_some_and(|(rrsig, covered)| {
            covered == record.record_type() && rrsig.input().signer_name == *signer
        })
    })
}

/// Returns whether `name` does not exist: in the order of names, `name` and all names under it lie
/// between `owner` and the next name.
fn nsec_denies(owner: &Name, nsec: &NSEC, zone: &Name, name: &Name) -> bool {
    let next = nsec.next_domain_name();
    let is_last = next == zone;
    zone.zone_of(owner)
        && zone.zone_of(next)
        && owner < name
        && (is_last || name < next)
        // A name with names under it exists.
        && (is_last || !name.zone_of(next))
        // A zone says nothing about names under a delegation.
        && !(nsec.is_ancestor_delegation() && owner.zone_of(name))
}

fn nsec3_denies(owner: &Name, nsec3: &NSEC3, zone: &Name, name: &Name) -> bool {
    let hashed = (nsec3.iterations() <= ITERATIONS_MAX && !nsec3.opt_out() && owner.base_name() == *zone)
        .then(|| nsec3.hash_algorithm().hash(nsec3.salt(), name, nsec3.iterations()).ok())
        .flatten();
    let (Some(hash), Some(next)) = (hashed, nsec3.next_hashed_owner_name_base32()) else { return false };
    // Turn the hash into a label, which no other call does.
    let hash = NSEC3::new(Nsec3HashAlgorithm::SHA1, false, 0, Vec::new(), hash.as_ref().to_vec(), []);
    let (Some(hash), Some(first)) = (hash.next_hashed_owner_name_base32(), owner.iter().next()) else {
        return false;
    };
    let [first, hash, next] = [first, hash.as_bytes(), next.as_bytes()].map(<[u8]>::to_ascii_lowercase);
    if first < next { first < hash && hash < next } else { first < hash || hash < next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::RecordType;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn an_nsec_record_denies_what_is_between_its_names() {
        for (owner, next, kinds, denied, expected) in [
            ("b.test.", "d.test.", &[RecordType::TXT][..], "c.test.", true),
            ("b.test.", "d.test.", &[RecordType::TXT], "B.test.", false),
            ("b.test.", "d.test.", &[RecordType::TXT], "d.test.", false),
            ("b.test.", "d.test.", &[RecordType::TXT], "e.test.", false),
            ("b.test.", "d.test.", &[RecordType::TXT], "x.b.test.", true),
            // The last one.
            ("b.test.", "test.", &[RecordType::TXT], "c.test.", true),
            ("b.test.", "test.", &[RecordType::TXT], "a.test.", false),
            // An empty name with names under it.
            ("b.test.", "x.c.test.", &[RecordType::TXT], "c.test.", false),
            // A delegation, and a name under it.
            ("b.test.", "d.test.", &[RecordType::NS], "x.b.test.", false),
            ("b.test.", "d.test.", &[RecordType::DNAME], "x.b.test.", false),
            ("b.test.", "d.test.", &[RecordType::NS], "c.test.", true),
            ("test.", "d.test.", &[RecordType::NS, RecordType::SOA], "c.test.", true),
            // Another zone's.
            ("b.", "d.test.", &[RecordType::TXT], "c.test.", false),
            ("b.test.", "z.", &[RecordType::TXT], "c.test.", false),
        ] {
            let nsec = NSEC::new(name(next), kinds.iter().copied());
            let denies = nsec_denies(&name(owner), &nsec, &name("test."), &name(denied));
            assert_eq!(denies, expected, "{owner} {next} {denied}");
        }
    }

    #[test]
    fn an_nsec3_record_denies_hashes_between_its_own() {
        let zone = name("test.");
        let hash = |text: &str| {
            let hash = Nsec3HashAlgorithm::SHA1.hash(&[7], &name(text), 2).unwrap();
            <[u8; 20]>::try_from(hash.as_ref()).unwrap()
        };
        let label = |hash: [u8; 20]| {
            let nsec3 = NSEC3::new(Nsec3HashAlgorithm::SHA1, false, 0, vec![], hash.to_vec(), []);
            nsec3.next_hashed_owner_name_base32().unwrap().to_string()
        };
        let near = |hash: [u8; 20], by: i8| {
            let mut near = hash;
            near[0] = near[0].wrapping_add_signed(by);
            near
        };
        let here = hash("c.test.");
        let (before, after) = (near(here, -1), near(here, 1));
        let denies = |owner: String, next: [u8; 20], opt_out, iterations| {
            let nsec3 = NSEC3::new(Nsec3HashAlgorithm::SHA1, opt_out, iterations, vec![7], next.to_vec(), []);
            nsec3_denies(&name(&owner), &nsec3, &zone, &name("C.test."))
        };
        let of = |hash: [u8; 20]| format!("{}.test.", label(hash).to_uppercase());
        assert!(denies(of(before), after, false, 2));
        assert!(!denies(of(after), before, false, 2), "around the end");
        assert!(denies(of(near(before, -1)), near(before, -1), false, 2), "the only one of its zone");
        assert!(!denies(of(here), here, false, 2), "it is there");
        assert!(!denies(of(here), after, false, 2), "it is there");
        assert!(!denies(of(before), here, false, 2), "it is there");
        assert!(!denies(of(before), after, true, 2), "opt-out");
        assert!(!denies(of(before), after, false, 101), "too costly");
        assert!(!denies(format!("{}.", label(before)), after, false, 2), "a zone above");
        assert!(!denies(format!("{}.sub.test.", label(before)), after, false, 2), "a zone below");
    }
}
