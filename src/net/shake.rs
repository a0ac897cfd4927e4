//! Drives one handshake over one socket, without waiting in it.

use super::deadline::Deadline;
use super::errand::Answerers;
use super::io;
use crate::connection::{Connection, ConnectionState, Server};
use crate::error::{Error, Result};
use nix::poll::{PollFd, PollFlags};
use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;

/// What a handshake needs next.
pub(super) enum Step {
    /// Nothing: it is connected, and all it had to say has been said.
    Done,
    /// The socket to be ready for these.
    Wait(PollFlags),
    /// An answer to the connection's request.
    Ask,
}

/// The server's end of a connection that was just accepted. If it has to give way to another handshake, whoever drives it
/// finds its transport shut down.
pub(super) fn server_end(
    server: &Arc<Server>,
    stream: &Arc<TcpStream>,
    peer: SocketAddr,
) -> Result<Connection> {
    let mut connection = Connection::server(server, peer.ip())?;
    let stream = stream.clone();
    connection.on_give_way(move || {
        // It fails if the peer has gone, which is as good.
        let _ = stream.shutdown(Shutdown::Both);
    })?;
    Ok(connection)
}

/// Goes as far as the socket and the vault allow without waiting.
pub(super) fn step(stream: &TcpStream, connection: &mut Connection) -> Result<Step> {
    loop {
        while !connection.pending().is_empty() {
            match io::write_now(stream, connection.pending()) {
                Ok(count) => connection.written(count),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Step::Wait(PollFlags::POLLOUT)),
                Err(e) => return Err(io::broken(&e)),
            }
        }
        if connection.state() == ConnectionState::Connected {
            return Ok(Step::Done);
        }
        if connection.request().is_some() {
            return Ok(Step::Ask);
        }
        match io::read_now(stream, connection.room()?) {
            Ok(0) => return Err(connection.transport_ended()),
            Ok(count) => connection.filled(count)?,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Step::Wait(PollFlags::POLLIN)),
            Err(e) => return Err(io::broken(&e)),
        }
    }
}

/// Sees a handshake through; `Timeout` at the deadline.
pub(super) fn run(
    stream: &TcpStream,
    connection: &mut Connection,
    answerers: &Answerers,
    deadline: Deadline,
) -> Result<()> {
    loop {
        deadline.check()?;
        match step(stream, connection)? {
            Step::Done => return Ok(()),
            Step::Wait(events) => {
                if !deadline.wait(&mut [PollFd::new(stream.as_fd(), events)])? {
                    return Err(Error::Timeout);
                }
            }
            Step::Ask => {
                let request = connection.request().ok_or(Error::Internal)?.clone();
                connection.answer(answerers.ask_until(connection.source(), request, deadline)?)?;
            }
        }
    }
}
