//! Minute keys through the life of a server: current for a minute, accepted for one more, then gone.

use crate::support::{World, settle, take};
use curve_tun::connection::{Connection, ConnectionState};
use curve_tun::{Error, MINUTE_MS};

/// A world whose server has issued a cookie at time 0, and both ends.
fn after_the_cookie() -> (World, Connection, Connection) {
    let world = World::new();
    let (mut client, mut server) = world.pair();
    server.feed(&take(&mut client)).unwrap();
    client.feed(&take(&mut server)).unwrap();
    (world, client, server)
}

#[test]
fn a_minute_key_is_current_for_sixty_seconds() {
    assert_eq!(MINUTE_MS, 60_000);
    let world = World::new();
    for (now, next) in [(0, 60_000), (59_999, 60_000), (60_000, 120_000), (119_999, 120_000)] {
        assert_eq!(world.server.tick(now), Ok(next), "at {now}");
    }
}

#[test]
fn a_cookie_is_accepted_under_its_own_key_and_after_one_rotation() {
    for now in [0, 59_999, 60_000, 119_999] {
        let (world, mut client, mut server) = after_the_cookie();
        world.server.tick(now).unwrap();
        settle(&mut client, &mut server).unwrap();
        assert_eq!(server.state(), ConnectionState::Connected, "at {now}");
    }
}

#[test]
fn a_cookie_has_expired_after_two_rotations() {
    for times in [&[60_000, 120_000][..], &[120_000], &[1_000_000], &[119_999, 120_000]] {
        let (world, mut client, mut server) = after_the_cookie();
        for now in times {
            world.server.tick(*now).unwrap();
        }
        assert_eq!(settle(&mut client, &mut server), Err(Error::CookieExpired), "after {times:?}");
        assert_eq!((server.state(), server.wants_write()), (ConnectionState::Closed, false));
    }
}

#[test]
fn a_cookie_issued_after_a_rotation_lives_as_long_as_any() {
    let world = World::new();
    world.server.tick(60_000).unwrap();
    let (mut client, mut server) = world.pair();
    server.feed(&take(&mut client)).unwrap();
    client.feed(&take(&mut server)).unwrap();
    world.server.tick(120_000).unwrap();
    settle(&mut client, &mut server).unwrap();
    assert_eq!(server.state(), ConnectionState::Connected);
}

#[test]
fn ticks_that_come_late_or_go_back_in_time_keep_the_order_of_keys() {
    let world = World::new();
    // Late by less than a minute: the next rotation is still on the minute.
    assert_eq!(world.server.tick(75_000), Ok(120_000));
    assert_eq!(world.server.tick(10), Ok(120_000));
    // Late by more: both keys are gone, and the minute starts again.
    assert_eq!(world.server.tick(500_000), Ok(560_000));
    assert_eq!(world.server.tick(u64::MAX - 60_000), Ok(u64::MAX));
    assert_eq!(world.server.tick(u64::MAX), Ok(u64::MAX));
}

#[test]
fn servers_do_not_share_minute_keys() {
    let (world, mut client, mut server) = after_the_cookie();
    let other = World::of(
        world.client_vault.clone(),
        world.server_vault.clone(),
        world.server.registry().clone(),
        world.options.clone(),
    );
    let initiate = take(&mut client);
    let (mut second_client, mut second) = other.pair();
    second.feed(&take(&mut second_client)).unwrap();
    assert_eq!(second.feed(&initiate), Err(Error::BadPacket));
    server.feed(&initiate).unwrap();
}

#[test]
fn rotation_while_handshakes_run_on_other_threads_disturbs_none() {
    let world = World::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let (mut client, mut server) = world.pair();
                    match settle(&mut client, &mut server) {
                        Ok(()) => assert_eq!(server.state(), ConnectionState::Connected),
                        // Two rotations happened between cookie and initiate.
                        Err(error) => assert_eq!(error, Error::CookieExpired),
                    }
                }
            });
        }
        for minute in 1..100 {
            world.server.tick(minute * MINUTE_MS).unwrap();
            std::thread::yield_now();
        }
    });
    let (mut client, mut server) = world.pair();
    settle(&mut client, &mut server).unwrap();
}
