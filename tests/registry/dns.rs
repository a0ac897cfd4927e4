//! Keys in DNS, looked up on a real server with signed zones.

use crate::support::dns::{SOON, admits, labels, open, options, record, serve, server_keys, signed};
use crate::support::knot::{Knot, Signed, Zone};
use crate::support::registry::{ip, keys, suite};
use curve_tun::Error;
use curve_tun::connection::Options;
use curve_tun::net::{Connector, Listener, TimedServer};
use curve_tun::registry::{Candidate, DnsOptions, DnsRegistry, Registry};
use curve_tun::vault::{MemoryVault, Vault};
use std::cell::RefCell;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// Returns how many threads of this process wait for the answer to a question.
fn threads_that_ask() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // One may have ended since it was listed.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("curve_tun-bloc")).count()
}

#[test]
fn the_registry_in_dns_passes_the_suite() {
    let servers = RefCell::new(Vec::new());
    suite(|entries| {
        let text = entries.iter().map(|(address, key)| record(&labels(*address), *key)).collect();
        let knot = signed(text);
        let registry = Arc::new(open(&knot));
        servers.borrow_mut().push(knot);
        registry
    });
}

#[test]
fn clients_are_found_by_address_and_alias_each_proven() {
    let [a, b] = keys();
    let text = record("7.2.0.192.in-addr", a)
        + &record("1.2.0.192.in-addr", b)
        + &record("1.2.0.192.in-addr", a)
        + "9.2.0.192.in-addr CNAME 7.2.0.192.in-addr\n"
        + "8.2.0.192.in-addr TXT \"v=spf1 -all\"\n";
    for signed in [Signed::Nsec, Signed::Nsec3] {
        let knot = Knot::start(&[Zone { name: "test", text: text.clone(), signed }]);
        let registry = open(&knot);
        assert!(registry.deferred());
        for (address, admitted) in [
            ("192.0.2.7", vec![a]),
            ("::ffff:192.0.2.7", vec![a]),
            ("192.0.2.9", vec![a]),
            ("192.0.2.8", vec![]),
            ("192.0.2.1", vec![a.min(b), a.max(b)]),
            ("203.0.113.1", vec![]),
            ("2001:db8::1", vec![]),
        ] {
            for key in [a, b] {
                assert_eq!(admits(&registry, address, key), Ok(admitted.contains(&key)), "{address}");
            }
            let mut found = registry.lookup(ip(address), SOON).unwrap();
            found.sort_unstable();
            assert_eq!(found, admitted);
        }
    }
}

#[test]
fn a_wildcard_stands_for_a_network_of_clients() {
    let [a, b, server] = keys();
    let text = record("*.100.51.198.in-addr", a)
        + &record("7.100.51.198.in-addr", b)
        + &record("_curve_tun.8.100.51.198.in-addr", server);
    for signed in [Signed::Nsec, Signed::Nsec3] {
        let knot = serve(text.clone(), signed);
        let registry = open(&knot);
        for address in ["198.51.100.1", "198.51.100.200"] {
            assert_eq!(admits(&registry, address, a), Ok(true));
            assert_eq!(admits(&registry, address, b), Ok(false));
            let keys = server_keys(&registry, address, 1);
            assert_eq!(keys, Err(Error::NotFound), "none of its clients poses as a server");
        }
        assert_eq!(admits(&registry, "198.51.100.7", a), Ok(false), "a name of its own hides the wildcard");
        assert_eq!(admits(&registry, "198.51.101.1", a), Ok(false));
        assert_eq!(server_keys(&registry, "198.51.100.8", 1), Ok(vec![server]));
        assert_eq!(admits(&registry, "198.51.100.8", a), Ok(false), "a name below hides it, too");
        // The records to be published then.
        for more in
            [record("8.100.51.198.in-addr", a), "8.100.51.198.in-addr CNAME 1.100.51.198.in-addr\n".into()]
        {
            let knot = serve(text.clone() + &more, signed);
            let registry = open(&knot);
            assert_eq!(admits(&registry, "198.51.100.8", a), Ok(true), "{more}");
        }
    }
}

#[test]
fn servers_are_found_by_name_and_port() {
    let [a, b, c] = keys();
    let knot = signed(
        record("_curve_tun.db", a)
            + &format!("_curve_tun.db TXT \"v=ct1; p=7000;\" \" k={b}\"\n")
            + "_curve_tun.db TXT \"v=ct2; whatever\"\n"
            + &record(&format!("_curve_tun.{}", labels(ip("192.0.2.1"))), c),
    );
    let registry = open(&knot);
    assert_eq!(server_keys(&registry, "DB.test.", 7000), Ok(vec![a.min(b), a.max(b)]));
    assert_eq!(server_keys(&registry, "db.test", 7001), Ok(vec![a]));
    assert_eq!(server_keys(&registry, "192.0.2.1", 1), Ok(vec![c]));
    assert_eq!(server_keys(&registry, "other.test", 1), Err(Error::NotFound));
    assert_eq!(server_keys(&registry, "db.elsewhere", 1), Err(Error::NotFound), "not in the zone");
}

