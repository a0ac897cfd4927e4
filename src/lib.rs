//! Message-oriented tunnels over TCP, secured by Curve25519 in the manner of
//! CurveCP: mutual authentication by long-term keys, forward secrecy, no
//! negotiation, no certificates.
//!
//! Each end has a [`vault`], which holds its long-term secret key. A server also has a
//! [`registry`], which says whose keys are accepted. With these, `net::Listener` and
//! `net::Connector` make tunnels, and a `net::Socket` sends and receives messages:
//!
#![cfg_attr(feature = "net", doc = "```")]
#![cfg_attr(not(feature = "net"), doc = "```ignore")]
//! use curve_tun::net::{Connector, Listener};
//! use curve_tun::registry::MemoryRegistry;
//! use curve_tun::vault::{MemoryVault, Vault};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), curve_tun::Error> {
//! let server_vault = Arc::new(MemoryVault::generate()?);
//! let client_vault = Arc::new(MemoryVault::generate()?);
//! let server_key = server_vault.public_key();
//!
//! let registry = Arc::new(MemoryRegistry::new());
//! registry.add("127.0.0.0/8".parse()?, client_vault.public_key());
//! let listener = Listener::builder(server_vault, registry).bind("127.0.0.1", 0)?;
//! let port = listener.port();
//!
//! let client = std::thread::spawn(move || {
//!     let connector = Connector::new(client_vault).server_key(server_key);
//!     let socket = connector.connect("127.0.0.1", port)?;
//!     socket.send(b"hello", None)
//! });
//! let socket = listener.accept(None)?;
//! assert_eq!(socket.recv_with(None, |message| Ok(message.to_vec()))?, b"hello");
//! # client.join().unwrap()
//! # }
//! ```
//!
//! A program can also have a driver of its own, without sockets or with an event loop, that moves
//! the bytes of a [`connection::Connection`].
//!
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | `net` (default) | blocking sockets: the module `net` |
//! | `dns` | registries in DNS, with DNSSEC: `registry::DnsRegistry` |
//! | `pkcs11` | vaults in tokens: `vault::Pkcs11Vault` |
//! | `system-sodium` | links the system's libsodium instead of our own build of it |
//! | `cli` | the tool `curve-tun` |
//! | `capi`, `nif` | the C library and the NIF, for `make lib` and rebar3 |
//! | `test-util` | hooks for the tests of this crate; no part of its interface |
//!
//! # Layers
//!
//! Each module uses only the modules before it in this list: [`protocol`], which is built on the
//! cryptography, then [`vault`], [`registry`], [`connection`], and with the feature `net` [`net`].
//! `docs/ARCHITECTURE.md` describes all layers.

#![deny(unsafe_code, unsafe_op_in_unsafe_fn, missing_docs, missing_debug_implementations)]
// On the crate's page, each item that needs a feature names it.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "net", feature = "nif"))]
mod blocking;
#[cfg(feature = "capi")]
#[allow(unsafe_code)]
mod capi;
pub mod connection;
mod contain;
mod cookie;
#[allow(unsafe_code)]
mod crypto;
mod decimal;
mod error;
#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "nif")]
#[allow(unsafe_code, reason = "what the macros of rustler write")]
mod nif;
pub mod protocol;
pub mod registry;
mod setters;
pub mod stream;
mod sys;
pub mod vault;

pub use cookie::MINUTE_MS;
#[cfg(feature = "test-util")]
pub use crypto::test_util;
pub use crypto::{KEY_BYTES, KEY_TEXT_LEN, PublicKey, SecretKey, memory_locked};
pub use error::{Error, Result};

/// Runs the Rust program of the README as a documentation test.
#[cfg(all(doctest, feature = "net"))]
#[doc = include_str!("../README.md")]
struct Readme;
