//! The registry in memory, and the networks it is made of.

use curve_tun::registry::{Candidate, MemoryRegistry, Network, Place, Registry};
use curve_tun::{Error, PublicKey};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

fn network(text: &str) -> Network {
    text.parse().unwrap()
}

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

fn lets_in(registry: &MemoryRegistry, address: &str, n: u8) -> bool {
    registry.verify(&Candidate::new(address.parse().unwrap(), key(n))).unwrap()
}

#[test]
fn an_empty_registry_lets_nobody_in() {
    let registry = MemoryRegistry::new();
    assert!(!lets_in(&registry, "127.0.0.1", 1) && !lets_in(&registry, "::1", 1));
    assert_eq!(registry.lookup("127.0.0.1".parse().unwrap()), []);
}

#[test]
fn the_most_specific_network_decides_alone() {
    let registry = MemoryRegistry::new();
    registry.add(place("0.0.0.0/0"), key(0));
    registry.add(place("10.0.0.0/8"), key(8));
    registry.add(place("10.1.0.0/16"), key(16));
    registry.add(place("10.1.2.3"), key(32));
    for (address, n) in [("10.1.2.3", 32), ("10.1.2.4", 16), ("10.2.0.1", 8), ("11.0.0.1", 0)] {
        for other in [0, 8, 16, 32] {
            assert_eq!(lets_in(&registry, address, other), other == n, "key {other} from {address}");
        }
        assert_eq!(registry.lookup(address.parse().unwrap()), [key(n)]);
    }
    registry.remove(place("10.1.2.3"), &key(32)).unwrap();
    assert!(lets_in(&registry, "10.1.2.3", 16), "the next wider network decides again");
}

#[test]
fn an_address_may_have_several_keys_in_ascending_order() {
    let registry = MemoryRegistry::new();
    for n in [3, 1, 2, 1] {
        registry.add(place("192.0.2.7"), key(n));
    }
    assert_eq!(registry.lookup("192.0.2.7".parse().unwrap()), [key(1), key(2), key(3)]);
    assert_eq!(registry.remove(place("192.0.2.7"), &key(1)), Ok(()));
    assert_eq!(registry.lookup("192.0.2.7".parse().unwrap()), [key(2), key(3)]);
}

#[test]
fn what_was_not_added_is_not_found() {
    let registry = MemoryRegistry::new();
    registry.add(place("10.0.0.0/8"), key(1));
    for (text, n) in [("10.0.0.0/8", 2), ("10.0.0.0/9", 1), ("10.0.0.1", 1), ("::/0", 1)] {
        assert_eq!(registry.remove(place(text), &key(n)), Err(Error::NotFound));
    }
    assert_eq!(registry.remove(place("10.0.0.0/8"), &key(1)), Ok(()));
    assert_eq!(registry.remove(place("10.0.0.0/8"), &key(1)), Err(Error::NotFound));
}

#[test]
fn a_mapped_address_is_the_ipv4_address() {
    let registry = MemoryRegistry::new();
    registry.add(place("192.0.2.7"), key(1));
    registry.add(place("::ffff:198.51.100.0/120"), key(2));
    assert!(lets_in(&registry, "::ffff:192.0.2.7", 1) && lets_in(&registry, "192.0.2.7", 1));
    assert!(lets_in(&registry, "::ffff:198.51.100.9", 2) && lets_in(&registry, "198.51.100.9", 2));
    assert_eq!(registry.remove(place("::ffff:192.0.2.7"), &key(1)), Ok(()));
    assert!(!lets_in(&registry, "192.0.2.7", 1));
}

#[test]
fn all_of_ipv6_is_not_ipv4_and_anywhere_is_both() {
    let registry = MemoryRegistry::new();
    registry.add(place("::/0"), key(6));
    registry.add(place("0.0.0.0/0"), key(4));
    registry.add_anywhere(key(9));
    for (address, n) in [("2001:db8::7", 6), ("192.0.2.7", 4), ("::ffff:192.0.2.7", 4)] {
        for other in [4, 6] {
            assert_eq!(lets_in(&registry, address, other), other == n, "key {other} from {address}");
        }
        assert!(lets_in(&registry, address, 9));
    }
}

