//! A man in the middle, who ends the transport after a number of bytes.

use super::tool::listener;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Which direction is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

/// How the transport ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Fin,
    Rst,
}

#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub direction: Direction,
    pub after: usize,
    pub how: How,
}

/// Forwards connections, and cuts them as it was last told.
pub struct Middle {
    pub at: SocketAddr,
    cut: Arc<Mutex<Option<Cut>>>,
    /// The bytes of the last connection, by direction.
    passed: Arc<[AtomicUsize; 2]>,
}

impl Middle {
    pub fn before(to: SocketAddr) -> Middle {
        let (listener, at) = listener();
        let middle = Middle { at, cut: Arc::default(), passed: Arc::default() };
        let (cut, passed) = (middle.cut.clone(), middle.passed.clone());
        thread::spawn(move || serve(&listener, to, &cut, &passed));
        middle
    }

    pub fn set(&self, cut: Option<Cut>) {
        *self.cut.lock().unwrap() = cut;
    }

    pub fn passed(&self, direction: Direction) -> usize {
        self.passed[direction as usize].load(Ordering::SeqCst)
    }
}

fn serve(listener: &TcpListener, to: SocketAddr, cut: &Mutex<Option<Cut>>, passed: &Arc<[AtomicUsize; 2]>) {
    for client in listener.incoming() {
        let (client, server) = (client.unwrap(), TcpStream::connect(to).unwrap());
        let cut = *cut.lock().unwrap();
        passed.iter().for_each(|count| count.store(0, Ordering::SeqCst));
        for direction in [Direction::Up, Direction::Down] {
            let (client, server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let passed = passed.clone();
            let (from, to) = match direction {
                Direction::Up => (client, server),
                Direction::Down => (server, client),
            };
            let cut = cut.filter(|cut| cut.direction == direction);
            thread::spawn(move || pass(&from, &to, cut, &passed[direction as usize]));
        }
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, cut: Option<Cut>, passed: &AtomicUsize) {
    let mut left = cut.map_or(usize::MAX, |cut| cut.after);
    let mut buffer = [0; 4096];
    loop {
        if left == 0 {
            return end(from, to, cut.unwrap().how);
        }
        let most = left.min(buffer.len());
        let count = match from.read(&mut buffer[..most]) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(count) => count,
            // Reset by this end or the other: the same follows.
            Err(_) => return end(from, to, How::Rst),
        };
        if to.write_all(&buffer[..count]).is_err() {
            return end(from, to, How::Rst);
        }
        passed.fetch_add(count, Ordering::SeqCst);
        left -= count;
    }
}

/// Ends both connections. An end by FIN also tells the sender that nothing more is wanted.
fn end(from: &TcpStream, to: &TcpStream, how: How) {
    for stream in [from, to] {
        if how == How::Rst {
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            let _ = nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger);
            // The other direction's thread has the same socket open: what closes it now is this.
            disconnect(stream);
        } else {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
    if how == How::Fin {
        // It goes away without reading what still comes.
        thread::sleep(Duration::from_millis(1));
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Has the system send RST at once.
fn disconnect(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    let unspecified = nix::libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let len = size_of::<nix::libc::sockaddr>() as u32;
    // SAFETY: the descriptor is open, and the address is whole.
    unsafe { nix::libc::connect(stream.as_raw_fd(), &raw const unspecified, len) };
}
