//! Every kind of vault keeps the rules of all vaults.

#[path = "support/agent.rs"]
mod agent;
#[path = "support/softhsm.rs"]
mod softhsm;
mod support;

use agent::AgentProcess;
use curve_tun::vault::{AgentVault, Cost, FileVault, MemoryVault, Pkcs11Vault};
use support::vault_suite;

/// Quick, for tests.
const CHEAP: Cost = Cost { operations: 1, memory: 8192 };

#[test]
fn a_vault_in_memory() {
    vault_suite::all(&MemoryVault::generate().unwrap(), 10_000);
}

#[test]
fn a_vault_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    vault_suite::all(&FileVault::create(&folder.path().join("v"), None, CHEAP).unwrap(), 10_000);
    vault_suite::all(&FileVault::open(&folder.path().join("v"), None).unwrap(), 10_000);
}

#[test]
fn a_vault_in_a_file_sealed_by_a_passphrase() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v");
    vault_suite::all(&FileVault::create(&path, Some(b"correct horse"), CHEAP).unwrap(), 10_000);
    vault_suite::all(&FileVault::open(&path, Some(b"correct horse")).unwrap(), 10_000);
}

#[test]
fn a_vault_in_an_agent() {
    let folder = tempfile::tempdir().unwrap();
    let (path, socket) = (folder.path().join("v"), folder.path().join("s"));
    drop(FileVault::create(&path, None, CHEAP).unwrap());
    let _agent = AgentProcess::start(&path, &socket);
    vault_suite::all(&AgentVault::open(&socket).unwrap(), 2_000);
}

#[test]
fn a_vault_in_a_token() {
    let hsm = softhsm::SoftHsm::get();
    let vault = Pkcs11Vault::generate(&hsm.uri("suite", "key"), Some(softhsm::PIN)).unwrap();
    vault_suite::all(&vault, 400);
}
