//! Both ends of a stream without I/O, through the C face: each does as it likes, and the bytes
//! between them are carried in pieces, or cut. What is read is what was written, and an end is an
//! end.
#![no_main]

use arbitrary::Arbitrary;
use curve_tun_fuzz::c::*;
use curve_tun_fuzz::repeatable;
use std::mem::size_of;
use std::ptr::{null, null_mut};

const OK: i32 = 0;
const INVALID_ARGUMENT: i32 = 2;
const WRONG_STATE: i32 = 3;
const TOO_LARGE: i32 = 4;
const WOULD_BLOCK: i32 = 6;
const CLOSED: i32 = 8;
const NOT_FOUND: i32 = 20;
const TRUNCATED: i32 = 52;
const ABORTED: i32 = 53;

/// The largest message that either end takes.
const MESSAGE_MAX: u32 = 200_000;

#[derive(Arbitrary, Debug)]
struct Input {
    messages: bool,
    send_high_water: u16,
    receive_high_water: u16,
    /// 0 if neither has opened the stream before the first step.
    opened: u8,
    steps: Vec<(bool, Step)>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// Writes so many bytes, or sends a message of so many.
    Send(u32),
    /// Reads at most so many bytes, or receives a message.
    Receive(u16),
    /// Carries bytes to the other end.
    Carry(u32),
    CarryAll,
    /// Has all come that the other end has to send, and reads it.
    Drain,
    Finish,
    /// Taken one time in eight, for little happens after most of these.
    Rare(u8, Rare),
}

#[derive(Arbitrary, Debug)]
enum Rare {
    Peer,
    Accept,
    Abort(u8),
    /// The transport brings nothing more.
    End,
    Free,
    OtherMode,
}

struct End {
    connection: *mut Connection,
    machine: *mut StreamMachine,
    /// Bytes that the stream has taken, and lengths of the messages that it has begun to send.
    written: usize,
    sent: Vec<usize>,
    /// The message that it has not taken whole.
    unsent: Option<usize>,
    finished: bool,
    aborted: bool,
    /// Bytes and messages that were read.
    read: usize,
    received: usize,
    ended: bool,
}

fn byte_at(place: usize) -> u8 {
    (place * 7 + place / 251) as u8
}

/// The results of honest ends, none of which breaks a rule.
fn checked(result: i32) -> i32 {
    let known = [OK, WRONG_STATE, WOULD_BLOCK, CLOSED, TRUNCATED, ABORTED];
    assert!(known.contains(&result), "result {result}");
    result
}

impl End {
    fn new(connection: *mut Connection, options: &StreamOptions) -> End {
        let mut machine = null_mut();
        // SAFETY: a live connection, and options of their size.
        assert_eq!(unsafe { curve_tun_stream_machine_new(connection, options, &mut machine) }, OK);
        End {
            connection,
            machine,
            written: 0,
            sent: Vec::new(),
            unsent: None,
            finished: false,
            aborted: false,
            read: 0,
            received: 0,
            ended: false,
        }
    }

    fn carry(&mut self, to: &mut End, most: usize) -> bool {
        let (mut bytes, mut len, mut taken) = (null(), 0, 0);
        // SAFETY: live connections; the bytes are not changed by reading into the other one.
        unsafe {
            if curve_tun_connection_pending(self.connection, &mut bytes, &mut len) != OK || len == 0 {
                return false;
            }
            let read = curve_tun_connection_read(to.connection, bytes, len.min(most), &mut taken);
            assert!(read == OK || read == CLOSED, "result {read}");
            assert_eq!(curve_tun_connection_written(self.connection, taken), OK);
        }
        taken > 0
    }

    fn write(&mut self, len: usize) {
        let bytes: Vec<u8> = (self.written..self.written + len).map(byte_at).collect();
        let mut written = usize::MAX;
        // SAFETY: a live machine or NULL, and memory of that length.
        let result =
            unsafe { curve_tun_stream_machine_write(self.machine, bytes.as_ptr(), len, &mut written) };
        checked(result);
        assert!(written <= len && (result != OK || written == len) && (written == 0 || !self.finished));
        self.written += written;
    }

