//! Keys in DNS, with a man in the middle who has no key, and rearranges records that others signed.

use crate::support::dns;
use crate::support::dns::{
    admits, ask, family, is_for, middle, open, options, record, renamed, serve, server_keys, through,
    with_labels,
};
use crate::support::knot::{Knot, Signed, Zone};
use crate::support::registry::keys;
use curve_tun::Error;
use curve_tun::registry::DnsRegistry;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::net::SocketAddr;

/// A client in a network with entries of its own, and its name.
const CLIENT: &str = "198.51.100.7";
const NAME: &str = "7.100.51.198.in-addr.test.";

/// Whether a record is of one of these types, or a signature of such records.
fn is_kind(record: &Record, kinds: &[RecordType]) -> bool {
    let covered = dns::signature(record).map(|rrsig| rrsig.input().type_covered);
    kinds.contains(&covered.unwrap_or(record.record_type()))
}

/// Returns all records that deny names in a zone, with their signatures, as the server sends them
/// for names that do not exist.
fn denials(server: SocketAddr, zone: &str) -> Vec<Record> {
    let mut all = Vec::new();
    for number in 0..64 {
        let answer = ask(server, &format!("absent-{number}.{zone}"), RecordType::TXT);
        for record in &answer.authorities {
            if is_kind(record, &[RecordType::NSEC, RecordType::NSEC3]) && !all.contains(record) {
                all.push(record.clone());
            }
        }
    }
    assert!(!all.is_empty(), "{zone}");
    all
}

/// Answers with `answers` and `authorities` when it is asked for the client's name.
fn instead(
    server: SocketAddr,
    name: &'static str,
    answers: Vec<Record>,
    authorities: Vec<Record>,
) -> SocketAddr {
    middle(server, move |message| {
        if is_for(message, name, RecordType::TXT) {
            message.answers.clone_from(&answers);
            message.authorities.clone_from(&authorities);
            message.metadata.response_code = ResponseCode::NoError;
        }
        true
    })
}

#[test]
fn a_signature_that_proves_nothing_does_not_choose_the_wildcard() {
    let [wide, narrow] = keys();
    let text = record("*.in-addr", wide) + &record("*.100.51.198.in-addr", narrow);
    for signed in [Signed::Nsec, Signed::Nsec3] {
        let knot = serve(text.clone(), signed);
        assert_eq!(admits(&open(&knot), CLIENT, narrow), Ok(true));
        assert_eq!(admits(&open(&knot), CLIENT, wide), Ok(false));
        // The records that the wider wildcard gives other clients, and the proof that this client
        // has no name of its own.
        let answers = renamed(&ask(knot.address(), "1.2.3.4.in-addr.test.", RecordType::TXT).answers, NAME);
        let authorities = ask(knot.address(), NAME, RecordType::TXT).authorities;
        let signature = answers.iter().find(|record| record.record_type() == RecordType::RRSIG).unwrap();
        for labels in 0..=6 {
            for (at, covered) in [(0, RecordType::TXT), (answers.len(), RecordType::TXT), (0, RecordType::A)]
            {
                let mut answers = answers.clone();
                let mut forged = with_labels(signature, labels);
                if covered != RecordType::TXT {
                    forged = dns::covering(&forged, covered);
                }
                answers.insert(at, forged);
                let middle = instead(knot.address(), NAME, answers, authorities.clone());
                let verdict = admits(&through(middle, &knot, "test"), CLIENT, wide);
                assert_eq!(verdict, Err(Error::NotValidated), "{signed:?} {labels} {at} {covered}");
            }
        }
    }
}

#[test]
fn what_denies_names_in_a_parent_zone_denies_none_in_its_child() {
    let [own, network] = keys();
    let child = record("7.100.51.198.in-addr", own) + &record("*.100.51.198.in-addr", network);
    let name = "7.100.51.198.in-addr.child.test.";
    for parent in [Signed::Nsec, Signed::Nsec3] {
        for signed in [Signed::Nsec, Signed::Nsec3] {
            let knot = family("child.test", (String::new(), parent), (child.clone(), signed));
            let registry = DnsRegistry::open("child.test", &options(&knot)).unwrap();
            assert_eq!(admits(&registry, CLIENT, own), Ok(true));
            assert_eq!(admits(&registry, CLIENT, network), Ok(false));
            assert_eq!(admits(&registry, "198.51.100.8", network), Ok(true));
            let other = ask(knot.address(), "8.100.51.198.in-addr.child.test.", RecordType::TXT);
            let answers = renamed(&other.answers, name);
            let (above, beside) = (denials(knot.address(), "test."), other.authorities);
            for authorities in [above.clone(), beside.clone(), [above, beside].concat(), Vec::new()] {
                let middle = instead(knot.address(), name, answers.clone(), authorities);
                let verdict = admits(&through(middle, &knot, "child.test"), CLIENT, network);
                assert_eq!(verdict, Err(Error::NotValidated), "{parent:?} {signed:?}");
            }
        }
    }
}

