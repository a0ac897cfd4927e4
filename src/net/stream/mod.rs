//! Streams over a tunnel, with blocking calls.

mod shared;

use super::{Socket, Timeout};
use crate::error::Result;
use crate::stream::{Abort, AbortCode, Machine, Open, Options};
use crate::sys::Deadline;
pub(crate) use shared::Shared;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// A stream over a tunnel: bytes with an end of their own ([`Read`], [`Write`]), or large messages
/// ([`Stream::send_message`], [`Stream::recv_message`]).
///
/// Reading gives 0 only after the peer has finished: a tunnel that was cut is an error. A stream
/// that is dropped before both directions have ended is aborted, so that the peer does not take
/// what came for everything. PROTOCOL.md, section 13.
///
/// Any thread may call any method. One may write while another reads, through the traits on
/// `&Stream` or the halves of [`Stream::split`]. A call waits at most for
/// [`Stream::set_read_timeout`] or [`Stream::set_write_timeout`], at first for ever.
///
/// [`Read`] and [`Write`] fail with our errors inside of [`io::Error`]: `Truncated` has the kind
/// `UnexpectedEof`, `Aborted` has `ConnectionAborted`, `Timeout` has `TimedOut`. In a forked child
/// every call says `Forked`.
///
/// ```
/// use curve_tun::net::Stream;
/// use curve_tun::stream::Options;
/// use std::io::{Read, Write};
/// # use curve_tun::net::{Connector, Listener};
/// # use curve_tun::registry::MemoryRegistry;
/// # use curve_tun::vault::{MemoryVault, Vault};
/// # use std::{sync::Arc, thread};
/// # let server_vault = Arc::new(MemoryVault::generate()?);
/// # let client_vault = Arc::new(MemoryVault::generate()?);
/// # let server_key = server_vault.public_key();
/// # let registry = Arc::new(MemoryRegistry::new());
/// # registry.add_anywhere(client_vault.public_key());
/// # let listener = Listener::builder(server_vault, registry).bind("127.0.0.1", 0)?;
/// # let port = listener.port();
///
/// let client = thread::spawn(move || -> std::io::Result<String> {
///     let connector = Connector::new(client_vault).server_key(server_key);
///     let socket = connector.connect("127.0.0.1", port)?;
///     let mut stream = Stream::client(socket, &Options::stream());
///     stream.write_all(b"How many?")?;
///     stream.finish_write()?;
///     let mut answer = String::new();
///     stream.read_to_string(&mut answer)?;
///     stream.finish()?;
///     Ok(answer)
/// });
///
/// let mut stream = Stream::server(listener.accept(None)?, &Options::stream(), None)?.accept()?;
/// let mut question = String::new();
/// stream.read_to_string(&mut question)?;
/// assert_eq!(question, "How many?");
/// stream.write_all(b"42")?;
/// stream.finish()?;
/// assert_eq!(client.join().unwrap()?, "42");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Stream(Arc<Shared>);

/// A stream that a client has opened and the server's program has not taken yet. Dropped, it is
/// refused as given up.
#[must_use = "it is refused when it is dropped"]
pub struct PendingStream(Stream);

/// The reading half of a stream.
#[derive(Debug)]
pub struct ReadHalf(Arc<Shared>);

/// The writing half of a stream. Dropped before it has finished, it aborts the stream.
#[derive(Debug)]
pub struct WriteHalf(Arc<Shared>);

impl Stream {
    /// Returns the client's end of a stream over a connected socket. Does not block: OPEN goes out
    /// with the first call that writes, reads or flushes.
    #[must_use]
    pub fn client(socket: Socket, options: &Options) -> Stream {
        Stream(Arc::new(Shared::new(Arc::new(socket), Machine::client(options))))
    }

    /// Waits for the client's OPEN on a connected socket. Blocks at most for `timeout`.
    ///
    /// # Errors
    /// `NotAStream` if the client does not speak the layer; `BadPacket` if it has opened the other
    /// mode, or breaks a rule; `Aborted`; `Truncated` if it has left; `Timeout`; `WrongState`,
    /// `Forked`. The socket is closed.
    pub fn server(socket: Socket, options: &Options, timeout: Timeout) -> Result<PendingStream> {
        let stream = Stream(Arc::new(Shared::new(Arc::new(socket), Machine::server(options))));
        stream.0.await_peer(Deadline::after(timeout))?;
        Ok(PendingStream(stream))
    }

    /// Sets how long a call that reads may wait; `None` for ever. A read that times out loses
    /// nothing.
    pub fn set_read_timeout(&self, timeout: Timeout) {
        self.0.set_read_timeout(timeout);
    }

    /// Sets how long a call that writes may wait; `None` for ever. Of a write that times out either
    /// nothing was taken, or it says how much; the stream goes on.
    pub fn set_write_timeout(&self, timeout: Timeout) {
        self.0.set_write_timeout(timeout);
    }

