//! The C API: its header, its libraries, and the programs that are built with them.
#![cfg(all(feature = "capi", target_os = "linux"))]

mod example_relay;
mod examples;
mod floods;
mod floods_held;
mod header;
mod installed;
mod installing;
mod instructions;
mod peer;
mod programs;
mod secrets;
mod threads;

#[path = "../support/mod.rs"]
mod support;