#[test]
fn a_network_prints_as_its_shortest_text() {
    for (text, canonical) in [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8:0:0:0:0:0:7", "2001:db8::7"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("2001:db8::7/128", "2001:db8::7"),
        ("::/0", "::/0"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
    ] {
        assert_eq!(network(text).to_string(), canonical, "{text}");
        assert_eq!(network(canonical), network(text));
    }
    assert_eq!((network("10.0.0.0/8").prefix(), network("10.0.0.0/8").is_ipv4()), (8, true));
    assert_eq!((network("2001:db8::7").prefix(), network("2001:db8::7").is_ipv4()), (128, false));
}

#[test]
fn a_text_that_is_not_a_network_is_refused() {
    for text in [
        "",
        " ",
        "/",
        "/8",
        "10",
        "10.0.0",
        "10.0.0.0.0",
        "256.0.0.1",
        "010.0.0.1",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "10.0.0.0/08",
        "10.0.0.0/8 ",
        " 10.0.0.0/8",
        "10.0.0.0/8/8",
        "10.0.0.0/256",
        "10.0.0.0/264",
        "10.0.0.1/8",
        "10.0.0.0/٨",
        "::/129",
        "2001:db8::7/64",
        "2001:db8::/ 32",
        "fe80::1%eth0",
        "[::1]",
        "::1]",
        "localhost",
        "10.0.0.0:80",
        "::ffff:0:0/95",
        "::ffff:192.0.2.7/119",
        "10.0.0.0\0",
    ] {
        assert_eq!(text.parse::<Network>(), Err(Error::BadAddress), "{text:?}");
    }
}

#[test]
fn entries_change_while_others_look_them_up() {
    let registry = MemoryRegistry::new();
    registry.add(place("10.0.0.0/8"), key(1));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2000 {
                registry.add(place("10.1.0.0/16"), key(2));
                registry.remove(place("10.1.0.0/16"), &key(2)).unwrap();
            }
        });
        for _ in 0..2000 {
            let keys = registry.lookup("10.1.0.1".parse().unwrap());
            assert!(keys == [key(1)] || keys == [key(2)]);
        }
    });
}

/// Addresses that differ in a few bits, so that networks overlap.
fn address() -> impl Strategy<Value = IpAddr> {
    let few = prop_oneof![Just(0u32), Just(0x8000_0000), Just(0x0a00_0000), 0u32..4, Just(u32::MAX)];
    (few, 0u32..4, 0..3).prop_map(|(high, low, family)| match family {
        0 => IpAddr::V4(Ipv4Addr::from_bits(high | low)),
        1 => IpAddr::V6(Ipv4Addr::from_bits(high | low).to_ipv6_mapped()),
        _ => IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 96 | u128::from(low))),
    })
}

/// All bits of an address, in its own family.
fn bits(address: IpAddr) -> (bool, Vec<bool>) {
    match address.to_canonical() {
        IpAddr::V4(a) => (true, (0..32).rev().map(|n| a.to_bits() >> n & 1 == 1).collect()),
        IpAddr::V6(a) => (false, (0..128).rev().map(|n| a.to_bits() >> n & 1 == 1).collect()),
    }
}

/// The network of `address` with the prefix length limited to its width.
fn around(address: IpAddr, prefix: u8) -> Network {
    let (v4, mut bits) = bits(address);
    let prefix = prefix.min(bits.len() as u8);
    bits[usize::from(prefix)..].fill(false);
    let value = bits.iter().fold(0u128, |value, bit| value << 1 | u128::from(*bit));
    let address =
        if v4 { Ipv4Addr::from_bits(value as u32).into() } else { Ipv6Addr::from_bits(value).into() };
    // An address that happens to look mapped is IPv4, and has networks only from /96 on.
    Network::new(address, prefix).unwrap_or_else(|_| address.into())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_registry_agrees_with_a_list_searched_from_end_to_end(
        changes in prop::collection::vec((any::<bool>(), address(), 0u8..=128, 0u8..4), 0..30),
        questions in prop::collection::vec((address(), 0u8..4), 1..20),
    ) {
        let registry = MemoryRegistry::new();
        let mut list: Vec<(Network, PublicKey)> = Vec::new();
        for (add, address, prefix, n) in changes {
            let entry = (around(address, prefix), key(n));
            let at = list.iter().position(|e| *e == entry);
            if add {
                registry.add(entry.0.into(), entry.1);
                if at.is_none() {
                    list.push(entry);
                }
            } else {
                let removed = registry.remove(entry.0.into(), &entry.1);
                prop_assert_eq!(removed.is_ok(), at.is_some());
                at.map(|at| list.remove(at));
            }
        }
        for (address, n) in questions {
            let (v4, asked) = bits(address);
            let holds = |network: &Network| {
                let (base, prefix) = (network.to_string(), usize::from(network.prefix()));
                let base: IpAddr = base.split('/').next().unwrap().parse().unwrap();
                network.is_ipv4() == v4 && bits(base).1[..prefix] == asked[..prefix]
            };
            let best = list.iter().filter(|e| holds(&e.0)).map(|e| e.0.prefix()).max();
            let mut keys: Vec<_> = list
                .iter()
                .filter(|e| holds(&e.0) && Some(e.0.prefix()) == best)
                .map(|e| e.1)
                .collect();
            keys.sort_unstable();
            prop_assert_eq!(registry.lookup(address), keys.clone());
            let candidate = Candidate::new(address, key(n));
            prop_assert_eq!(registry.verify(&candidate), Ok(keys.contains(&key(n))));
        }
    }

    #[test]
    fn a_networks_text_is_that_network(address in address(), prefix in 0u8..=128) {
        let network = around(address, prefix);
        prop_assert_eq!(network.to_string().parse(), Ok(network));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[0-9a-f:./%+ -]{0,50}") {
        if let Ok(network) = text.parse::<Network>() {
            prop_assert_eq!(network.to_string().parse(), Ok(network));
        }
    }
}