    /// Returns the socket, to ask it for addresses and the peer's key, or to wait for it beside
    /// others. Messages of its own would break the stream.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        self.0.socket()
    }

    /// Returns what the peer said when it opened the stream; `None` if nothing has come of it.
    #[must_use]
    pub fn peer(&self) -> Option<Open> {
        self.0.machine().ok()?.peer().cloned()
    }

    /// Returns the peer's abort, if one has come.
    #[must_use]
    pub fn abort_received(&self) -> Option<Abort> {
        self.0.machine().ok()?.abort_received().cloned()
    }

    /// Sends one message of the mode `Messages`. Blocks until the operating system has it, or, when
    /// the time is over, until all of it is queued.
    ///
    /// A message of more than 65,502 bytes waits for the peer's OPEN.
    ///
    /// # Errors
    /// `TooLarge` if it is larger than the peer takes: nothing is sent, and the stream goes on.
    /// `Timeout`: if a part of it was sent, the stream is aborted. `WrongState` in the other mode
    /// and after [`Stream::finish_write`]; `Aborted`; `Closed`, `Forked`.
    pub fn send_message(&self, message: &[u8]) -> Result<()> {
        self.0.send_message(message, self.0.write_deadline()?)
    }

    /// Receives one message of the mode `Messages`, in place of what `message` holds; false at the
    /// end of the stream. Blocks until it has come whole.
    ///
    /// Memory is taken as the message comes, not by what is announced.
    ///
    /// # Errors
    /// `Timeout`: nothing is lost. `Truncated`; `Aborted`; `TooLarge` if the peer has sent one that
    /// is larger than this end takes; `BadPacket`, `NotAStream`; `WrongState` in the other mode;
    /// `Closed`, `Forked`.
    pub fn recv_message(&self, message: &mut Vec<u8>) -> Result<bool> {
        self.0.recv_message(message, self.0.read_deadline()?)
    }

    /// Ends what this end sends; the peer reads an end after all of it. Blocks until the operating
    /// system has taken it. Reading goes on.
    ///
    /// # Errors
    /// `Timeout`: a further call goes on. `Aborted`, `Closed`, `Forked`, and what else has ended
    /// the stream.
    pub fn finish_write(&self) -> Result<()> {
        self.0.finish_write(self.0.write_deadline()?)
    }

    /// Ends what this end sends, reads and drops what the peer still sends until its end, and
    /// closes. `Ok` means that both directions have ended as they should. Blocks at most for both
    /// timeouts, and two seconds.
    ///
    /// # Errors
    /// Those of [`Stream::finish_write`], `Truncated`, `BadPacket`, `NotAStream`, `TooLarge`.
    pub fn finish(self) -> Result<()> {
        self.finish_write()?;
        self.0.finish_read(self.0.read_deadline()?)?;
        self.0.linger(Deadline::after(None));
        Ok(())
    }

    /// Gives the stream up in both directions, and says why. Does nothing where it has ended. Does
    /// not block.
    pub fn abort(&self, code: AbortCode) {
        self.0.abort(code, "");
    }

    /// Takes the stream apart, for one thread that reads and another that writes.
    #[must_use]
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        (ReadHalf(self.0.clone()), WriteHalf(self.0))
    }
}

impl PendingStream {
    /// Returns what the client said when it opened the stream.
    #[must_use]
    pub fn peer(&self) -> Option<Open> {
        self.0.peer()
    }

    /// Returns the socket, to ask it for the client's key and address.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        self.0.socket()
    }

    /// Takes the stream. Does not block: OPEN goes out with the first call that writes, reads or
    /// flushes.
    ///
    /// # Errors
    /// What has ended the stream meanwhile.
    pub fn accept(self) -> Result<Stream> {
        self.0.0.machine()?.accept()?;
        Ok(self.0)
    }

    /// Refuses the stream, and says why. `text` is for an operator at the client's side: at most
    /// 255 bytes of it, mostly none. Does not block.
    pub fn refuse(self, code: AbortCode, text: &str) {
        self.0.0.abort(code, text);
    }
}

impl WriteHalf {
    /// Ends what this end sends: see [`Stream::finish_write`].
    ///
    /// # Errors
    /// Those of [`Stream::finish_write`].
    pub fn finish(self) -> Result<()> {
        self.0.finish_write(self.0.write_deadline()?)
    }

    /// Sends one message: see [`Stream::send_message`].
    ///
    /// # Errors
    /// Those of [`Stream::send_message`].
    pub fn send_message(&self, message: &[u8]) -> Result<()> {
        self.0.send_message(message, self.0.write_deadline()?)
    }
}

impl ReadHalf {
    /// Receives one message: see [`Stream::recv_message`].
    ///
    /// # Errors
    /// Those of [`Stream::recv_message`].
    pub fn recv_message(&self, message: &mut Vec<u8>) -> Result<bool> {
        self.0.recv_message(message, self.0.read_deadline()?)
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        if self.0.machine().is_ok_and(|machine| !machine.has_finished()) {
            self.0.abort(AbortCode::GivenUp, "");
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.read(buffer, self.0.read_deadline()?)?)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.read(buffer, self.0.read_deadline()?)?)
    }
}

impl Read for ReadHalf {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.read(buffer, self.0.read_deadline()?)?)
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(bytes, self.0.write_deadline()?)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.0.flush(self.0.write_deadline()?)?)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(bytes, self.0.write_deadline()?)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.0.flush(self.0.write_deadline()?)?)
    }
}

impl Write for WriteHalf {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(bytes, self.0.write_deadline()?)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.0.flush(self.0.write_deadline()?)?)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PendingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
