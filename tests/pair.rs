//! An in-memory pair of peers: every size, both ways.

mod support;

use curve_tun::connection::ConnectionState;
use support::{World, recv, settle};

#[test]
fn the_handshake_ends_connected_with_the_peers_key_known() {
    let world = World::new();
    let (client, server) = world.connected();
    assert_eq!(client.state(), ConnectionState::Connected);
    assert_eq!(server.state(), ConnectionState::Connected);
    assert_eq!(client.peer_key(), Some(world.server_key()));
    use curve_tun::vault::Vault;
    assert_eq!(server.peer_key(), Some(world.client_vault.public_key()));
}

#[test]
fn messages_of_every_small_size_arrive_both_ways() {
    let (mut client, mut server) = World::new().connected();
    for size in 0..=4096usize {
        let message: Vec<u8> = (0..size).map(|i| (i * 31 + size) as u8).collect();
        client.send(&message).unwrap();
        server.send(&message).unwrap();
        settle(&mut client, &mut server).unwrap();
        assert_eq!(recv(&mut server).unwrap(), message);
        assert_eq!(recv(&mut client).unwrap(), message);
    }
}

#[test]
fn a_handshake_agrees_three_keys_on_each_side_and_two_when_the_peer_is_known() {
    let world = World::new();
    // Both sides run on this thread: hello, ephemeral and vouch, each on both sides; then without the vouch.
    for expected in [6, 4, 4] {
        let before = curve_tun::inject::agreements();
        world.connected();
        assert_eq!(curve_tun::inject::agreements() - before, expected);
    }
    use curve_tun::vault::Vault;
    world.server_vault.forget_agreements();
    let before = curve_tun::inject::agreements();
    world.connected();
    assert_eq!(curve_tun::inject::agreements() - before, 5);
}

#[test]
fn a_forged_vouch_costs_the_same_whether_or_not_its_key_is_remembered() {
    use curve_tun::vault::{Purpose, Vault};
    let world = World::new();
    let (client, server) = (world.client_vault.public_key(), world.server_key());
    let mut vouch = [0; 48];
    let nonce = world.client_vault.box_seal(Purpose::Vouch, &server, &[7; 32], &mut vouch).unwrap();
    let cost = |vouch: &[u8]| {
        let before = curve_tun::inject::agreements();
        let opened = world.server_vault.box_open(Purpose::Vouch, &client, &nonce, vouch, &mut [0; 32]);
        (opened, curve_tun::inject::agreements() - before)
    };
    let mut forged = vouch;
    forged[0] ^= 1;
    let unknown = cost(&forged);
    assert_eq!(cost(&vouch), (Ok(()), 1));
    assert_eq!(cost(&vouch), (Ok(()), 0), "the key is remembered");
    assert_eq!(cost(&forged), unknown);
}