#[test]
fn a_wildcard_of_a_parent_zone_says_nothing_of_names_in_its_child() {
    let [above, own] = keys();
    let parent = record("*.in-addr", above);
    for signed in [Signed::Nsec, Signed::Nsec3, Signed::OptOut] {
        let knot =
            family("198.in-addr.test", (parent.clone(), signed), (record("7.100.51", own), Signed::Nsec));
        assert_eq!(admits(&open(&knot), CLIENT, own), Ok(true));
        let answers = renamed(&ask(knot.address(), "1.2.3.4.in-addr.test.", RecordType::TXT).answers, NAME);
        for zone in ["test.", "198.in-addr.test."] {
            let middle = instead(knot.address(), NAME, answers.clone(), denials(knot.address(), zone));
            let verdict = admits(&through(middle, &knot, "test"), CLIENT, above);
            assert_eq!(verdict, Err(Error::NotValidated), "{signed:?} {zone}");
        }
    }
}

#[test]
fn a_wildcard_is_found_by_clients_and_aliases_at_any_depth() {
    let [network, host] = keys();
    let text = record("*.51.198.in-addr", network)
        + &record("deep.down.100.0.198.in-addr", host)
        + "9.2.0.192.in-addr CNAME 7.100.51.198.in-addr\n*.3.0.192.in-addr CNAME 7.100.51.198.in-addr\n";
    for signed in [Signed::Nsec, Signed::Nsec3] {
        let knot = serve(text.clone(), signed);
        let registry = open(&knot);
        for address in ["198.51.100.7", "198.51.0.1", "192.0.2.9", "192.0.3.1"] {
            assert_eq!(admits(&registry, address, network), Ok(true), "{signed:?} {address}");
        }
        // An empty name above an existing one hides the wildcard of the wider network, too.
        for address in ["198.0.100.1", "198.52.0.1"] {
            assert_eq!(admits(&registry, address, network), Ok(false), "{signed:?} {address}");
        }
    }
}

#[test]
fn opt_out_denies_nothing_that_a_wildcard_needs_denied() {
    let [network, host] = keys();
    let knot =
        serve(record("*.100.51.198.in-addr", network) + &record("7.2.0.192.in-addr", host), Signed::OptOut);
    let registry = open(&knot);
    assert_eq!(admits(&registry, "192.0.2.7", host), Ok(true));
    assert_eq!(admits(&registry, CLIENT, network), Err(Error::NotValidated));
}

#[test]
fn an_alias_is_followed_to_proven_records_alone() {
    let [here, child, plain] = keys();
    let parent = record("7.2.0.192.in-addr", here)
        + "1.2.0.192.in-addr CNAME 7.2.0.192.in-addr\n\
           2.2.0.192.in-addr CNAME 7.2.0.192.in-addr.child\n\
           3.2.0.192.in-addr CNAME key.island.\n\
           4.2.0.192.in-addr CNAME 5.2.0.192.in-addr\n\
           5.2.0.192.in-addr CNAME 4.2.0.192.in-addr\n\
           6.2.0.192.in-addr CNAME absent\n\
           3.0.192.in-addr DNAME 2.0.192.in-addr\n";
    let child_text = record("7.2.0.192.in-addr", child);
    let knot = Knot::start(&[
        Zone { name: "test", text: parent.clone() + "child NS ns\n", signed: Signed::Nsec },
        Zone { name: "child.test", text: child_text, signed: Signed::Nsec3 },
        Zone { name: "island", text: record("key", plain), signed: Signed::Nsec },
    ]);
    knot.change("test", &(parent + "child NS ns\n" + &knot.tool("keymgr", &["child.test", "ds"])), 2);
    let registry = open(&knot);
    assert_eq!(admits(&registry, "192.0.2.1", here), Ok(true));
    assert_eq!(admits(&registry, "192.0.2.2", child), Ok(true));
    assert_eq!(admits(&registry, "192.0.2.3", plain), Err(Error::NotValidated), "no anchor leads there");
    assert_eq!(admits(&registry, "192.0.2.4", here), Ok(false), "a circle");
    assert_eq!(admits(&registry, "192.0.2.6", here), Ok(false), "to nothing");
    assert_eq!(admits(&registry, "192.0.3.7", here), Err(Error::NotValidated), "a DNAME");
}

