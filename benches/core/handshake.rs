//! Whole handshakes, both ends on one thread, beside their scalar multiplications alone in a loop.

use super::support::World;
use super::support::sodium::{BoxKey, keypair};
use super::{Extent, rates, row};
use std::hint::black_box;

/// Scalar multiplications of both ends together, without those of key pairs: each end needs one for
/// hello and cookie, one for the short-term keys, and one for the vouch.
const AGREEMENTS_FIRST: usize = 6;
/// For a returning peer the vouch's agreement is already in the vault.
pub const AGREEMENTS_AGAIN: usize = 4;

/// Performs the operations of one handshake and nothing else.
pub fn operations(agreements: usize, secret: &[u8; 32], public: &[u8; 32]) {
    black_box(keypair());
    black_box(keypair());
    for _ in 0..agreements {
        black_box(BoxKey::agree(black_box(secret), black_box(public)));
    }
}

pub fn run(extent: Extent) {
    let world = World::new();
    let (secret, public) = (keypair().1, keypair().0);
    let rates = rates(
        extent.rounds,
        extent.time,
        &mut [
            &mut || {
                world.client_vault.forget_shared_keys();
                world.server_vault.forget_shared_keys();
                drop(black_box(world.connected()));
            },
            &mut || operations(AGREEMENTS_FIRST, &secret, &public),
            &mut || drop(black_box(world.connected())),
            &mut || operations(AGREEMENTS_AGAIN, &secret, &public),
        ],
    );
    row("curve_tun", "handshake_first", 0, rates[0], "1/s");
    row("libsodium", "handshake_first", 0, rates[1], "1/s");
    row("curve_tun", "handshake_again", 0, rates[2], "1/s");
    row("libsodium", "handshake_again", 0, rates[3], "1/s");
}