    fn send(&mut self, len: usize) {
        let len = self.unsent.unwrap_or(len);
        let bytes: Vec<u8> = (0..len).map(byte_at).collect();
        // SAFETY: as above.
        let send = |len| unsafe { curve_tun_stream_machine_send_message(self.machine, bytes.as_ptr(), len) };
        let result = send(len);
        if result == TOO_LARGE {
            assert!(len > MESSAGE_MAX as usize && self.unsent.is_none());
            return;
        }
        match checked(result) {
            OK => {
                if self.unsent.take().is_none() {
                    self.sent.push(len);
                }
            }
            // Whether it has begun shows by another length, which then has no place.
            WOULD_BLOCK
                if len > 65_502 && self.unsent.is_none() && send(65_502 + len) == INVALID_ARGUMENT =>
            {
                self.unsent = Some(len);
                self.sent.push(len);
            }
            _ => {}
        }
    }

    /// Goes on with a message of which not all was taken.
    fn go_on(&mut self, messages: bool) {
        if messages && self.unsent.is_some() && !self.machine.is_null() {
            self.send(0);
        }
    }

    fn take(&mut self, messages: bool, other: &End, capacity: usize) -> i32 {
        if messages { self.receive(other) } else { self.read(other, capacity) }
    }

    fn read(&mut self, other: &End, capacity: usize) -> i32 {
        let (mut buffer, mut len) = (vec![0; capacity], usize::MAX);
        // SAFETY: as above.
        let result =
            unsafe { curve_tun_stream_machine_read(self.machine, buffer.as_mut_ptr(), capacity, &mut len) };
        if capacity == 0 {
            assert_ne!(result, OK);
            return result;
        }
        self.came(checked(result), other);
        if result != OK {
            return result;
        }
        assert!(len <= capacity);
        self.ended = len == 0;
        assert!(buffer[..len].iter().enumerate().all(|(at, byte)| *byte == byte_at(self.read + at)));
        self.read += len;
        assert!(self.read <= other.written);
        assert!(!self.ended || (other.finished && self.read == other.written), "an end before it");
        result
    }

    fn receive(&mut self, other: &End) -> i32 {
        let (mut message, mut len) = (null(), usize::MAX);
        // SAFETY: as above; the message is used before the next call.
        unsafe {
            let result = curve_tun_stream_machine_recv_message(self.machine, &mut message, &mut len);
            self.came(checked(result), other);
            if result != OK {
                return result;
            }
            if message.is_null() {
                self.ended = true;
                let all = self.received == other.sent.len() && other.unsent.is_none();
                assert!(other.finished && all, "an end before it");
                return result;
            }
            let message = std::slice::from_raw_parts(message, len);
            assert!(message.iter().enumerate().all(|(at, byte)| *byte == byte_at(at)));
            assert_eq!(other.sent.get(self.received), Some(&len));
            self.received += 1;
            result
        }
    }

    /// An end is not taken back, and nothing comes after it.
    fn came(&self, result: i32, other: &End) {
        assert!(!self.ended || self.machine.is_null() || result == OK || result == WRONG_STATE);
        assert!(result != ABORTED || other.aborted);
    }

    fn finish(&mut self) {
        // SAFETY: a live machine or NULL.
        let result = checked(unsafe { curve_tun_stream_machine_finish_write(self.machine) });
        self.finished |= result == OK || result == WOULD_BLOCK;
    }

