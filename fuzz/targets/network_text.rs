//! The registry's addresses: their text, and which network decides, checked against a linear
//! search.
#![no_main]

use curve_tun::PublicKey;
use curve_tun::registry::{Candidate, MemoryRegistry, Network, Registry};
use std::net::IpAddr;

/// Returns the bits of an address and its family; IPv4-mapped addresses are IPv4.
fn bits(address: IpAddr) -> (bool, u128) {
    match address.to_canonical() {
        IpAddr::V4(v4) => (true, u128::from(v4.to_bits()) << 96),
        IpAddr::V6(v6) => (false, v6.to_bits()),
    }
}

/// Returns family, first bits and their number if the text is a network.
fn read(text: &str) -> Option<(bool, u128, u32)> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let mut prefix: u32 = match prefix {
        Some(p) => (p == p.parse::<u32>().ok()?.to_string()).then(|| p.parse().unwrap())?,
        None => width,
    };
    if prefix > width {
        return None;
    }
    let mapped = address.is_ipv6() && address.to_canonical().is_ipv4();
    if mapped {
        prefix = prefix.checked_sub(96)?;
    }
    let (v4, bits) = bits(address);
    let rest = bits.checked_shl(prefix).unwrap_or(0);
    (rest == 0).then_some((v4, bits, prefix))
}

fn covers(network: &(bool, u128, u32), address: (bool, u128)) -> bool {
    network.0 == address.0 && (network.1 ^ address.1).checked_shr(128 - network.2).unwrap_or(0) == 0
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // Lines: networks to add, with the line's number modulo 3 as the key; with '?' before it, an
    // address to look up.
    let Ok(input) = std::str::from_utf8(input) else { return };
    let registry = MemoryRegistry::new();
    let mut added: Vec<((bool, u128, u32), PublicKey)> = Vec::new();
    for (number, line) in input.lines().take(64).enumerate() {
        if let Some(Ok(address)) = line.strip_prefix('?').map(str::parse::<IpAddr>) {
            let at = bits(address);
            let longest = added.iter().filter(|(n, _)| covers(n, at)).map(|(n, _)| n.2).max();
            let deciding = added.iter().filter(|(n, _)| covers(n, at) && Some(n.2) == longest);
            let mut expected: Vec<PublicKey> = deciding.map(|(_, key)| *key).collect();
            let mut found = registry.lookup(address);
            expected.sort();
            found.sort();
            assert_eq!(found, expected);
            for key in (0..3).map(|n| PublicKey([n; 32])) {
                assert_eq!(registry.verify(&Candidate::new(address, key)), Ok(expected.contains(&key)));
            }
            continue;
        }
        let key = PublicKey([(number % 3) as u8; 32]);
        let (remove, text) = line.strip_prefix('-').map_or((false, line), |text| (true, text));
        let (parsed, expected) = (text.parse::<Network>(), read(text));
        assert_eq!(parsed.is_ok(), expected.is_some(), "{text:?}");
        let (Ok(network), Some(expected)) = (parsed, expected) else { continue };
        assert_eq!(network.to_string().parse(), Ok(network), "{text:?}");
        assert_eq!((network.is_ipv4(), u32::from(network.prefix())), (expected.0, expected.2));
        let known = added.iter().position(|entry| *entry == (expected, key));
        if remove {
            assert_eq!(registry.remove(network.into(), &key).is_ok(), known.is_some());
            known.map(|at| added.remove(at));
        } else {
            registry.add(network.into(), key);
            if known.is_none() {
                added.push((expected, key));
            }
        }
    }
});