#[test]
fn a_zone_without_signatures_is_refused_unless_the_program_says_otherwise() {
    let [a] = keys();
    let records = || record("7.2.0.192.in-addr", a) + &record("_curve_tun.db", a);
    let knot = Knot::start(&[
        Zone { name: "test", text: "plain NS ns\n".into(), signed: Signed::Nsec },
        Zone { name: "plain.test", text: records(), signed: Signed::Not },
        Zone { name: "island", text: records(), signed: Signed::Not },
    ]);
    for zone in ["plain.test", "island"] {
        let registry = DnsRegistry::open(zone, &options(&knot)).unwrap();
        assert_eq!(admits(&registry, "192.0.2.7", a), Err(Error::NotValidated), "{zone}");
        let host = format!("db.{zone}");
        assert_eq!(server_keys(&registry, &host, 1), Err(Error::NotValidated), "{zone}");
        let options = options(&knot).allow_unvalidated(true);
        let registry = DnsRegistry::open(zone, &options).unwrap();
        assert_eq!(admits(&registry, "192.0.2.7", a), Ok(true));
        assert_eq!(admits(&registry, "192.0.2.8", a), Ok(false));
        assert_eq!(server_keys(&registry, &host, 1), Ok(vec![a]));
    }
}

#[test]
fn a_forged_record_under_a_good_signature_is_refused() {
    let [a, forged] = keys();
    let knot = signed(record("7.2.0.192.in-addr", a) + &record("8.2.0.192.in-addr", a));
    assert_eq!(admits(&open(&knot), "192.0.2.7", a), Ok(true));
    // The zone with its signatures, except for one record, from a server that signs nothing.
    let zone = knot.zone("test");
    let place = zone.find("7.2.0.192.in-addr").unwrap();
    let text = zone[..place].to_owned() + &zone[place..].replacen(&a.to_string(), &forged.to_string(), 1);
    assert_ne!(text, zone);
    let forger = Knot::start(&[Zone { name: "test", text, signed: Signed::Not }]);
    let options = options(&knot).servers(vec![forger.address()]);
    let registry = DnsRegistry::open("test", &options).unwrap();
    assert_eq!(admits(&registry, "192.0.2.8", a), Ok(true), "the rest of the zone is as it was");
    assert_eq!(admits(&registry, "192.0.2.7", forged), Err(Error::NotValidated));
    assert_eq!(admits(&registry, "192.0.2.7", a), Err(Error::NotValidated));
}

#[test]
fn a_zone_signed_by_others_keys_is_refused() {
    let [a] = keys();
    let (knot, other) = (signed(record("7.2.0.192.in-addr", a)), signed(String::new()));
    // Those of another zone of the same name, and those of the root, which this server does not
    // know.
    for trust_anchors in [Some(other.trust_anchors("test")), None] {
        let options = options(&knot).trust_anchors(trust_anchors);
        let registry = DnsRegistry::open("test", &options).unwrap();
        assert_eq!(admits(&registry, "192.0.2.7", a), Err(Error::NotValidated));
    }
}