    fn step(&mut self, step: Step, messages: bool, other: &mut End) {
        // SAFETY: live objects, one call at a time; a machine that is freed is NULL from then on.
        unsafe {
            // NULL is tried by another target.
            if self.machine.is_null() && !matches!(step, Step::Carry(_) | Step::CarryAll) {
                return;
            }
            match step {
                Step::Send(len) if messages => self.send(len as usize % 210_000),
                Step::Send(len) => self.write(len as usize % 200_000),
                Step::Receive(capacity) => {
                    self.take(messages, other, capacity.into());
                }
                Step::Carry(count) => {
                    self.carry(other, count as usize);
                }
                Step::CarryAll => while self.carry(other, usize::MAX) {},
                Step::Drain => {
                    while other.carry(self, usize::MAX) {
                        while !self.ended && self.take(messages, other, 10_000) == OK {}
                        other.go_on(messages);
                    }
                }
                Step::Finish => self.finish(),
                Step::Rare(32.., _) => {}
                Step::Rare(_, Rare::Peer) => {
                    checked(curve_tun_stream_machine_peer(self.machine, null_mut()));
                }
                Step::Rare(_, Rare::Accept) => {
                    checked(curve_tun_stream_machine_accept(self.machine));
                }
                Step::Rare(_, Rare::Abort(code)) => {
                    let result = curve_tun_stream_machine_abort(self.machine, code.into(), c"why".as_ptr());
                    assert_eq!(result == OK, code < 12 && code != 7);
                    self.aborted |= result == OK;
                }
                Step::Rare(_, Rare::End) => {
                    curve_tun_connection_transport_ended(self.connection);
                }
                Step::Rare(_, Rare::Free) => {
                    curve_tun_stream_machine_free(self.machine);
                    self.machine = null_mut();
                    self.aborted = true;
                    return;
                }
                Step::Rare(_, Rare::OtherMode) => {
                    let (mut byte, mut count, mut place) = (0, 0, null());
                    let machine = self.machine;
                    let result = if messages {
                        curve_tun_stream_machine_read(machine, &mut byte, 1, &mut count)
                    } else {
                        curve_tun_stream_machine_recv_message(machine, &mut place, &mut count)
                    };
                    assert_eq!(result, WRONG_STATE);
                }
            }
            if self.machine.is_null() {
                return;
            }
            let finished = curve_tun_stream_machine_is_finished(self.machine);
            assert!(!finished || (self.finished && other.finished));
            let mut code = u32::MAX;
            let came = curve_tun_stream_machine_abort_code(self.machine, &mut code);
            assert!(came == NOT_FOUND || (came == OK && other.aborted && code < 12), "{came}");
        }
    }
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    repeatable();
    let (mut near, mut far, mut registry, mut server) = (null_mut(), null_mut(), null_mut(), null_mut());
    let (mut client, mut served, mut key) = (null_mut(), null_mut(), [0; 32]);
    let options = Options {
        size: size_of::<Options>(),
        handshake_timeout_ms: 0,
        receive_high_water: usize::from(input.receive_high_water) + 1,
        send_high_water: usize::from(input.send_high_water) + 1,
        handshakes_max: 0,
        handshakes_per_source: 0,
        nagle: 0,
        no_keep_alive: 0,
        listener: null(),
    };
    // SAFETY: every object is live from the call that makes it to the one that frees it.
    unsafe {
        assert_eq!(curve_tun_vault_generate(&mut near), OK);
        assert_eq!(curve_tun_vault_generate(&mut far), OK);
        assert_eq!(curve_tun_registry_new(&mut registry), OK);
        assert_eq!(curve_tun_vault_public_key(near, key.as_mut_ptr()), OK);
        assert_eq!(curve_tun_registry_add(registry, c"*".as_ptr(), key.as_ptr()), OK);
        assert_eq!(curve_tun_server_new(far, registry, &options, &mut server), OK);
        assert_eq!(curve_tun_vault_public_key(far, key.as_mut_ptr()), OK);
        assert_eq!(curve_tun_connection_new_client(near, key.as_ptr(), &options, &mut client), OK);
        assert_eq!(curve_tun_connection_new_server(server, c"192.0.2.7".as_ptr(), &mut served), OK);
        for (from, to) in [(client, served), (served, client), (client, served)] {
            let (mut bytes, mut len, mut taken) = (null(), 0, 0);
            assert_eq!(curve_tun_connection_pending(from, &mut bytes, &mut len), OK);
            assert_eq!(curve_tun_connection_read(to, bytes, len, &mut taken), OK);
            assert_eq!(curve_tun_connection_written(from, taken), OK);
        }
    }
    let options = StreamOptions {
        size: size_of::<StreamOptions>(),
        mode: input.messages.into(),
        message_max: MESSAGE_MAX,
        service: null(),
        client_ip: [0; 16],
        client_ip_len: 0,
        client_port: 0,
    };
    let (mut a, mut b) = (End::new(client, &options), End::new(served, &options));
    let messages = input.messages;
    if input.opened > 0 {
        a.step(Step::Rare(0, Rare::Peer), messages, &mut b);
        a.step(Step::CarryAll, messages, &mut b);
        b.step(Step::Rare(0, Rare::Peer), messages, &mut a);
        b.step(Step::Rare(0, Rare::Accept), messages, &mut a);
    }
    for (of_client, step) in input.steps.into_iter().take(100) {
        if of_client { a.step(step, messages, &mut b) } else { b.step(step, messages, &mut a) }
    }
    // SAFETY: as above; the order is of no matter.
    unsafe {
        curve_tun_connection_free(client);
        curve_tun_stream_machine_free(a.machine);
        curve_tun_stream_machine_free(b.machine);
        curve_tun_connection_free(served);
        curve_tun_server_free(server);
        curve_tun_registry_free(registry);
        curve_tun_vault_free(far);
        curve_tun_vault_free(near);
    }
});
