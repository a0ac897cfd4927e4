//! What both halves of a stream share: the socket, the machine, and who writes and reads now.

use crate::connection::Role;
use crate::error::{Error, Result};
use crate::net::socket::Look;
use crate::net::{Socket, Timeout};
use crate::stream::{AbortCode, Event, Machine, Mode};
use crate::sys::Deadline;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Once both directions have ended, how long a client awaits the end of the transport, and a
/// server, which lets the client go first.
const CLIENT_LINGER: Duration = Duration::from_secs(1);
const SERVER_LINGER: Duration = Duration::from_secs(2);

/// One end of a stream over a socket.
///
/// Each call that waits takes a deadline: a face that has timeouts of its own for a stream reads
/// them by [`Shared::read_deadline`] and [`Shared::write_deadline`].
pub(crate) struct Shared {
    socket: Arc<Socket>,
    /// Not locked during a wait.
    machine: Mutex<Machine>,
    /// Locked by whoever sends, so that what the machine gives leaves in its order.
    writer: Mutex<()>,
    reader: Mutex<Reader>,
    /// Notified after the machine has seen a message, and when the reader is unlocked.
    received: Condvar,
    read_timeout: Mutex<Timeout>,
    write_timeout: Mutex<Timeout>,
}

#[derive(Default)]
struct Reader {
    /// How much was taken of the DATA that is next in the socket, its kind included; 0 if the
    /// machine has not seen that message.
    taken: usize,
    /// What has come of a large message.
    part: Vec<u8>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.abort(AbortCode::GivenUp, "");
    }
}

/// The reader, locked; whoever waits for it to be free is woken when it is.
struct Reading<'a> {
    reader: Option<MutexGuard<'a, Reader>>,
    shared: &'a Shared,
}

impl Reading<'_> {
    fn get(&mut self) -> Result<&mut Reader> {
        self.reader.as_deref_mut().ok_or(Error::Internal)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.reader = None;
        // Whoever saw it locked waits by now.
        drop(self.shared.machine.lock());
        self.shared.received.notify_all();
    }
}

impl Shared {
    pub(crate) fn new(socket: Arc<Socket>, machine: Machine) -> Shared {
        Shared {
            socket,
            machine: Mutex::new(machine),
            writer: Mutex::default(),
            reader: Mutex::default(),
            received: Condvar::new(),
            read_timeout: Mutex::new(None),
            write_timeout: Mutex::new(None),
        }
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn set_read_timeout(&self, timeout: Timeout) {
        if self.socket.fork_guard.check().is_ok() {
            *self.read_timeout.lock() = timeout;
        }
    }

    pub(super) fn set_write_timeout(&self, timeout: Timeout) {
        if self.socket.fork_guard.check().is_ok() {
            *self.write_timeout.lock() = timeout;
        }
    }

    /// Locks the machine. `Forked` in a child, where another thread of the parent may hold it.
    pub(crate) fn machine(&self) -> Result<MutexGuard<'_, Machine>> {
        self.socket.fork_guard.check()?;
        Ok(self.machine.lock())
    }

    pub(super) fn write_deadline(&self) -> Result<Deadline> {
        self.socket.fork_guard.check()?;
        Ok(Deadline::after(*self.write_timeout.lock()))
    }

    pub(super) fn read_deadline(&self) -> Result<Deadline> {
        self.socket.fork_guard.check()?;
        Ok(Deadline::after(*self.read_timeout.lock()))
    }