#[test]
fn answers_hold_for_their_ttl_and_no_longer() {
    let [old, new] = keys();
    let with_ttl = |key| format!("7.2.0.192.in-addr 2 TXT \"v=ct1; k={key}\"\n");
    let knot = signed(with_ttl(old));
    let registry = open(&knot);
    assert_eq!(admits(&registry, "192.0.2.7", old), Ok(true));
    knot.change("test", &with_ttl(new), 2);
    let uncached = DnsRegistry::open("test", &options(&knot).cache_max(0)).unwrap();
    assert_eq!(admits(&uncached, "192.0.2.7", new), Ok(true));
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while admits(&registry, "192.0.2.7", new) != Ok(true) {
        assert!(std::time::Instant::now() < end);
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(admits(&registry, "192.0.2.7", old), Ok(false));
}

#[test]
fn a_held_answer_needs_no_server() {
    let [a] = keys();
    let knot = signed(record("7.2.0.192.in-addr", a));
    let options = options(&knot).timeout(Duration::from_millis(500));
    let registry = DnsRegistry::open("test", &options).unwrap();
    assert_eq!(admits(&registry, "192.0.2.7", a), Ok(true));
    drop(knot);
    assert_eq!(admits(&registry, "192.0.2.7", a), Ok(true));
    assert_eq!(admits(&registry, "192.0.2.8", a), Err(Error::RegistryFailed), "nobody is there to ask");
}

#[test]
fn no_more_answers_are_held_than_there_is_room_for() {
    let [a, b] = keys();
    let knot = signed(record("7.2.0.192.in-addr", a) + &record("8.2.0.192.in-addr", b));
    let options = options(&knot).timeout(Duration::from_millis(500)).cache_max(1);
    let registry = DnsRegistry::open("test", &options).unwrap();
    assert_eq!(admits(&registry, "192.0.2.7", a), Ok(true));
    assert_eq!(admits(&registry, "192.0.2.8", b), Ok(true));
    drop(knot);
    assert_eq!(admits(&registry, "192.0.2.8", b), Ok(true), "the last one is held");
    assert_eq!(admits(&registry, "192.0.2.7", a), Err(Error::RegistryFailed), "the one before gave way");
}

#[test]
fn answers_come_later_or_are_known() {
    let [a, b] = keys();
    let knot = signed(record("7.2.0.192.in-addr", a) + &record("_curve_tun.db", b));
    let registry = open(&knot);
    let (here, patience) = (thread::current().id(), Duration::from_secs(20));
    let (tell, told) = mpsc::channel();
    let candidate = Candidate::new(ip("192.0.2.7"), a);
    let teller = tell.clone();
    let verdict = registry
        .verify_then(&candidate, move |verdict| teller.send((verdict, thread::current().id())).unwrap());
    assert_eq!(verdict, None);
    let (verdict, thread) = told.recv_timeout(patience).unwrap();
    assert_eq!(verdict, Ok(true));
    assert_ne!(thread, here);
    let nobody = |_| panic!("it is known");
    assert_eq!(registry.verify_then(&candidate, nobody), Some(Ok(true)));
    assert_eq!(registry.verify_then(&Candidate::new(ip("192.0.2.7"), b), nobody), Some(Ok(false)));
    assert_eq!(registry.lookup_then(ip("192.0.2.7"), SOON, |_| panic!("it is known")), Some(Ok(vec![a])));

    let (tell, told) = mpsc::channel();
    let name = |text: &str| text.parse().unwrap();
    for (server, expected) in [("[db.test]:7", Ok(vec![b])), ("[none.test]:7", Err(Error::NotFound))] {
        let tell = tell.clone();
        let asked = registry.server_keys_then(&name(server), SOON, move |keys| tell.send(keys).unwrap());
        assert_eq!(asked, None);
        assert_eq!(told.recv_timeout(patience), Ok(expected.clone()));
        assert_eq!(registry.server_keys_then(&name(server), SOON, |_| panic!("it is known")), Some(expected));
    }
    let outside = registry.server_keys_then(&name("[db.elsewhere]:7"), SOON, |_| panic!("it is outside"));
    assert_eq!(outside, Some(Err(Error::NotFound)));
}

/// A name server that never answers, and a registry that asks it.
fn silent(timeout_ms: u64) -> (UdpSocket, Option<TcpListener>, DnsRegistry) {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind(udp.local_addr().unwrap()).ok();
    let servers = vec![udp.local_addr().unwrap()];
    let options = DnsOptions::default()
        .servers(servers)
        .timeout(Duration::from_millis(timeout_ms))
        .allow_unvalidated(true);
    (udp, tcp, DnsRegistry::open("test", &options).unwrap())
}

#[test]
fn beyond_what_is_asked_and_waits_clients_are_refused_at_once() {
    let [key] = keys();
    let (_udp, _tcp, registry) = silent(3_600_000);
    let (tell, told) = mpsc::channel();
    let client = |number: u32| Candidate::new(IpAddr::V4(number.into()), key);
    // 256 are looked up and 1,024 wait.
    for number in 0..1280 {
        let tell = tell.clone();
        let asked =
            registry.verify_then(&client(number), move |verdict| tell.send((number, verdict)).unwrap());
        assert_eq!(asked, None);
    }
    let refused = registry.verify_then(&client(1280), |_| panic!("it was not asked"));
    assert_eq!(refused, Some(Err(Error::RegistryFailed)));
    assert_eq!(registry.verify(&client(1280)), Err(Error::RegistryFailed));
    // Each gets one answer, even if the registry ends before DNS has answered.
    drop((registry, tell));
    let mut told: Vec<_> = told.iter().collect();
    told.sort_unstable_by_key(|(number, _)| *number);
    assert_eq!(told, (0..1280).map(|number| (number, Err(Error::RegistryFailed))).collect::<Vec<_>>());
}

#[test]
fn those_that_wait_for_a_silent_name_server_are_told_in_time() {
    let [key] = keys();
    let (_udp, _tcp, registry) = silent(500);
    let (tell, told) = mpsc::channel();
    for number in 0..1280_u32 {
        let tell = tell.clone();
        let candidate = Candidate::new(IpAddr::V4(number.into()), key);
        assert_eq!(registry.verify_then(&candidate, move |verdict| tell.send(verdict).unwrap()), None);
    }
    for _ in 0..1280 {
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(Err(Error::RegistryFailed)));
    }
    // Their places are free again.
    let candidate = Candidate::new(ip("192.0.2.7"), key);
    assert_eq!(registry.verify_then(&candidate, move |verdict| tell.send(verdict).unwrap()), None);
}

