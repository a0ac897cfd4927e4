//! Vaults and registries that answer later: the handshake stops with a request and continues with
//! the answer.

use crate::support::providers::{LaterVault, TestRegistry};
use crate::support::{World, recv, take};
use curve_tun::Error;
use curve_tun::connection::{Answer, Connection, ConnectionState, Request};
use curve_tun::registry::Registry;
use curve_tun::vault::{MemoryVault, Vault};
use std::sync::Arc;

fn later_world(verdict: Result<bool, Error>) -> World {
    let vault = || Arc::new(LaterVault(MemoryVault::generate().unwrap()));
    World::of(vault(), vault(), Arc::new(TestRegistry::new(verdict, true)), Default::default())
}

/// Returns the answer of the providers of `world` to the pending request.
fn answer_of(world: &World, connection: &Connection) -> Answer {
    match connection.request().expect("a request") {
        request @ Request::SealVouch { .. } => request.perform_by_vault(&*world.client_vault),
        request => request.perform(&*world.server_vault, &**world.server.registry()),
    }
}

#[test]
fn a_vault_or_registry_that_does_not_say_works_on_256_questions_at_once() {
    assert_eq!(LaterVault(MemoryVault::generate().unwrap()).max_concurrency(), 256);
    assert_eq!(TestRegistry::new(Ok(true), true).max_concurrency(), 256);
}

/// A point at which the handshake stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    AnswerHello,
    SealVouch,
    OpenVouch,
    Verify,
}

const STOPS: [Stop; 4] = [Stop::AnswerHello, Stop::SealVouch, Stop::OpenVouch, Stop::Verify];

fn stop_of(request: &Request) -> Stop {
    match request {
        Request::AnswerHello { .. } => Stop::AnswerHello,
        Request::SealVouch { .. } => Stop::SealVouch,
        Request::OpenVouch { .. } => Stop::OpenVouch,
        Request::Verify(_) => Stop::Verify,
        _ => panic!("a request that the tests do not know"),
    }
}

/// Runs the handshake until `stop` waits for its answer; returns the end that waits, then the
/// other.
fn up_to(world: &World, stop: Stop) -> (Connection, Connection) {
    let (mut client, mut server) = world.pair();
    server.feed(&take(&mut client)).unwrap();
    for next in STOPS {
        let asking = if next == Stop::SealVouch { &mut client } else { &mut server };
        assert_eq!(stop_of(asking.request().unwrap()), next);
        if next == stop {
            break;
        }
        let answer = answer_of(world, asking);
        asking.answer(answer).unwrap();
        match next {
            Stop::AnswerHello => client.feed(&take(&mut server)).map(drop).unwrap(),
            Stop::SealVouch => server.feed(&take(&mut client)).map(drop).unwrap(),
            _ => {}
        }
    }
    if stop == Stop::SealVouch { (client, server) } else { (server, client) }
}

#[test]
fn a_handshake_whose_every_step_is_answered_later_ends_connected() {
    let world = later_world(Ok(true));
    let (mut server, mut client) = up_to(&world, Stop::Verify);
    let answer = answer_of(&world, &server);
    server.answer(answer).unwrap();
    assert_eq!((server.state(), client.state()), (ConnectionState::Connected, ConnectionState::Connected));
    assert!(server.request().is_none() && client.request().is_none());
    assert_eq!(server.peer_key(), Some(world.client_vault.public_key()));
    server.send(b"welcome").unwrap();
    client.feed(&take(&mut server)).unwrap();
    assert_eq!(recv(&mut client).unwrap(), b"welcome");
}

#[test]
fn while_an_answer_is_awaited_the_state_is_the_one_before_it() {
    let world = later_world(Ok(true));
    for (stop, state) in STOPS.into_iter().zip([
        ConnectionState::Ready,
        ConnectionState::Initiating,
        ConnectionState::Accepting,
        ConnectionState::Accepting,
    ]) {
        let (mut asking, _) = up_to(&world, stop);
        assert_eq!(asking.state(), state, "{stop:?}");
        assert!(!asking.wants_write());
        assert_eq!(asking.send(b"too early"), Err(Error::WrongState));
        assert_eq!(asking.peek(), Err(Error::WouldBlock));
        assert_eq!(asking.peer_key(), None);
    }
}

#[test]
fn messages_that_come_before_the_verdict_wait_for_it() {
    let world = later_world(Ok(true));
    let (mut server, mut client) = up_to(&world, Stop::OpenVouch);
    client.send(b"early").unwrap();
    server.feed(&take(&mut client)).unwrap();
    assert_eq!(recv(&mut server), Err(Error::WouldBlock));
    for _ in 0..2 {
        let answer = answer_of(&world, &server);
        server.answer(answer).unwrap();
    }
    assert_eq!(recv(&mut server).unwrap(), b"early");
}

#[test]
fn messages_before_a_refusal_are_never_delivered() {
    let world = later_world(Ok(false));
    let (mut server, mut client) = up_to(&world, Stop::Verify);
    client.send(b"let me in").unwrap();
    server.feed(&take(&mut client)).unwrap();
    assert_eq!(server.answer(Answer::Verdict(false)), Err(Error::UnknownPeer));
    assert_eq!((server.state(), server.wants_write()), (ConnectionState::Closed, false));
    assert_eq!(recv(&mut server), Err(Error::Closed));
}

