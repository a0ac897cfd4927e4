//! Keys in a token through intermediate modules: p11-kit's proxy, which is the default, and
//! pkcs11-spy.

use crate::support::agent::{AgentProcess, TOOL};
use crate::support::softhsm::{PIN, SoftHsm};
use crate::support::vault_suite;
use curve_tun::PublicKey;
use curve_tun::vault::{Pkcs11Vault, Vault};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SPIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so",
    "/usr/lib/aarch64-linux-gnu/pkcs11-spy.so",
    "/usr/lib/pkcs11-spy.so",
];

fn spy() -> PathBuf {
    let spy = SPIES.iter().map(PathBuf::from).find(|path| path.exists());
    spy.expect("pkcs11-spy.so, from the package opensc-pkcs11")
}

/// The tool, with the spy as a possible module.
fn tool(args: &[&str]) -> Output {
    let hsm = SoftHsm::get();
    let mut tool = Command::new(TOOL);
    tool.args(args).arg("--passphrase-file").arg(hsm.pin_file());
    // Its report has everything that the module is given, including the PIN.
    tool.env("PKCS11SPY", &hsm.module).env("PKCS11SPY_OUTPUT", hsm.folder().join("spied"));
    tool.output().unwrap()
}

fn printed_key(output: Output) -> PublicKey {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().parse().unwrap()
}

fn both(label: &str) -> [(String, String); 2] {
    ["Private", "Public"].map(|kind| (kind.to_owned(), label.to_owned()))
}

fn keys(hsm: &SoftHsm, token: &str) -> Vec<(String, String)> {
    let mut keys = hsm.keys(token);
    keys.sort();
    keys
}

#[test]
fn without_a_module_in_the_uri_p11_kits_proxy_finds_the_token() {
    let hsm = SoftHsm::get();
    let configured = Path::new("/usr/share/p11-kit/modules/softhsm2.module");
    assert!(configured.exists(), "SoftHSM is not among the modules of p11-kit (package softhsm2)");
    let uri = hsm.uri_by_default("proxy", "tool");
    let key = printed_key(tool(&["keygen", "--pkcs11", &uri]));
    assert_eq!(printed_key(tool(&["public", "--pkcs11", &uri])), key);
    assert_eq!(keys(hsm, "proxy"), both("tool"));
    let socket = hsm.folder().join("proxy-socket");
    let arguments = ["--pkcs11".as_ref(), uri.as_ref(), "--passphrase-file".as_ref()];
    let pin_file = hsm.pin_file();
    let agent = AgentProcess::start_for(&[&arguments[..], &[pin_file.as_os_str()]].concat(), &socket);
    let check = Command::new(TOOL).args(["check", "--agent"]).arg(&socket).output().unwrap();
    assert_eq!(printed_key(check), key);
    assert!(agent.terminate().success());
    // In this process, where SoftHSM is also loaded without the proxy.
    let vault = Pkcs11Vault::open(&uri, Some(PIN)).unwrap();
    assert_eq!(vault.public_key(), key);
    vault_suite::all(&vault, 400);
    drop(vault);
    let direct = Pkcs11Vault::open(&hsm.uri("proxy", "tool"), Some(PIN)).unwrap();
    assert_eq!(direct.public_key(), key);
    let other = Pkcs11Vault::generate(&hsm.uri_by_default("proxy", "library"), Some(PIN)).unwrap();
    vault_suite::what_its_peer_seals_it_opens(&other);
    vault_suite::what_its_peer_seals_it_opens(&direct);
}

#[test]
fn a_key_is_made_and_used_through_a_spy() {
    let hsm = SoftHsm::get();
    let uri = hsm.uri_by(&spy(), "spy", "tool");
    let key = printed_key(tool(&["keygen", "--pkcs11", &uri]));
    assert_eq!(printed_key(tool(&["public", "--pkcs11", &uri])), key);
    assert_eq!(keys(hsm, "spy"), both("tool"));
    let report = std::fs::read_to_string(hsm.folder().join("spied")).unwrap();
    assert!(report.contains("C_DeriveKey"), "the spy stood between: {report}");
    assert_eq!(report.matches(": C_GetFunctionList").count(), 2, "once for each process: {report}");
    assert_eq!(Pkcs11Vault::inspect(&hsm.uri("spy", "tool"), Some(PIN)), Ok(key));
}
