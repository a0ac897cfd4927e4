//! Message-oriented tunnels over TCP, secured by Curve25519 in the manner of
//! CurveCP: mutual authentication by long-term keys, forward secrecy, no
//! negotiation, no certificates.
//!
//! Each module uses only those above it in this list: [`protocol`] over the
//! cryptography, then [`vault`], [`registry`], [`connection`], and with the
//! feature `net` [`net`]. `docs/ARCHITECTURE.md` is the map.

#![deny(unsafe_code, unsafe_op_in_unsafe_fn, missing_docs, missing_debug_implementations)]
// On the crate's page, what needs a feature says which.
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
mod sys;
pub mod vault;

pub use cookie::MINUTE_MS;
#[cfg(feature = "test-util")]
pub use crypto::test_util;
pub use crypto::{KEY_BYTES, KEY_TEXT_LEN, PublicKey, SecretKey, memory_locked};
pub use error::{Error, Result};

/// The Rust program of the README, as a documentation test.
#[cfg(all(doctest, feature = "net"))]
#[doc = include_str!("../README.md")]
struct Readme;
