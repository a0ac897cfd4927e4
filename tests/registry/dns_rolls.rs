//! Keys in DNS while the zone's own keys are rolled and clients connect.

use crate::support::dns::{PATIENCE, admits, ask, options, record, serve};
use crate::support::knot::{Knot, Signed};
use crate::support::registry::keys;
use curve_tun::Error;
use curve_tun::registry::DnsRegistry;
use hickory_resolver::proto::dnssec::PublicKey;
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData};
use hickory_resolver::proto::rr::{RData, RecordType};
use std::process::Command;
use std::time::Instant;

const ADDRESS: &str = "192.0.2.7";
/// The flags of a key-signing key, and of a zone-signing key.
const KSK: u16 = 257;
const ZSK: u16 = 256;

/// A registry that trusts `anchors`. It caches no answers.
fn trusting(knot: &Knot, anchors: &str) -> DnsRegistry {
    let options = options(knot).trust_anchors(Some(anchors.into())).cache_max(0);
    DnsRegistry::open("test", &options).unwrap()
}

/// The keys of the zone, as it has them now.
fn zone_keys(knot: &Knot, flags: u16) -> Vec<DNSKEY> {
    let answer = ask(knot.address(), "test.", RecordType::DNSKEY);
    let keys = answer.answers.iter().filter_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::DNSKEY(key)) if key.flags() == flags => Some(key.clone()),
        _ => None,
    });
    keys.collect()
}

/// Lets clients `come` until the zone has the awaited state, and once more then.
fn until(knot: &Knot, awaited: impl Fn(&Knot) -> bool, mut come: impl FnMut()) {
    let end = Instant::now() + PATIENCE;
    while !awaited(knot) {
        assert!(Instant::now() < end, "{}", knot.tool("keymgr", &["test", "list", "iso"]));
        come();
    }
    come();
}

/// A zone with a key-signing key and a zone-signing key, and the client's key in it.
fn zone() -> (Knot, curve_tun::PublicKey) {
    let [key] = keys();
    (serve(format!("$TTL 1\n{}", record("7.2.0.192.in-addr", key)), Signed::Split), key)
}

#[test]
fn a_key_that_signs_keys_is_an_anchor_in_each_form_that_tools_print() {
    let (knot, key) = zone();
    let keymgr = knot.trust_anchors("test");
    assert_eq!((keymgr.matches(" 257 ").count(), keymgr.matches(" 256 ").count()), (1, 0), "{keymgr}");
    let digests = knot.tool("keymgr", &["test", "ds"]);
    let dig = |arguments: &[&str]| {
        let address = knot.address();
        let mut command = Command::new("dig");
        command.arg(format!("@{}", address.ip())).args([
            "-p",
            &address.port().to_string(),
            "test.",
            "DNSKEY",
        ]);
        let output =
            command.args(arguments).output().expect("the tests need dig: apt-get install bind9-dnsutils");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let [whole, brief, long] = [dig(&[]), dig(&["+noall", "+answer"]), dig(&["+multiline"])];
    let [signed, signed_long] = [dig(&["+dnssec"]), dig(&["+dnssec", "+multiline"])];
    assert!(signed.contains("RRSIG"), "{signed}");
    let lower = brief.replace("test.\t", "TEST.\t").replace("DNSKEY", "dnskey");
    let only = |flags: &str| {
        brief.lines().filter(|line| line.contains(flags)).map(|line| format!("{line}\n")).collect::<String>()
    };
    let halves = [&only("257 3"), &only("256 3")];
    for anchors in
        [&keymgr, &digests, &whole, &brief, &long, &lower, &signed, &signed_long].into_iter().chain(halves)
    {
        let expected = match anchors {
            // It signs no keys.
            zsk if **zsk == only("256 3") => Err(Error::NotValidated),
            _ => Ok(true),
        };
        assert_eq!(admits(&trusting(&knot, anchors), ADDRESS, key), expected, "{anchors}");
        assert_eq!(
            admits(&trusting(&knot, anchors), "192.0.2.8", key).is_ok(),
            expected.is_ok(),
            "{anchors}"
        );
    }
    // Another zone's key, and a key that belongs to no zone.
    let (other, _) = zone();
    let theirs = other.trust_anchors("test");
    assert_eq!(admits(&trusting(&knot, &theirs), ADDRESS, key), Err(Error::NotValidated));
    assert_eq!(admits(&trusting(&knot, &(theirs + &keymgr)), ADDRESS, key), Ok(true));
    assert_eq!(
        admits(&trusting(&knot, &keymgr.replace("test.", "other.")), ADDRESS, key),
        Err(Error::NotValidated)
    );
    for bad in ["test. DNSKEY 257 3 15", "test. TXT x", "DNSKEY", "; nothing", "", "\n"] {
        let options = options(&knot).trust_anchors(Some(bad.into()));
        assert_eq!(DnsRegistry::open("test", &options).err(), Some(Error::InvalidArgument), "{bad}");
    }
}

#[test]
fn clients_come_in_while_the_key_that_signs_the_rest_is_rolled() {
    let (knot, key) = zone();
    let registry = trusting(&knot, &knot.trust_anchors("test"));
    let before = zone_keys(&knot, ZSK);
    knot.tool("knotc", &["-b", "zone-key-rollover", "test", "zsk"]);
    let rolled = |knot: &Knot| {
        let now = zone_keys(knot, ZSK);
        now.len() == 1 && now != before
    };
    until(&knot, rolled, || assert_eq!(admits(&registry, ADDRESS, key), Ok(true)));
}

#[test]
fn clients_come_in_while_the_anchored_key_is_rolled_if_both_are_anchors() {
    let (knot, key) = zone();
    let old = knot.trust_anchors("test");
    let with_old = trusting(&knot, &old);
    let before = zone_keys(&knot, KSK);
    knot.tool("knotc", &["-b", "zone-key-rollover", "test", "ksk"]);
    // The new one is in the zone, and signs its keys, beside the old one.
    let both = |knot: &Knot| zone_keys(knot, KSK).len() == 2;
    until(&knot, both, || assert_eq!(admits(&with_old, ADDRESS, key), Ok(true)));
    let anchors = anchors_now(&knot);
    assert!(anchors.lines().count() == 2 && anchors.contains(old.trim_end()), "{anchors}");
    let with_both = trusting(&knot, &anchors);
    // Knot continues when told that the parent zone knows the new key, which it accepts once the
    // key is ready.
    let ready = |knot: &Knot| {
        let list = knot.tool("keymgr", &["test", "list", "iso"]);
        list.matches(" ready=").count() == 2
            && list.lines().any(|key| key.contains(" KSK ") && key.contains(" active="))
    };
    until(&knot, ready, || {
        assert_eq!(admits(&with_old, ADDRESS, key), Ok(true));
        assert_eq!(admits(&with_both, ADDRESS, key), Ok(true));
    });
    knot.tool("knotc", &["-b", "zone-ksk-submitted", "test"]);
    let rolled = |knot: &Knot| {
        let now = zone_keys(knot, KSK);
        now.len() == 1 && now[0].public_key().public_bytes() != before[0].public_key().public_bytes()
    };
    until(&knot, rolled, || assert_eq!(admits(&with_both, ADDRESS, key), Ok(true)));
    assert_eq!(admits(&with_old, ADDRESS, key), Err(Error::NotValidated), "nobody said what follows it");
}

/// The key-signing keys, as `keymgr` prints them.
fn anchors_now(knot: &Knot) -> String {
    let all = knot.tool("keymgr", &["test", "dnskey"]);
    all.lines().filter(|line| line.contains(" 257 ")).map(|line| format!("{line}\n")).collect()
}
