//! The suite that every kind of registry passes.

use curve_tun::PublicKey;
use curve_tun::registry::{Candidate, Registry};
use std::net::IpAddr;
use std::sync::Arc;

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A public key whose secret nobody needs.
pub fn key(number: u8) -> PublicKey {
    let mut bytes = [number; 32];
    bytes[0] = 9;
    PublicKey(bytes)
}

/// Different keys.
pub fn keys<const N: usize>() -> [PublicKey; N] {
    std::array::from_fn(|i| key(i as u8))
}

/// Addresses and keys that reveal mistakes: IPv4, IPv6, several keys at one address, one key at
/// several.
fn entries() -> Vec<(IpAddr, PublicKey)> {
    let [a, b, c] = keys();
    vec![
        (ip("127.0.0.1"), a),
        (ip("192.0.2.7"), a),
        (ip("192.0.2.8"), b),
        (ip("192.0.2.8"), c),
        (ip("2001:db8::7"), b),
    ]
}

/// Runs the suite. `make` returns a registry of exactly these entries.
pub fn suite(make: impl Fn(&[(IpAddr, PublicKey)]) -> Arc<dyn Registry>) {
    let entries = entries();
    let registry = make(&entries);
    let addresses = ["127.0.0.1", "192.0.2.7", "192.0.2.8", "192.0.2.9", "2001:db8::7", "2001:db8::8", "::1"];
    for address in addresses.map(ip) {
        for key in keys::<4>() {
            let admitted = registry.verify(&Candidate::new(address, key)).unwrap();
            assert_eq!(admitted, entries.contains(&(address, key)), "{address} {key}");
        }
    }
    let [a, ..] = keys::<4>();
    let empty = make(&[]);
    assert!(!empty.verify(&Candidate::new(ip("127.0.0.1"), a)).unwrap(), "an empty registry lets nobody in");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for (address, key) in &entries {
                    assert!(registry.verify(&Candidate::new(*address, *key)).unwrap());
                }
            });
        }
    });
}