#[test]
fn whoever_is_told_may_let_go_of_the_registry() {
    let [key] = keys();
    let (_udp, _tcp, registry) = silent(200);
    let registry = Arc::new(registry);
    let (tell, told) = mpsc::channel();
    let last = registry.clone();
    let candidate = Candidate::new(ip("192.0.2.7"), key);
    let asked = registry.verify_then(&candidate, move |verdict| {
        // The caller's reference has been dropped by then.
        while Arc::strong_count(&last) > 1 {
            thread::yield_now();
        }
        drop(last);
        tell.send(verdict).unwrap();
    });
    assert_eq!(asked, None);
    drop(registry);
    assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(Err(Error::RegistryFailed)));
}

#[test]
fn a_silent_name_server_is_asked_about_many_clients_at_once_and_takes_no_thread() {
    let (_udp, _tcp, registry) = silent(3_600_000);
    let registry = Arc::new(registry);
    let quick = registry.lookup(ip("192.0.2.7"), Some(Duration::from_millis(20)));
    assert_eq!(quick, Err(Error::Timeout));
    let vault = Arc::new(MemoryVault::generate().unwrap());
    let key = vault.public_key();
    let options = Options::default().handshake_timeout(Duration::from_secs(3600));
    let server = TimedServer::new(vault, registry, options.clone()).unwrap();
    let listener = Listener::bind("127.0.0.1", 0, server).unwrap();
    let client = Arc::new(MemoryVault::generate().unwrap());
    let (threads, ends) = thread::scope(|scope| {
        scope.spawn(|| while !matches!(listener.accept(None), Err(Error::Closed)) {});
        let port = listener.port();
        // The clients are connected as soon as their vouch is sent; the registry decides after
        // that.
        let sockets = [(); 60].map(|()| {
            Connector::new(client.clone())
                .server_key(key)
                .options(options.clone())
                .timeout(SOON)
                .connect("127.0.0.1", port)
        });
        let threads = threads_that_ask();
        listener.shutdown();
        (threads, sockets.map(|socket| socket.and_then(|socket| socket.recv(&mut [0; 1], SOON))))
    });
    assert_eq!(threads, 0);
    assert_eq!(ends, [Err(Error::Closed); 60]);
}

#[test]
fn a_tunnel_from_keys_in_dns_alone() {
    let (client, vault) =
        (Arc::new(MemoryVault::generate().unwrap()), Arc::new(MemoryVault::generate().unwrap()));
    let [stale] = keys();
    let key = vault.public_key();
    let home = format!("_curve_tun.{}", labels(ip("127.0.0.1")));
    let knot = signed(
        record(&labels(ip("127.0.0.1")), client.public_key()) + &record(&home, key) + &record(&home, stale),
    );
    let registry = Arc::new(open(&knot));
    let server = TimedServer::new(vault, registry.clone(), Options::default()).unwrap();
    let listener = Listener::bind("127.0.0.1", 0, server).unwrap();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| listener.accept(SOON).unwrap());
        let (port, options) = (listener.port(), Options::default());
        let socket = Connector::new(client)
            .server_keys(&*registry)
            .options(options.clone())
            .timeout(SOON)
            .connect("127.0.0.1", port)
            .unwrap();
        assert_eq!(socket.peer_key(), Ok(key));
        socket.send(b"by name", SOON).unwrap();
        let end = accepting.join().unwrap();
        assert_eq!(end.recv_with(SOON, |message| Ok(message.to_vec())), Ok(b"by name".to_vec()));
    });
}

#[test]
fn what_cannot_be_used_is_said_when_it_is_opened() {
    let options = DnsOptions::default().servers(vec!["127.0.0.1:9".parse().unwrap()]);
    let open = |zone: &str, options| DnsRegistry::open(zone, &options).err();
    assert_eq!(open("test", options.clone()), None);
    assert_eq!(open("a..b", options.clone()), Some(Error::InvalidArgument));
    let anchors = options.clone().trust_anchors(Some("what is this".into()));
    assert_eq!(open("test", anchors), Some(Error::InvalidArgument));
    for timeout_ms in [0, 3_600_001] {
        let options = options.clone().timeout(Duration::from_millis(timeout_ms));
        assert_eq!(open("test", options), Some(Error::InvalidArgument));
    }
}
