//! The vault in a process of its own (the original's "hidden C node"): the agent
//! alone knows the key, and answers over a Unix socket.
//!
//! [`Agent`] is the process's side, [`AgentVault`] its clients'. What they say to each other is in
//! [`wire`] and in `docs/VAULTS.md`, "The agent's protocol".

mod client;
mod server;
mod socket;
mod wire;

pub use client::AgentVault;
pub use server::Agent;