#[test]
fn an_answer_of_another_kind_is_refused_and_the_question_stays() {
    let world = later_world(Ok(true));
    let answers = [
        Answer::HelloAnswered([0; 16], [0; 144]),
        Answer::VouchSealed([0; 16], [0; 48]),
        Answer::VouchOpened([0; 32]),
        Answer::Verdict(true),
    ];
    for (n, stop) in STOPS.into_iter().enumerate() {
        let (mut asking, _) = up_to(&world, stop);
        let state = asking.state();
        for (m, answer) in answers.iter().enumerate().filter(|(m, _)| *m != n) {
            assert_eq!(asking.answer(answer.clone()), Err(Error::InvalidArgument), "{stop:?}, answer {m}");
        }
        assert_eq!((asking.state(), stop_of(asking.request().unwrap())), (state, stop));
        let answer = answer_of(&world, &asking);
        assert_eq!(asking.answer(answer), Ok(()));
    }
}

#[test]
fn a_second_answer_finds_no_question() {
    let world = later_world(Ok(true));
    for stop in STOPS {
        let (mut asking, _) = up_to(&world, stop);
        let answer = answer_of(&world, &asking);
        asking.answer(answer.clone()).unwrap();
        // After the vouch the registry is asked, and the vouch does not answer that.
        let error = if stop == Stop::OpenVouch { Error::InvalidArgument } else { Error::WrongState };
        assert_eq!(asking.answer(answer), Err(error), "{stop:?}");
        assert_ne!(asking.state(), ConnectionState::Closed);
    }
}

#[test]
fn an_answer_before_any_question_finds_none() {
    let (mut client, mut server) = later_world(Ok(true)).pair();
    assert_eq!(client.answer(Answer::Verdict(true)), Err(Error::WrongState));
    assert_eq!(server.answer(Answer::Failed(Error::VaultFailed)), Err(Error::WrongState));
    assert_eq!((client.state(), server.state()), (ConnectionState::Ready, ConnectionState::Ready));
}

#[test]
fn a_failure_closes_with_its_error() {
    let world = later_world(Ok(true));
    for stop in STOPS {
        for error in [Error::VaultFailed, Error::RegistryFailed, Error::Timeout] {
            let (mut asking, _) = up_to(&world, stop);
            assert_eq!(asking.answer(Answer::Failed(error)), Err(error), "{stop:?}");
            assert_eq!((asking.state(), asking.wants_write()), (ConnectionState::Closed, false));
            assert!(asking.request().is_none());
        }
    }
}

#[test]
fn a_failure_never_looks_as_if_the_connection_went_on() {
    let world = later_world(Ok(true));
    for stop in STOPS {
        for error in
            [Error::WouldBlock, Error::WrongState, Error::InvalidArgument, Error::TooSmall, Error::Closed]
        {
            let (mut asking, _) = up_to(&world, stop);
            let whose = if stop == Stop::Verify { Error::RegistryFailed } else { Error::VaultFailed };
            assert_eq!(asking.answer(Answer::Failed(error)), Err(whose), "{stop:?}");
            assert_eq!(asking.state(), ConnectionState::Closed);
        }
    }
}

#[test]
fn an_answer_that_proves_nothing_closes() {
    let world = later_world(Ok(true));
    let (mut server, _) = up_to(&world, Stop::OpenVouch);
    assert_eq!(server.answer(Answer::VouchOpened([0; 32])), Err(Error::BadPacket));
    assert_eq!(server.state(), ConnectionState::Closed);
}

#[test]
fn a_close_while_a_question_waits_takes_it_back() {
    let world = later_world(Ok(true));
    for stop in STOPS {
        let transport_ended = |connection: &mut Connection| {
            assert_eq!(connection.transport_ended(), Error::Closed);
        };
        for ends in [Connection::close, transport_ended] {
            let (mut asking, _) = up_to(&world, stop);
            let answer = answer_of(&world, &asking);
            ends(&mut asking);
            assert!(asking.request().is_none(), "{stop:?}");
            assert_eq!(asking.answer(answer), Err(Error::Closed));
            assert_eq!(world.server.handshakes_in_flight(), 0);
        }
    }
}

#[test]
fn the_handshakes_deadline_holds_while_a_question_waits() {
    let world = later_world(Ok(true));
    for stop in STOPS {
        let (mut asking, _) = up_to(&world, stop);
        let deadline = asking.tick(0).unwrap().expect("a deadline");
        assert_eq!(asking.tick(deadline), Err(Error::Timeout), "{stop:?}");
        assert!(asking.request().is_none());
    }
}

#[test]
fn an_answer_of_one_connection_does_not_serve_another() {
    let world = later_world(Ok(true));
    let (first, _) = up_to(&world, Stop::OpenVouch);
    let (mut second, _) = up_to(&world, Stop::OpenVouch);
    let answer = answer_of(&world, &first);
    assert_eq!(second.answer(answer), Err(Error::BadPacket));
}

#[test]
fn a_vault_that_cannot_open_the_hello_says_so_as_one_that_answers_at_once() {
    let world = later_world(Ok(true));
    let (mut server, _) = up_to(&world, Stop::AnswerHello);
    let stranger = MemoryVault::generate().unwrap();
    let answer = server.request().unwrap().perform_by_vault(&stranger);
    assert_eq!(server.answer(answer), Err(Error::BadPacket));
}

#[test]
fn bytes_that_come_while_a_question_waits_are_bounded() {
    let world = later_world(Ok(true));
    let (mut server, _) = up_to(&world, Stop::AnswerHello);
    let mut taken = 0;
    while server.wants_read() {
        taken += server.feed(&[0; 10_000]).unwrap();
        assert!(taken <= world.options.receive_high_water + 65_537);
    }
    let answer = answer_of(&world, &server);
    assert_eq!(server.answer(answer), Err(Error::BadPacket));
}
