//! Vaults of every kind: in memory, in a file, by an agent, in a token.

mod accidents;
mod agent;
mod crash;
mod file;
mod kinds;
mod memory;
mod nonce_giver;
mod pkcs11;
mod pkcs11_made;
mod pkcs11_modules;
mod pkcs11_montgomery;
mod reseal;

#[path = "../support/mod.rs"]
mod support;
