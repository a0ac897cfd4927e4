//! The behaviour common to all registries, and the registry in memory.

use crate::support::registry::{ip, key, keys, suite};
use curve_tun::connection::{Connection, ConnectionState, Options, Server};
use curve_tun::registry::{Candidate, MemoryRegistry, Network, Place, Registry};
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{Error, PublicKey};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

#[test]
fn the_registry_in_memory_passes_the_suite() {
    suite(|entries| {
        let registry = MemoryRegistry::new();
        entries.iter().for_each(|(address, key)| registry.add((*address).into(), *key));
        Arc::new(registry)
    });
}

/// A custom registry.
struct Custom<F>(bool, F);

impl<F: Fn(&Candidate) -> Result<bool, Error> + Send + Sync> Registry for Custom<F> {
    fn verify(&self, candidate: &Candidate) -> Result<bool, Error> {
        (self.1)(candidate)
    }

    fn deferred(&self) -> bool {
        self.0
    }
}

#[test]
fn a_registry_of_the_programs_own_passes_the_suite_now_and_later() {
    for deferred in [false, true] {
        suite(|entries| {
            let entries = entries.to_vec();
            Arc::new(Custom(deferred, move |c: &Candidate| Ok(entries.contains(&(c.address, c.key)))))
        });
    }
}

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// A handshake of a client with `vault` from [`HOME`] with a server of `registry`.
fn handshake(registry: Arc<dyn Registry>, vault: Arc<MemoryVault>, options: Options) -> Result<(), Error> {
    let server_vault = Arc::new(MemoryVault::generate().unwrap());
    let server = Server::new(server_vault.clone(), registry.clone(), options.clone(), 0).unwrap();
    let mut client = Connection::client(vault, server_vault.public_key(), &options).unwrap();
    let mut end = Connection::server(&server, HOME).unwrap();
    while end.state() != ConnectionState::Connected {
        if let Some(request) = end.request() {
            end.answer(request.perform(&*server_vault, &*registry))?;
        }
        let said = client.send_buffer().len();
        assert_eq!(end.feed(client.send_buffer())?, said);
        client.sent(said);
        let said = end.send_buffer().len();
        assert_eq!(client.feed(end.send_buffer())?, said);
        end.sent(said);
    }
    Ok(())
}

#[test]
fn a_registry_is_told_address_key_and_listener_now_and_later() {
    let client = Arc::new(MemoryVault::generate().unwrap());
    for deferred in [false, true] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = told.clone();
        let registry = Custom(deferred, move |candidate: &Candidate| {
            tell.lock().unwrap().push(candidate.clone());
            Ok(&*candidate.listener == "front door")
        });
        let registry: Arc<dyn Registry> = Arc::new(registry);
        let named = Options::default().listener("front door".into());
        handshake(registry.clone(), client.clone(), named).unwrap();
        let refused = handshake(registry, client.clone(), Options::default());
        assert_eq!(refused, Err(Error::UnknownPeer));
        let candidate = Candidate::new(HOME, client.public_key());
        assert_eq!(*told.lock().unwrap(), [candidate.clone().at("front door"), candidate]);
    }
}

#[test]
fn a_registry_that_fails_lets_nobody_in() {
    for deferred in [false, true] {
        let registry = Arc::new(Custom(deferred, |_: &Candidate| Err(Error::RegistryFailed)));
        let client = Arc::new(MemoryVault::generate().unwrap());
        assert_eq!(handshake(registry, client, Options::default()), Err(Error::RegistryFailed));
    }
}

#[test]
fn the_name_of_a_listener_has_bounds() {
    let vault = Arc::new(MemoryVault::generate().unwrap());
    for (name, ok) in [("x".repeat(255), true), ("x".repeat(256), false), ("a\nb".to_owned(), false)] {
        let options = Options::default().listener(name.into());
        let server = Server::new(vault.clone(), Arc::new(MemoryRegistry::new()), options, 0);
        assert_eq!(server.err(), if ok { None } else { Some(Error::InvalidArgument) });
    }
}

fn admits(registry: &MemoryRegistry, address: &str, key: PublicKey) -> bool {
    registry.verify(&Candidate::new(ip(address), key)).unwrap()
}

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

