//! Hostile clients: whatever they do must hardly affect others.

use super::Field;
use super::honest::Dice;
use curve_tun::connection::{Connection, ConnectionState, Options};
use curve_tun::protocol::MESSAGE_MAX;
use curve_tun::vault::{MemoryVault, Vault};
use socket2::SockRef;
use std::collections::VecDeque;
use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// Connections left open until this many later ones are.
const LINGERING: usize = 200;
/// By then the server has answered, or an answer comes too late to matter.
const PATIENCE: Duration = Duration::from_secs(10);

type Attack = fn(&mut Attacker) -> std::io::Result<()>;

const ATTACKS: [(&str, Attack); 9] = [
    ("garbage", Attacker::garbage),
    ("half handshakes", Attacker::half_handshake),
    ("slow bytes", Attacker::slow_bytes),
    ("replays", Attacker::replay),
    ("resets", Attacker::reset),
    ("oversized frames", Attacker::oversized_frame),
    ("oversized frames when connected", Attacker::oversized_message),
    ("strangers", Attacker::stranger),
    ("forged messages", Attacker::forged_message),
];

/// How often each attack was made.
#[derive(Default)]
pub struct Made {
    times: [u64; ATTACKS.len()],
}

impl Made {
    /// Says whether each attack was made at least once.
    pub fn all_kinds(&self) -> bool {
        self.times.iter().all(|&count| count > 0)
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} attacks:", self.times.iter().sum::<u64>())?;
        ATTACKS.iter().zip(self.times).try_for_each(|((name, _), count)| write!(f, " {name} {count}"))
    }
}

struct Attacker {
    field: &'static Field,
    dice: Dice,
    /// All bytes sent on one established connection.
    recorded: Vec<u8>,
    stranger: Arc<MemoryVault>,
    lingering: VecDeque<TcpStream>,
    /// Connections that send a hello a byte at a time, with the bytes left to send.
    slow: VecDeque<(TcpStream, Vec<u8>)>,
}

/// Makes the attacks that are due, until the end.
pub fn work(field: &'static Field) -> Made {
    let stranger = Arc::new(MemoryVault::generate().expect("a vault"));
    let (lingering, slow, dice) = (VecDeque::new(), VecDeque::new(), Dice::new(99));
    let mut attacker = Attacker { field, dice, recorded: Vec::new(), stranger, lingering, slow };
    attacker.recorded = attacker.record();
    let (mut made, mut next) = (Made::default(), 0);
    while !field.ended() {
        if !field.hostile.load(Ordering::Relaxed) {
            attacker.lingering.clear();
            attacker.slow.clear();
            field.attacks_due.store(0, Ordering::Relaxed);
        }
        let due = field.attacks_due.swap(0, Ordering::Relaxed);
        for _ in 0..due {
            let at = next % ATTACKS.len();
            // The server may end an attack at any time.
            let _ = ATTACKS[at].1(&mut attacker);
            made.times[at] += 1;
            next += 1;
        }
        attacker.go_on_slowly();
        thread::sleep(Duration::from_millis(2));
    }
    made
}

