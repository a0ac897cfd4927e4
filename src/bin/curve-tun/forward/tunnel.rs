//! A tunnel's transport with the two machines on it: the connection, and the stream in it.

use curve_tun::Error;
use curve_tun::connection::{Connection, ConnectionState};
use curve_tun::stream::Machine;
use socket2::Socket;
use std::io::{self, ErrorKind, Read, Write};

/// How many sealed bytes may wait for the transport before the local side is not read any more.
const SEND_MARK: usize = 64 << 10;
/// How many bytes of the peer's first are kept, to recognise what is no curve_tun.
const FIRST_MAX: usize = 8;
/// How many reads of what is dropped are one turn.
const DROPS: usize = 16;

pub struct Tunnel {
    pub socket: Socket,
    pub connection: Connection,
    pub machine: Machine,
    /// Whether the system has seen an end of the transport, which may not have been read yet.
    pub hung_up: bool,
    /// What the last edge said, until the system says that there is nothing.
    pub readable: bool,
    pub writable: bool,
    /// How the transport, or the connection, has ended.
    pub ended: Option<Ended>,
    /// Whether anything was not written when it ended.
    pub unsent: bool,
    first: ([u8; FIRST_MAX], usize),
}

/// How far [`Tunnel::drop_incoming`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// There is more.
    Some,
    /// There is nothing now.
    All,
    /// The transport has ended.
    Ended,
}

/// How a tunnel has ended.
#[derive(Debug)]
pub enum Ended {
    /// The peer has closed the transport. What that means for the handshake, if there was one.
    Closed(Error),
    /// The system has given the transport up.
    Transport(io::Error),
    /// A packet was refused, or the handshake.
    Refused(Error),
}

impl Tunnel {
    pub fn new(socket: Socket, connection: Connection, machine: Machine) -> Tunnel {
        Tunnel {
            socket,
            connection,
            machine,
            hung_up: false,
            readable: true,
            writable: true,
            ended: None,
            unsent: false,
            first: ([0; FIRST_MAX], 0),
        }
    }

    pub fn is_connected(&self) -> bool {
        self.connection.state() == ConnectionState::Connected
    }

    /// Returns the first bytes that the peer sent.
    pub fn first_bytes(&self) -> &[u8] {
        &self.first.0[..self.first.1]
    }

    /// Says whether more may be sealed.
    pub fn has_room(&self) -> bool {
        self.ended.is_none() && self.connection.send_buffer().len() < SEND_MARK
    }

    /// Reads once. Says whether anything came.
    pub fn read(&mut self) -> bool {
        if self.ended.is_some() || !self.readable || !self.connection.wants_read() {
            return false;
        }
        let Ok(room) = self.connection.recv_buffer() else { return false };
        match (&self.socket).read(room) {
            Ok(0) => {
                self.unsent = self.connection.wants_write();
                self.ended = Some(Ended::Closed(self.connection.transport_ended()));
            }
            Ok(count) => {
                let (first, len) = &mut self.first;
                let more = count.min(FIRST_MAX - *len);
                first[*len..*len + more].copy_from_slice(&room[..more]);
                *len += more;
                let unsent = self.connection.wants_write();
                if let Err(error) = self.connection.received(count) {
                    self.unsent = unsent;
                    self.ended = Some(Ended::Refused(error));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                return false;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => self.transport_failed(error),
        }
        true
    }

    /// Queues what the stream has to send apart from data.
    pub fn queue_due(&mut self) -> bool {
        let mut moved = false;
        while self.ended.is_none() && self.is_connected() && self.has_room() {
            let Some(message) = self.machine.next_message() else { break };
            self.send(&message);
            moved = true;
        }
        moved
    }

    /// Queues one message.
    pub fn send(&mut self, message: &[u8]) {
        if let Err(error) = self.connection.send(message) {
            self.ended.get_or_insert(Ended::Refused(error));
        }
    }

    /// Writes what is queued, as far as the system takes it. Says whether it took anything.
    pub fn write(&mut self) -> bool {
        let mut moved = false;
        while self.writable && !self.connection.send_buffer().is_empty() {
            match (&self.socket).write(self.connection.send_buffer()) {
                Ok(count) => {
                    self.connection.sent(count);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What came before the reset is read first.
                Err(_) if self.readable && self.ended.is_none() => break,
                Err(error) => {
                    self.transport_failed(error);
                    break;
                }
            }
        }
        moved
    }

    fn transport_failed(&mut self, error: io::Error) {
        if self.ended.is_none() {
            self.unsent = self.connection.wants_write();
            self.ended = Some(Ended::Transport(error));
        }
        self.connection.close();
    }

    /// Says that the peer closed the transport, and had all that was sent.
    pub fn ended_orderly(&self) -> bool {
        matches!(self.ended, Some(Ended::Closed(_))) && !self.unsent
    }

    /// Reads and drops what comes, a share of it.
    pub fn drop_incoming(&mut self, scratch: &mut [u8]) -> Dropped {
        for _ in 0..DROPS {
            match (&self.socket).read(scratch) {
                Ok(0) => return Dropped::Ended,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Dropped::All,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Dropped::Ended,
            }
        }
        Dropped::Some
    }
}
