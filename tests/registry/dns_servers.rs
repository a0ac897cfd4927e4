//! Keys in DNS, looked up on the name servers that the system currently has.
//!
//! The test runs itself again with its own loopback, port 53 and `/etc/resolv.conf`.
#![cfg(target_os = "linux")]

use crate::support::dns::{admits, options, record};
use crate::support::full_name;
use crate::support::knot::{Knot, Signed, Zone};
use crate::support::registry::keys;
use curve_tun::Error;
use curve_tun::registry::DnsRegistry;
use std::process::Command;

/// Set in the isolated process, to the file that is its `/etc/resolv.conf`.
const ALONE: &str = "CURVE_TUN_RESOLV_CONF";
const TEST: &str = "the_name_servers_are_those_of_the_system_at_the_time";

fn alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, "").unwrap();
    let script = "ip link set lo up && mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c", script]).arg(&file);
    again.arg(std::env::current_exe().unwrap());
    again.args(["--exact", &full_name(module_path!(), TEST), "--nocapture"]).env(ALONE, &file);
    let output = again.output().expect("util-linux has unshare");
    assert!(output.status.success(), "{output:?}: this needs namespaces, and ip of iproute2");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[test]
fn the_name_servers_are_those_of_the_system_at_the_time() {
    let Some(file) = std::env::var_os(ALONE) else { return alone() };
    let keys: [_; 2] = keys();
    let knots = [("127.0.0.1", keys[0]), ("127.0.0.2", keys[1])].map(|(address, key)| {
        let text = record("7.2.0.192.in-addr", key);
        Knot::start_at(address, &[Zone { name: "test", text, signed: Signed::Nsec }])
    });
    let trust_anchors = Some(knots.each_ref().map(|knot| knot.trust_anchors("test")).concat());
    let options = options(&knots[0]).servers(Vec::new()).trust_anchors(trust_anchors).cache_max(0);
    let open = || DnsRegistry::open("test", &options);
    assert_eq!(open().err(), Some(Error::RegistryFailed), "nobody is there to ask");

    let odd = b"# of a network that means well\nsearch -- a..b \xff .\ndomain ..\nsearch\nnameserver\n\
        nameserver here\noptions x\nnameserver 127.0.0.1 # the one\n";
    std::fs::write(&file, odd).unwrap();
    let registry = open().unwrap();
    let admitted = |number: usize| {
        let verdicts = keys.map(|key| admits(&registry, "192.0.2.7", key));
        let mut expected = [Ok(false), Ok(false)];
        expected[number] = Ok(true);
        assert_eq!(verdicts, expected);
    };
    admitted(0);
    std::fs::write(&file, "nameserver 127.0.0.2\n").unwrap();
    admitted(1);
    // A file without servers is one that is just being written.
    for text in ["", "# soon\nsearch test\n"] {
        std::fs::write(&file, text).unwrap();
        admitted(1);
    }
    std::fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
    admitted(0);
}
