//! Shared by the fuzz targets: repeatable randomness, recorded connections, peers, and invariants.

pub mod c;
#[path = "../../tests/support/random_source.rs"]
mod random_source;
pub mod recorded;
pub mod world;

use curve_tun::Error;
use curve_tun::connection::{Connection, ConnectionState, Role};
use std::cell::Cell;

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// SplitMix64.
fn next() -> u8 {
    SEED.set(SEED.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
    let mut z = SEED.get();
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_be_bytes()[3]
}

/// Makes libsodium's random bytes, on this thread, the same in every run of one input.
pub fn repeatable() {
    random_source::install(|bytes| bytes.fill_with(next));
    SEED.set(0);
}

/// A watched end: every state that it enters has to follow from the previous one.
pub struct Watched {
    pub connection: Connection,
    state: ConnectionState,
}

impl Watched {
    pub fn new(connection: Connection) -> Watched {
        assert_eq!(connection.state(), ConnectionState::Ready);
        Watched { connection, state: ConnectionState::Ready }
    }

    /// Watches a connection that is already connected.
    pub fn connected(connection: Connection) -> Watched {
        assert_eq!(connection.state(), ConnectionState::Connected);
        Watched { connection, state: ConnectionState::Connected }
    }

    /// Checks the state. To be called after each call on the connection.
    pub fn check(&mut self) {
        use ConnectionState::{Accepting, Closed, Connected, Initiating, Ready};
        let now = self.connection.state();
        let rank = |state| match state {
            Ready => 0,
            Initiating | Accepting => 1,
            Connected => 2,
            Closed => 3,
        };
        assert!(rank(now) >= rank(self.state), "{:?} to {now:?}", self.state);
        let odd = match self.connection.role() {
            Role::Client => Accepting,
            Role::Server => Initiating,
        };
        assert_ne!(now, odd);
        let peer = self.connection.peer_key().is_some();
        assert!(now != Connected || peer, "connected with nobody");
        assert!(rank(now) >= 2 || !peer, "a peer that has not proven itself");
        if now == Closed {
            assert!(!self.connection.wants_read() && self.connection.request().is_none());
            assert_eq!(self.connection.send(b""), Err(Error::Closed));
            assert_eq!(self.connection.feed(&[0]), Err(Error::Closed));
            assert_eq!(self.connection.tick(0), Err(Error::Closed));
        }
        self.state = now;
    }

    /// Takes every waiting message.
    pub fn take_all(&mut self) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        while let Ok(message) = self.connection.peek().map(<[u8]>::to_vec) {
            self.connection.consume();
            taken.push(message);
        }
        taken
    }
}
