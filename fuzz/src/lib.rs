//! What the fuzz targets share: randomness that repeats, recorded connections, peers, and what must always hold.

pub mod c;
pub mod recorded;
pub mod world;

use curve_tun::Error;
use curve_tun::connection::{Connection, ConnectionState, Role};
use libsodium_sys as sodium;
use std::cell::Cell;
use std::ffi::{c_char, c_void};

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

extern "C" fn name() -> *const c_char {
    c"repeatable".as_ptr()
}

/// SplitMix64.
extern "C" fn next() -> u32 {
    SEED.set(SEED.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
    let mut z = SEED.get();
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 32) as u32
}

extern "C" fn fill(bytes: *mut c_void, len: usize) {
    // SAFETY: libsodium hands on the caller's buffer and its length.
    let bytes = unsafe { std::slice::from_raw_parts_mut(bytes.cast::<u8>(), len) };
    bytes.iter_mut().for_each(|byte| *byte = next() as u8);
}

/// Makes libsodium's random bytes, on this thread, the same in every run of one input.
pub fn repeatable() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let implementation = Box::leak(Box::new(sodium::randombytes_implementation {
            implementation_name: Some(name),
            random: Some(next),
            stir: None,
            uniform: None,
            buf: Some(fill),
            close: None,
        }));
        // SAFETY: it lives for ever, and `sodium_init` has not run yet or does not care.
        unsafe { sodium::randombytes_set_implementation(implementation) };
    });
    SEED.set(0);
}

/// One end, watched: every state that it takes must follow from the one before.
pub struct Watched {
    pub connection: Connection,
    state: ConnectionState,
}

impl Watched {
    pub fn new(connection: Connection) -> Watched {
        assert_eq!(connection.state(), ConnectionState::Ready);
        Watched { connection, state: ConnectionState::Ready }
    }

    /// One that is connected already.
    pub fn connected(connection: Connection) -> Watched {
        assert_eq!(connection.state(), ConnectionState::Connected);
        Watched { connection, state: ConnectionState::Connected }
    }

    /// To be called after each call on the connection.
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
            assert_eq!(self.connection.read(&[0]), Err(Error::Closed));
            assert_eq!(self.connection.tick(0), Err(Error::Closed));
        }
        self.state = now;
    }

    /// Every message that waits.
    pub fn take_all(&mut self) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        while let Ok(message) = self.connection.message().map(<[u8]>::to_vec) {
            self.connection.consume();
            taken.push(message);
        }
        taken
    }
}