#[test]
fn a_key_from_anywhere_comes_in_also_where_a_network_has_entries() {
    let [roaming, local] = keys();
    let registry = MemoryRegistry::new();
    registry.add(Place::Anywhere, roaming);
    registry.add(place("192.0.2.0/24"), local);
    for address in ["192.0.2.1", "198.51.100.1", "2001:db8::1"] {
        assert!(admits(&registry, address, roaming), "{address}");
    }
    assert_eq!(registry.lookup(ip("192.0.2.1")), { [roaming.min(local), roaming.max(local)] });
    assert_eq!(registry.lookup(ip("198.51.100.1")), [roaming]);
    registry.remove(Place::Anywhere, &roaming).unwrap();
    assert!(!admits(&registry, "192.0.2.1", roaming));
}

#[test]
fn a_denied_key_comes_in_from_nowhere() {
    let [lost] = keys();
    let registry = MemoryRegistry::new();
    registry.add(Place::Nowhere, lost);
    registry.add_anywhere(lost);
    registry.add(place("192.0.2.1"), lost);
    assert!(!admits(&registry, "192.0.2.1", lost) && !admits(&registry, "2001:db8::1", lost));
    assert_eq!(registry.lookup(ip("192.0.2.1")), []);
    registry.remove(Place::Nowhere, &lost).unwrap();
    assert!(admits(&registry, "192.0.2.1", lost));
}

#[test]
fn entries_are_counted_once_and_given_back() {
    let [one, two] = keys();
    let registry = MemoryRegistry::new();
    assert!(registry.is_empty());
    for key in [one, two, one] {
        registry.add(place("2001:db8::/32"), key);
        registry.add(place("*"), key);
        registry.add(place("!"), key);
    }
    assert_eq!(registry.len(), 6);
    for key in [one, two] {
        for text in ["2001:db8::/32", "*", "!"] {
            registry.remove(place(text), &key).unwrap();
        }
    }
    assert!(registry.is_empty());
    assert!(!admits(&registry, "2001:db8::1", one));
}

#[test]
fn a_place_has_one_text() {
    for text in ["*", "!", "192.0.2.7", "192.0.2.0/24", "0.0.0.0/0", "::/0", "2001:db8::7", "2001:db8::/32"] {
        assert_eq!(place(text).to_string(), text);
    }
    assert_eq!(place("::ffff:192.0.2.0/120"), place("192.0.2.0/24"));
    for text in ["", "**", "! ", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/+8", "1.2.3", "host", "::/129"] {
        assert_eq!(text.parse::<Place>(), Err(Error::BadAddress), "{text:?}");
    }
}

/// Many networks of every length, checked against a linear search through all of them.
#[test]
fn the_index_decides_as_a_search_through_all_entries_does() {
    let mut random = 1u32;
    let mut next = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random >> 8
    };
    let networks: Vec<(u32, u8, PublicKey)> = (0..3000)
        .map(|_| {
            let length = (next() % 33) as u8;
            let bits = (next() << 12) & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            (bits, length, key(next() as u8 % 8))
        })
        .collect();
    let entry = |(bits, length, key): &(u32, u8, PublicKey)| {
        let network = Network::new(IpAddr::V4((*bits).into()), *length).unwrap();
        (Place::from(network), *key)
    };
    let built: MemoryRegistry = networks.iter().map(entry).collect();
    let grown = MemoryRegistry::new();
    networks.iter().map(entry).for_each(|(place, key)| grown.add(place, key));
    assert_eq!(built.len(), grown.len());
    for _ in 0..2000 {
        let address = next() << 12;
        let holds = |length: u8| address & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let here = networks.iter().filter(|(bits, length, _)| holds(*length) == *bits);
        let longest = here.clone().map(|(_, length, _)| *length).max();
        let mut expected: Vec<_> =
            here.filter(|(_, length, _)| Some(*length) == longest).map(|(.., key)| *key).collect();
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(built.lookup(IpAddr::V4(address.into())), expected);
        assert_eq!(grown.lookup(IpAddr::V4(address.into())), expected);
    }
}
