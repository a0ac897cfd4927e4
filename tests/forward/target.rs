//! Programs at both ends of a forwarder, which check every byte.

use super::tool::{PATIENCE, listener};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;

/// Returns the byte at this place of a stream; `seed` tells streams apart.
pub fn byte(seed: u8, at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8).wrapping_mul(17)) as u8 ^ seed
}

pub fn bytes(seed: u8, count: usize) -> Vec<u8> {
    (0..count).map(|at| byte(seed, at)).collect()
}

/// What an end has read.
#[derive(Debug)]
pub struct Got {
    pub bytes: Vec<u8>,
    /// Whether it saw an end; else why it did not.
    pub ended: io::Result<()>,
}

impl Got {
    /// Checks the one rule: an end is seen only after everything.
    pub fn check(&self, sent: &[u8]) {
        assert!(sent.starts_with(&self.bytes), "what came is not what was sent");
        if self.ended.is_ok() {
            assert_eq!(self.bytes.len(), sent.len(), "a cut looks like an end");
        }
    }

    pub fn is_whole(&self, sent: &[u8]) -> bool {
        self.ended.is_ok() && self.bytes == sent
    }
}

/// Reads to the end, or to what happens instead.
pub fn read_all(mut from: impl Read) -> Got {
    let mut bytes = Vec::new();
    let ended = from.read_to_end(&mut bytes).map(drop);
    Got { bytes, ended }
}

/// Sends `send` and an end, and receives until the end, at once.
pub fn exchange(stream: &TcpStream, send: &[u8]) -> Got {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    thread::scope(|scope| {
        let reads = scope.spawn(|| read_all(stream));
        let wrote = (&mut &*stream).write_all(send).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut got = reads.join().unwrap();
        // The system tells of a reset once: whichever call has it, there was no end.
        got.ended = got.ended.and(wrote);
        got
    })
}

/// A service that sends `answer` to whoever connects, and tells what came.
pub struct Target {
    pub at: SocketAddr,
    pub got: mpsc::Receiver<Got>,
}

impl Target {
    pub fn start(answer: Vec<u8>) -> Target {
        Target::of(move |stream| exchange(&stream, &answer))
    }

    /// A service that does this with each connection.
    pub fn of(serve: impl Fn(TcpStream) -> Got + Send + Sync + 'static) -> Target {
        let (listener, at) = listener();
        let (tell, got) = mpsc::channel();
        let serve = std::sync::Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (serve, tell) = (serve.clone(), tell.clone());
                // Nobody may wait for it any more.
                thread::spawn(move || tell.send(serve(stream.unwrap())));
            }
        });
        Target { at, got }
    }

    /// Waits for what the next connection brought.
    pub fn next(&self) -> Got {
        self.got.recv_timeout(PATIENCE).unwrap()
    }
}