    fn lock_reader(&self, deadline: Deadline) -> Result<Reading<'_>> {
        Ok(Reading { reader: Some(deadline.lock(&self.reader)?), shared: self })
    }

    /// Waits for the peer's OPEN. The caller holds the reader.
    fn await_open(&self, deadline: Deadline) -> Result<()> {
        while self.machine.lock().peer().is_none() {
            self.receive(deadline, |_| None::<()>)?;
            self.machine.lock().received_end()?;
        }
        Ok(())
    }

    /// Waits for the peer's OPEN, for which it may need the own one.
    pub(crate) fn await_peer(&self, deadline: Deadline) -> Result<()> {
        self.send_due();
        self.await_open_of_any(deadline)
    }

    /// Waits for the peer's OPEN, which another thread may be receiving.
    fn await_open_of_any(&self, deadline: Deadline) -> Result<()> {
        loop {
            if let Some(reader) = self.reader.try_lock() {
                let _reading = Reading { reader: Some(reader), shared: self };
                return self.await_open(deadline);
            }
            let mut machine = self.machine.lock();
            machine.check_send()?;
            if machine.peer().is_some() {
                return Ok(());
            }
            if self.reader.is_locked() {
                match deadline.instant() {
                    None => self.received.wait(&mut machine),
                    Some(end) if self.received.wait_until(&mut machine, end).timed_out() => {
                        return Err(Error::Timeout);
                    }
                    Some(_) => {}
                }
            }
        }
    }

    /// Has the machine see the next message, and gives what `take` makes of it, if anything. The
    /// caller holds the reader.
    fn receive<R>(&self, deadline: Deadline, take: impl FnOnce(Event) -> Option<R>) -> Result<Option<R>> {
        let looked = self
            .socket
            .look(deadline, |message| Look::Consume(self.machine.lock().receive(message).map(take)));
        self.seen(looked)
    }

    /// Says what a look at the next message means for the stream.
    fn seen<R>(&self, looked: Result<Result<Option<R>>>) -> Result<Option<R>> {
        let seen = match looked {
            Ok(seen) => seen,
            Err(error @ (Error::Timeout | Error::Forked | Error::WrongState)) => return Err(error),
            Err(error) => {
                let mut machine = self.machine.lock();
                machine.transport_ended();
                // At the end of the transport, what the stream says of it counts.
                if error == Error::Closed { machine.received_end().map(|_| None) } else { Err(error) }
            }
        };
        self.received.notify_all();
        // The message may have to be answered, or its sender told what is wrong with it.
        self.send_due();
        seen
    }

    pub(crate) fn read(&self, buffer: &mut [u8], deadline: Deadline) -> Result<usize> {
        if self.machine.lock().mode() != Mode::Stream {
            return Err(Error::WrongState);
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut reading = self.lock_reader(deadline)?;
        self.send_due();
        loop {
            let taken = &mut reading.get()?.taken;
            if *taken == 0 && self.machine.lock().received_end()? {
                return Ok(0);
            }
            let looked = self.socket.look(deadline, |message| {
                let from = match *taken {
                    0 => match self.machine.lock().receive(message) {
                        Ok(Event::Bytes(bytes)) => message.len() - bytes.len(),
                        Ok(_) => return Look::Consume(Ok(None)),
                        Err(error) => return Look::Consume(Err(error)),
                    },
                    taken => taken,
                };
                let count = buffer.len().min(message.len() - from);
                buffer[..count].copy_from_slice(&message[from..from + count]);
                let whole = from + count == message.len();
                *taken = if whole { 0 } else { from + count };
                if whole { Look::Consume(Ok(Some(count))) } else { Look::Keep(Ok(Some(count))) }
            });
            if let Some(count) = self.seen(looked)? {
                return Ok(count);
            }
        }
    }

    pub(crate) fn recv_message(&self, message: &mut Vec<u8>, deadline: Deadline) -> Result<bool> {
        if self.machine.lock().mode() != Mode::Messages {
            return Err(Error::WrongState);
        }
        let mut reading = self.lock_reader(deadline)?;
        self.send_due();
        while !self.machine.lock().received_end()? {
            let part = &mut reading.get()?.part;
            let whole = self.receive(deadline, |event| match event {
                Event::Message(bytes) => {
                    message.clear();
                    message.extend_from_slice(bytes);
                    Some(())
                }
                Event::Part { total, offset, bytes } => {
                    part.extend_from_slice(bytes);
                    let whole = offset as usize + bytes.len() == total as usize;
                    whole.then(|| *message = std::mem::take(part))
                }
                _ => None,
            });
            if whole?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn write(&self, bytes: &[u8], deadline: Deadline) -> Result<usize> {
        let writer = self.lock_writer(deadline)?;
        self.queue_due(deadline)?;
        self.socket.await_room(deadline)?;
        let count = self.queue_piece(bytes)?;
        let flushed = self.socket.flush(deadline.remaining());
        self.unlock(writer);
        // The system has not taken all of it, but the queue has.
        if flushed == Err(Error::Timeout) { Ok(count) } else { flushed.map(|()| count) }
    }

    pub(crate) fn send_message(&self, message: &[u8], deadline: Deadline) -> Result<()> {
        let writer = self.lock_writer(deadline)?;
        self.queue_due(deadline)?;
        self.socket.await_room(deadline)?;
        let begun = self.machine.lock().begin_message(message.len());
        if begun == Err(Error::WouldBlock) {
            // The peer sends its OPEN after it has ours.
            self.socket.flush(deadline.remaining())?;
            self.await_open_of_any(deadline)?;
            self.machine.lock().begin_message(message.len())?;
        } else {
            begun?;
        }
        let mut left = message;
        loop {
            left = &left[self.queue_piece(left)?..];
            if left.is_empty() {
                break;
            }
            if let Err(error) = self.socket.await_room(deadline) {
                // A part of it is on its way.
                self.machine.lock().abort(AbortCode::GivenUp, "");
                self.unlock(writer);
                return Err(error);
            }
        }
        let flushed = self.socket.flush(deadline.remaining());
        self.unlock(writer);
        if flushed == Err(Error::Timeout) { Ok(()) } else { flushed }
    }

    pub(super) fn flush(&self, deadline: Deadline) -> Result<()> {
        self.flush_after(deadline, |machine| machine.check_send())
    }

    pub(crate) fn finish_write(&self, deadline: Deadline) -> Result<()> {
        self.flush_after(deadline, Machine::finish)
    }

    fn flush_after(&self, deadline: Deadline, step: impl FnOnce(&mut Machine) -> Result<()>) -> Result<()> {
        let writer = deadline.lock(&self.writer)?;
        step(&mut self.machine.lock())?;
        self.queue_due(deadline)?;
        self.socket.flush(deadline.remaining())?;
        self.unlock(writer);
        Ok(())
    }

    /// Reads and drops what the peer still sends until its end.
    pub(crate) fn finish_read(&self, deadline: Deadline) -> Result<()> {
        let _reading = self.lock_reader(deadline)?;
        while !self.machine.lock().received_end()? {
            self.receive(deadline, |_| None::<()>)?;
        }
        Ok(())
    }

    /// Waits a while for the end of the transport, once both directions have ended.
    pub(crate) fn linger(&self, deadline: Deadline) {
        // Nobody closes with bytes unread: the system would reset the transport, and with it what
        // has not arrived.
        let linger = match self.socket.role() {
            Role::Client => CLIENT_LINGER,
            Role::Server => {
                self.socket.end_writing();
                SERVER_LINGER
            }
        };
        let linger = Deadline::after(Some(linger));
        while self.socket.look(linger.min(deadline), |_| Look::Consume(())).is_ok() {}
    }

    pub(crate) fn abort(&self, code: AbortCode, text: &str) {
        let Ok(mut machine) = self.machine() else { return };
        if machine.is_finished() || machine.check_send().is_err() {
            return;
        }
        machine.abort(code, text);
        drop(machine);
        self.send_due();
        // Whoever waits in a read is woken.
        self.socket.end_reading();
    }

    /// Queues the next piece of data, for which there is room. Gives how much it takes.
    fn queue_piece(&self, bytes: &[u8]) -> Result<usize> {
        let Some(piece) = self.machine.lock().data(bytes)? else { return Ok(0) };
        // Not kept: a stream that is idle holds no buffer and no message.
        self.socket.queue(&[piece.header(), piece.body()].concat(), None)?;
        Ok(piece.body().len())
    }

    /// Queues what the machine has to send apart from data. The caller holds the writer.
    fn queue_due(&self, deadline: Deadline) -> Result<()> {
        loop {
            self.socket.await_room(deadline)?;
            let Some(message) = self.machine.lock().next_message() else { return Ok(()) };
            self.socket.queue(&message, None)?;
        }
    }

    /// Sends that as far as it needs no wait. Whoever is writing does it afterwards. A failure is
    /// told by the next call that writes or reads.
    pub(crate) fn send_due(&self) {
        while self.machine.lock().is_pending() {
            let Some(_writer) = self.writer.try_lock() else { return };
            let sent = self.queue_due(Deadline::after(Some(Duration::ZERO)));
            if sent.and_then(|()| self.socket.flush(Some(Duration::ZERO))).is_err() {
                return;
            }
        }
    }

    /// Begins a call that writes data, unless nothing more is sent: that needs no wait for room.
    fn lock_writer(&self, deadline: Deadline) -> Result<MutexGuard<'_, ()>> {
        let writer = deadline.lock(&self.writer)?;
        let checked = self.machine.lock().check_send();
        if let Err(error) = checked {
            self.unlock(writer);
            return Err(error);
        }
        Ok(writer)
    }

    /// Ends a call that writes. What others have found to be sent meanwhile is sent.
    fn unlock(&self, writer: MutexGuard<'_, ()>) {
        drop(writer);
        self.send_due();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("socket", &self.socket).finish_non_exhaustive()
    }
}