impl Attacker {
    fn dial(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.field.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn client(&self, vault: &Arc<MemoryVault>) -> Connection {
        let vault: Arc<dyn Vault> = vault.clone();
        Connection::client(vault, self.field.server_key, &Options::default()).expect("a client")
    }

    /// Returns an established connection, and the bytes sent on it.
    fn connected(&self, vault: &Arc<MemoryVault>) -> std::io::Result<(TcpStream, Connection, Vec<u8>)> {
        let (mut stream, mut client, mut said) = (self.dial()?, self.client(vault), Vec::new());
        loop {
            said.extend_from_slice(client.send_buffer());
            stream.write_all(client.send_buffer())?;
            client.sent(client.send_buffer().len());
            if client.state() == ConnectionState::Connected {
                return Ok((stream, client, said));
            }
            let mut bytes = [0; 256];
            let count = stream.read(&mut bytes)?;
            if count == 0 || client.feed(&bytes[..count]).is_err() {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
        }
    }

    fn friend(&mut self) -> Arc<MemoryVault> {
        let friends = &self.field.friends;
        friends[self.dice.roll(friends.len() as u64) as usize].clone()
    }

    fn record(&mut self) -> Vec<u8> {
        let friend = self.friend();
        let (_, mut client, mut said) = self.connected(&friend).expect("a connection to record");
        client.send(b"not to be delivered again").expect("a message");
        said.extend_from_slice(client.send_buffer());
        said
    }

    fn linger(&mut self, stream: TcpStream) {
        self.lingering.push_back(stream);
        if self.lingering.len() > LINGERING {
            self.lingering.pop_front();
        }
    }

    fn garbage(&mut self) -> std::io::Result<()> {
        let mut stream = self.dial()?;
        let len = 1 + self.dice.roll(400);
        let bytes: Vec<u8> = (0..len).map(|_| self.dice.roll(256) as u8).collect();
        stream.write_all(&bytes)?;
        self.linger(stream);
        Ok(())
    }

    fn half_handshake(&mut self) -> std::io::Result<()> {
        let (mut stream, friend) = (self.dial()?, self.friend());
        stream.write_all(self.client(&friend).send_buffer())?;
        self.linger(stream);
        Ok(())
    }

    fn slow_bytes(&mut self) -> std::io::Result<()> {
        let (stream, friend) = (self.dial()?, self.friend());
        let hello = self.client(&friend).send_buffer().to_vec();
        self.slow.push_back((stream, hello));
        if self.slow.len() > LINGERING {
            self.slow.pop_front();
        }
        Ok(())
    }

    /// Sends one more byte on each slow connection; those with nothing left stay silent.
    fn go_on_slowly(&mut self) {
        self.slow.retain_mut(|(stream, rest)| rest.is_empty() || stream.write_all(&[rest.remove(0)]).is_ok());
    }

    /// Sends all bytes of another connection at once.
    fn replay(&mut self) -> std::io::Result<()> {
        let mut stream = self.dial()?;
        stream.write_all(&self.recorded)?;
        self.linger(stream);
        Ok(())
    }

    /// Resets in the middle of a message.
    fn reset(&mut self) -> std::io::Result<()> {
        let friend = self.friend();
        let (mut stream, mut client, _) = self.connected(&friend)?;
        client.send(&[7; 1000]).expect("a message");
        let half = client.send_buffer().len() / 2;
        stream.write_all(&client.send_buffer()[..half])?;
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    }

    fn oversized_frame(&mut self) -> std::io::Result<()> {
        let mut stream = self.dial()?;
        stream.write_all(&[0xff; 70_000])?;
        self.linger(stream);
        Ok(())
    }

    /// Sends the largest possible frame, with garbage in it.
    fn oversized_message(&mut self) -> std::io::Result<()> {
        let friend = self.friend();
        let (mut stream, mut client, _) = self.connected(&friend)?;
        client.send(&vec![7; MESSAGE_MAX]).expect("the largest message");
        let mut frame = client.send_buffer().to_vec();
        frame[2 + 8 + 8..].fill(0xff);
        stream.write_all(&frame)?;
        self.linger(stream);
        Ok(())
    }

    fn stranger(&mut self) -> std::io::Result<()> {
        let (stream, ..) = self.connected(&self.stranger.clone())?;
        self.linger(stream);
        Ok(())
    }

    fn forged_message(&mut self) -> std::io::Result<()> {
        let friend = self.friend();
        let (mut stream, mut client, _) = self.connected(&friend)?;
        client.send(&[7; 100]).expect("a message");
        let mut frame = client.send_buffer().to_vec();
        let at = self.dice.roll(frame.len() as u64) as usize;
        frame[at] ^= 0x10;
        stream.write_all(&frame)?;
        self.linger(stream);
        Ok(())
    }
}
