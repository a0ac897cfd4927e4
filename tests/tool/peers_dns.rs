//! `curve-tun peers check --dns`: testing a zone.

#[allow(dead_code, reason = "each test file uses its part")]
use crate::support::knot;
use crate::support::registry::key;
use std::fs;
use std::process::{Command, Output};

#[test]
fn a_zone_in_dns_is_tried_as_a_server_asks_it() {
    let (a, b) = (key(1).to_string(), key(2).to_string());
    let text = format!(
        "7.2.0.192.in-addr 300 IN TXT \"v=ct1; k={a}\"\n_curve_tun.db 300 IN TXT \"v=ct1; k={b}; p=7000\"\n"
    );
    let zone = |name, signed| knot::Zone { name, text: text.clone(), signed };
    let server = knot::Knot::start(&[
        zone("keys.example", knot::Signed::Nsec3),
        zone("open.example", knot::Signed::Not),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let anchors = folder.path().join("anchors");
    fs::write(&anchors, server.trust_anchors("keys.example")).unwrap();
    let check = |zone: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_curve-tun"));
        command.args(["peers", "check", "--dns", zone, "--dns-server", &server.address().to_string()]);
        command.arg("--trust-anchors").arg(&anchors).args(arguments);
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    };
    let (yes, no) = ((0, "yes\n".to_owned(), String::new()), (3, "no\n".to_owned(), String::new()));
    assert_eq!(check("keys.example", &["192.0.2.7", &a]), yes);
    assert_eq!(check("keys.example", &["192.0.2.7", &b]), no);
    assert_eq!(check("keys.example", &["192.0.2.8", &a]), no);
    assert_eq!(check("keys.example", &["192.0.2.7"]), (0, format!("{a}\n"), String::new()));
    assert_eq!(check("keys.example", &["192.0.2.8"]), (3, String::new(), String::new()));
    assert_eq!(check("keys.example", &["[db.keys.example]:7000", &b]), yes);
    assert_eq!(check("keys.example", &["[db.keys.example]:7001", &b]), no);
    let (code, _, error) = check("open.example", &["192.0.2.7", &a]);
    assert!(code == 1 && error.contains("open.example: ") && error.contains("not signed"), "{error}");
    let (code, _, error) = check("keys.example", &[]);
    assert!(code == 2 && error.contains("<WHOM>"), "{error}");
    // The root's keys do not replace the ones that were to be given, and the invalid line is named.
    let right = fs::read_to_string(&anchors).unwrap();
    for (text, wrong) in [
        (String::new(), "anchors: there is no DNSKEY or DS record\n"),
        ("\n; none\n".into(), "anchors: there is no DNSKEY or DS record\n"),
        (format!("{right}\nno key\n"), "anchors: line 3: not a DNSKEY or DS record\n"),
    ] {
        fs::write(&anchors, text).unwrap();
        let (code, out, error) = check("keys.example", &["192.0.2.7", &a]);
        assert!((code, &*out) == (1, "") && error.contains(wrong) && error.contains("keymgr"), "{error}");
    }
}
