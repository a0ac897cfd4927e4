//! Keys in DNS, looked up by many at once: a name is queried once, and takes one place.

use crate::support::dns::{PATIENCE, SOON, is_for, middle, options, record, signed};
use crate::support::registry::{ip, keys};
use curve_tun::Error;
use curve_tun::registry::{Candidate, DnsOptions, DnsRegistry};
use hickory_resolver::proto::rr::RecordType;
use std::collections::HashSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

const ADDRESS: &str = "192.0.2.7";
const NAME: &str = "7.2.0.192.in-addr.test.";

#[test]
fn an_address_whose_name_is_slow_takes_one_place() {
    let [key] = keys();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let options = DnsOptions::default()
        .servers(vec![silent.local_addr().unwrap()])
        .timeout(Duration::from_secs(3600))
        .allow_unvalidated(true);
    let registry = DnsRegistry::open("test", &options).unwrap();
    let (tell, told) = mpsc::channel();
    let ask = |address: IpAddr| {
        let tell = tell.clone();
        registry.verify_then(&Candidate::new(address, key), move |verdict| tell.send(verdict).unwrap())
    };
    // 1,024 wait for one name, which affects no other name.
    for _ in 0..1024 {
        assert_eq!(ask(ip(ADDRESS)), None);
    }
    assert_eq!(ask(ip(ADDRESS)), Some(Err(Error::RegistryFailed)));
    for number in 1..1280_u32 {
        assert_eq!(ask(IpAddr::V4(number.into())), None, "{number}");
    }
    assert_eq!(ask(IpAddr::V4(1280.into())), Some(Err(Error::RegistryFailed)));
    assert_eq!(ask(IpAddr::V4(1279.into())), None, "a name that is asked for takes no further place");
    drop((registry, tell));
    let told: Vec<_> = told.iter().collect();
    assert_eq!(told, [Err(Error::RegistryFailed); 1024 + 1280], "each is told once");
}

#[test]
fn a_network_of_slow_names_leaves_places_to_others() {
    let [key] = keys();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let options = DnsOptions::default()
        .servers(vec![silent.local_addr().unwrap()])
        .timeout(Duration::from_secs(3600))
        .allow_unvalidated(true);
    let registry = DnsRegistry::open("test", &options).unwrap();
    let ask = |network: u128, host: u128| {
        let address = IpAddr::V6((0x2001_0db8 << 96 | network << 64 | host).into());
        registry.verify_then(&Candidate::new(address, key), |_| ())
    };
    for host in 0..64 {
        assert_eq!(ask(0, host), None, "{host}");
    }
    assert_eq!(ask(0, 64), Some(Err(Error::RegistryFailed)), "a quarter of what is asked for at once");
    assert_eq!(ask(0, 63), None, "a name that is asked for takes no further place");
    for network in 1..=1024 {
        assert_eq!(ask(network, 0), None, "{network}");
    }
}

#[test]
fn those_who_ask_for_one_name_are_told_its_one_answer() {
    let [key, other] = keys();
    let knot = signed(record("7.2.0.192.in-addr", key));
    let (open, gate) = mpsc::channel::<()>();
    let questions = Arc::new(Mutex::new(HashSet::new()));
    let seen = questions.clone();
    let server = middle(knot.address(), move |message| {
        if is_for(message, NAME, RecordType::TXT) {
            // A repeated query has the same number.
            seen.lock().unwrap().insert(message.metadata.id);
            // It is open once the sender is dropped.
            let _ = gate.recv();
        }
        true
    });
    let options = options(&knot).servers(vec![server]).cache_max(0);
    let registry = DnsRegistry::open("test", &options).unwrap();
    let (tell, told) = mpsc::channel();
    let ask = |key| {
        let tell = tell.clone();
        let asked = registry.verify_then(&Candidate::new(ip(ADDRESS), key), move |verdict| {
            tell.send(verdict).unwrap();
        });
        assert_eq!(asked, None);
    };
    for _ in 0..100 {
        ask(key);
        ask(other);
    }
    // Callers that give up early are told so, and the others continue to wait.
    for timeout in [1, 20] {
        let timeout = Some(Duration::from_millis(timeout));
        assert_eq!(registry.lookup(ip(ADDRESS), timeout), Err(Error::Timeout));
    }
    ask(key);
    let (keys, found) = mpsc::channel();
    assert_eq!(registry.lookup_then(ip(ADDRESS), SOON, move |found| keys.send(found).unwrap()), None);
    assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));
    drop(open);
    let told: Vec<_> = (0..201).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(told.iter().filter(|verdict| **verdict == Ok(true)).count(), 101);
    assert_eq!(told.iter().filter(|verdict| **verdict == Ok(false)).count(), 100);
    assert_eq!(found.recv_timeout(PATIENCE), Ok(Ok(vec![key])));
    assert_eq!(questions.lock().unwrap().len(), 1, "it was asked for once");
    // Now it is queried again, since this registry caches nothing.
    assert_eq!(registry.lookup(ip(ADDRESS), SOON), Ok(vec![key]));
    assert_eq!(questions.lock().unwrap().len(), 2);
}

#[test]
fn a_panic_of_one_who_is_told_keeps_nothing_from_the_others() {
    let [key] = keys();
    let knot = signed(record("7.2.0.192.in-addr", key));
    let (open, gate) = mpsc::channel::<()>();
    let server = middle(knot.address(), move |message| {
        if is_for(message, NAME, RecordType::TXT) {
            let _ = gate.recv();
        }
        true
    });
    let options = options(&knot).servers(vec![server]).cache_max(0);
    let registry = DnsRegistry::open("test", &options).unwrap();
    let candidate = Candidate::new(ip(ADDRESS), key);
    assert_eq!(registry.verify_then(&candidate, |_| panic!("as it was meant to")), None);
    let (tell, told) = mpsc::channel();
    assert_eq!(registry.verify_then(&candidate, move |verdict| tell.send(verdict).unwrap()), None);
    drop(open);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Ok(true)));
    assert_eq!(registry.lookup(ip(ADDRESS), SOON), Ok(vec![key]));
}
