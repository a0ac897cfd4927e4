//! Honest clients: they connect, talk, leave and come back, and check each message of the server.

use super::{CONNECTIONS, Field, WORKERS};
use curve_tun::connection::Options;
use curve_tun::net::{Connector, Socket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// An answer that takes longer counts as lost.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));
const CLIENTS: usize = CONNECTIONS / WORKERS;
const BATCH_MAX: u64 = 20;
const MESSAGE_MAX: u64 = 2000;
/// The pause between two actions of a worker: long enough that the machine has spare capacity, as a
/// server should, so that the measured effect is what hostile clients cost others, and not the cost
/// of being hostile.
const THINK: Duration = Duration::from_millis(5);
/// One in this many actions of a client is to leave and come back.
const LEAVE_ONE_IN: u64 = 20;

static CONNECTED: AtomicUsize = AtomicUsize::new(0);

pub fn all_are_connected() -> bool {
    CONNECTED.load(Ordering::Relaxed) >= CONNECTIONS
}

/// Random numbers good enough to mix traffic (xorshift), the same in each run.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: usize) -> Dice {
        Dice(0x9e37_79b9_7f4a_7c15 ^ (seed as u64 + 1) << 20)
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % sides
    }
}

struct Client {
    socket: Socket,
    /// Names this connection in its messages.
    name: u64,
    /// Messages sent on it.
    sent: u64,
}

impl Client {
    fn connect(field: &Field, name: u64) -> Client {
        let vault = field.friends[name as usize % field.friends.len()].clone();
        let options = Options::default().handshake_timeout(Duration::from_secs(60));
        let socket = Connector::new(vault)
            .server_key(field.server_key)
            .options(options.clone())
            .timeout(PATIENCE)
            .connect("127.0.0.1", field.port);
        Client { socket: socket.unwrap_or_else(|error| panic!("connect: {error}")), name, sent: 0 }
    }

    /// Makes the `n`th message of this connection, unlike any other message of the run.
    fn message(&self, n: u64, buffer: &mut [u8; MESSAGE_MAX as usize]) -> usize {
        let len = 16 + (self.name.wrapping_mul(31) + n * 7919) as usize % (buffer.len() - 16);
        buffer[..8].copy_from_slice(&self.name.to_le_bytes());
        buffer[8..16].copy_from_slice(&n.to_le_bytes());
        buffer[16..len].fill(n as u8);
        len
    }

    /// Sends a batch, and expects each message back, once and in order.
    fn talk(&mut self, field: &Field, count: u64) {
        let (mut message, mut echo) = ([0; MESSAGE_MAX as usize], [0; MESSAGE_MAX as usize]);
        for n in self.sent..self.sent + count {
            let len = self.message(n, &mut message);
            self.socket.send(&message[..len], PATIENCE).unwrap_or_else(|error| panic!("send: {error}"));
        }
        for n in self.sent..self.sent + count {
            let len = self.message(n, &mut message);
            let came = self.socket.recv(&mut echo, PATIENCE).unwrap_or_else(|error| panic!("recv: {error}"));
            assert!(
                message[..len] == echo[..came],
                "message {n} of connection {} came back as another",
                self.name
            );
        }
        self.sent += count;
        field.echoes.fetch_add(count, Ordering::Relaxed);
    }

    /// Leaves, and checks that no unexpected message came back.
    fn leave(self) {
        let more = self.socket.recv(&mut [0; MESSAGE_MAX as usize], Some(Duration::ZERO));
        assert_eq!(more, Err(curve_tun::Error::Timeout), "a message of connection {} came twice", self.name);
    }
}

/// The work of one thread of honest clients, until the end.
pub fn work(field: &Field, worker: usize) {
    let mut dice = Dice::new(worker);
    let mut name = worker as u64;
    let mut come = || {
        name += WORKERS as u64;
        Client::connect(field, name)
    };
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        clients.push(come());
        CONNECTED.fetch_add(1, Ordering::Relaxed);
    }
    while !field.ended() {
        let at = dice.roll(CLIENTS as u64) as usize;
        if dice.roll(LEAVE_ONE_IN) == 0 {
            clients.swap_remove(at).leave();
            clients.push(come());
        } else {
            clients[at].talk(field, 1 + dice.roll(BATCH_MAX));
        }
        field.acted();
        thread::sleep(THINK);
        while field.resting.load(Ordering::Relaxed) {
            thread::sleep(THINK);
        }
    }
    clients.into_iter().for_each(Client::leave);
}
