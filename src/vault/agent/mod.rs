//! The vault in a separate process (the original's "hidden C node"): the agent alone knows the key,
//! and answers over a Unix socket.
//!
//! [`Agent`] is the side of that process, [`AgentVault`] that of its clients. Their protocol is in
//! [`wire`] and in `docs/VAULTS.md`, "The agent's protocol".

mod client;
mod server;
mod socket;
mod wire;

pub use client::AgentVault;
pub use server::Agent;
