//! What the repository says of itself: its documents, its layers and its package.

mod docs;
mod documents_steps;
mod layers;
mod packaged;
mod programs;
mod unsafe_table;

#[path = "../support/mod.rs"]
mod support;