#[test]
fn a_child_that_nobody_here_can_prove_is_not_taken_unproven() {
    let [key] = keys();
    // Digests of keys of an unknown algorithm, and by an unknown algorithm; and none at all.
    let digest = "0123456789abcdef".repeat(4);
    for delegation in
        [format!("plain DS 1 200 2 {digest}\n"), format!("plain DS 1 13 200 {digest}\n"), String::new()]
    {
        for signed in [Signed::Nsec, Signed::Nsec3, Signed::OptOut] {
            let text = "plain NS ns\n".to_owned() + &delegation;
            let knot = Knot::start(&[
                Zone { name: "test", text, signed },
                Zone { name: "plain.test", text: record("7.2.0.192.in-addr", key), signed: Signed::Not },
            ]);
            let registry = DnsRegistry::open("plain.test", &options(&knot)).unwrap();
            assert_eq!(admits(&registry, "192.0.2.7", key), Err(Error::NotValidated), "{delegation}");
            assert_eq!(admits(&registry, "192.0.2.8", key), Err(Error::NotValidated), "{delegation}");
            assert_eq!(server_keys(&registry, "db.plain.test", 1), Err(Error::NotValidated), "{delegation}");
        }
    }
}

#[test]
fn what_does_not_bear_on_the_question_changes_nothing() {
    let [key, other] = keys();
    let knot = serve(record("7.2.0.192.in-addr", key), Signed::Nsec3);
    let odd = |change: fn(&mut Message, Record)| {
        let text =
            RData::TXT(hickory_resolver::proto::rr::rdata::TXT::new(vec![format!("v=ct1; k={other}")]));
        middle(knot.address(), move |message| {
            change(
                message,
                Record::from_rdata(Name::from_ascii("8.2.0.192.in-addr.test.").unwrap(), 60, text.clone()),
            );
            true
        })
    };
    let changes: [fn(&mut Message, Record); 5] = [
        |message, record| message.answers.insert(0, record),
        |message, record| message.answers.push(record),
        |message, record| message.authorities.push(record),
        |message, record| message.additionals.push(record),
        // The case of a name is not protected.
        |message, _| {
            let upper = |record: &mut Record| {
                record.name = Name::from_ascii(record.name.to_string().to_uppercase()).unwrap()
            };
            message.answers.iter_mut().for_each(upper);
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let registry = through(odd(change), &knot, "test");
        assert_eq!(admits(&registry, "192.0.2.7", key), Ok(true), "{number}");
        assert_eq!(admits(&registry, "192.0.2.7", other), Ok(false), "{number}");
    }
    // An additional record at the name itself is not covered by any signature.
    let text = knot.address();
    let more = middle(text, move |message| {
        if let Some(mut one) =
            message.answers.iter().find(|record| record.record_type() == RecordType::TXT).cloned()
        {
            one.data =
                RData::TXT(hickory_resolver::proto::rr::rdata::TXT::new(vec![format!("v=ct1; k={other}")]));
            message.answers.push(one);
        }
        true
    });
    assert_eq!(admits(&through(more, &knot, "test"), "192.0.2.7", other), Err(Error::NotValidated));
}

#[test]
fn an_absence_is_believed_if_it_is_proven() {
    let [key] = keys();
    for signed in [Signed::Nsec, Signed::Nsec3] {
        let knot = serve(record("7.2.0.192.in-addr", key), signed);
        assert_eq!(server_keys(&open(&knot), "db.test", 1), Err(Error::NotFound));
        for code in [ResponseCode::NoError, ResponseCode::NXDomain] {
            for keep in [false, true] {
                // Nothing at all, or the denial of another name.
                let others = ask(knot.address(), "zz.test.", RecordType::TXT).authorities;
                let middle = middle(knot.address(), move |message| {
                    if message.queries[0].query_type() == RecordType::TXT {
                        message.answers.clear();
                        message.authorities = if keep { others.clone() } else { Vec::new() };
                        message.metadata.response_code = code;
                    }
                    true
                });
                let registry = through(middle, &knot, "test");
                assert_eq!(
                    admits(&registry, "192.0.2.7", key),
                    Err(Error::NotValidated),
                    "{signed:?} {code} {keep}"
                );
                assert_eq!(
                    server_keys(&registry, "db.test", 1)
                        .err()
                        .filter(|_| !keep)
                        .unwrap_or(Error::NotValidated),
                    Error::NotValidated
                );
            }
        }
    }
}

#[test]
fn signatures_without_number_cost_no_more_than_they_may() {
    let [key] = keys();
    let knot = serve(record("7.2.0.192.in-addr", key), Signed::Nsec3);
    let middle = middle(knot.address(), |message| {
        let signatures: Vec<_> = message
            .answers
            .iter()
            .filter(|record| record.record_type() == RecordType::RRSIG)
            .cloned()
            .collect();
        for record in &signatures {
            let labels = dns::signature(record).unwrap().input().num_labels;
            // The genuine one comes last.
            for number in 0..40 {
                message.answers.insert(0, dns::with_tag(&with_labels(record, labels), number));
            }
        }
        true
    });
    let options = options(&knot).servers(vec![middle]);
    let registry = DnsRegistry::open("test", &options).unwrap();
    assert_eq!(admits(&registry, "192.0.2.7", key), Err(Error::NotValidated));
}
