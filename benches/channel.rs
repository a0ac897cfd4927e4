//! Sealing and opening messages through a [`Connection`], framing included, beside libsodium's own
//! `crypto_box_easy_afternm` and `crypto_box_open_easy_afternm` in the same run.
//!
//! `cargo bench --bench channel` prints criterion's figures, then a table whose ratios come from rounds in which the
//! two sides take turns, so that a busy machine slows both alike.

#[path = "../tests/support/mod.rs"]
mod support;

use criterion::{BenchmarkId, Criterion, Throughput};
use curve_tun::connection::Connection;
use std::hint::black_box;
use std::time::{Duration, Instant};
use support::World;
use support::sodium::{BoxKey, NONCE_BYTES, TAG_BYTES};

const SIZES: [usize; 5] = [0, 64, 1024, 16384, 65503];
/// The counter of the first message.
const FIRST: u64 = 2;

const PAGE: usize = 4096;

/// Bytes that a transport brings, kept at the same offset in a page as the place they are copied
/// to: some processors copy large blocks twenty times slower when the destination is slightly ahead
/// of the source in its page.
struct Incoming {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Incoming {
    fn new(bytes: &[u8]) -> Incoming {
        Incoming { memory: [bytes, &[0; PAGE]].concat(), start: 0, len: bytes.len() }
    }

    /// Copies what follows the first `given` bytes to `room`, as much as fits, and returns how
    /// much.
    fn copy(&mut self, given: usize, room: &mut [u8]) -> usize {
        let place = |bytes: &[u8]| bytes.as_ptr() as usize % PAGE;
        let wanted = place(room).wrapping_sub(given).wrapping_sub(place(&self.memory)) % PAGE;
        if given == 0 && self.start != wanted {
            self.memory.copy_within(self.start..self.start + self.len, wanted);
            self.start = wanted;
        }
        let rest = &self.memory[self.start + given..self.start + self.len];
        let count = room.len().min(rest.len());
        room[..count].copy_from_slice(black_box(&rest[..count]));
        count
    }
}

/// The two sides of a comparison at one size.
struct Sides {
    size: usize,
    sender: Connection,
    receiver: Connection,
    /// The output of `sender` for `message` under the first counter.
    frame: Incoming,
    message: Vec<u8>,
    reference: BoxKey,
    nonce: [u8; NONCE_BYTES],
    sealed: Incoming,
    /// The buffers that the reference seals to, and that its transport reads to.
    scratch: Vec<u8>,
    opened: Vec<u8>,
}

impl Sides {
    fn new(size: usize) -> Sides {
        let (mut sender, receiver) = World::new().connected();
        let message: Vec<u8> = (0..size).map(|i| i as u8).collect();
        sender.send(&message).unwrap();
        let frame = sender.send_buffer().to_vec();
        sender.sent(frame.len());
        let (reference, nonce) = (BoxKey::random(), [7; NONCE_BYTES]);
        let mut sealed = vec![0; size + TAG_BYTES];
        reference.seal(&nonce, &message, &mut sealed);
        let (frame, sealed) = (Incoming::new(&frame), Incoming::new(&sealed));
        let (scratch, opened) = (vec![0; size + TAG_BYTES], vec![0; size]);
        Sides { size, sender, receiver, frame, message, reference, nonce, sealed, scratch, opened }
    }

    fn seal(&mut self) {
        self.sender.send(black_box(&self.message)).unwrap();
        let count = black_box(self.sender.send_buffer()).len();
        self.sender.sent(count);
    }

    fn seal_reference(&mut self) {
        self.nonce[NONCE_BYTES - 1] = self.nonce[NONCE_BYTES - 1].wrapping_add(1);
        self.reference.seal(&self.nonce, black_box(&self.message), &mut self.scratch);
        black_box(&self.scratch);
    }

    /// Opens the same frame again and again: its counter is set back each time.
    fn open(&mut self) {
        self.receiver.set_counters(FIRST, FIRST);
        let mut given = 0;
        while given < self.frame.len {
            let count = self.frame.copy(given, self.receiver.recv_buffer().unwrap());
            self.receiver.received(count).unwrap();
            given += count;
        }
        assert_eq!(black_box(self.receiver.peek().unwrap()).len(), self.size);
        self.receiver.consume();
    }

    /// The copy stands for the transport's reading, as in [`Sides::open`]. Not opened in place: a
    /// box's tag precedes its ciphertext, and libsodium would move all of it.
    fn open_reference(&mut self) {
        assert_eq!(self.sealed.copy(0, &mut self.scratch), self.sealed.len);
        let nonce = [7; NONCE_BYTES];
        assert!(self.reference.open(&nonce, &self.scratch, &mut self.opened));
        black_box(&self.opened);
    }
}

type Step = fn(&mut Sides);
const OPERATIONS: [(&str, Step, Step); 2] =
    [("seal", Sides::seal, Sides::seal_reference), ("open", Sides::open, Sides::open_reference)];

fn statistics(criterion: &mut Criterion) {
    for (operation, ours, reference) in OPERATIONS {
        let mut group = criterion.benchmark_group(operation);
        for size in SIZES {
            let mut sides = Sides::new(size);
            group.throughput(Throughput::Bytes(size as u64));
            for (who, step) in [("curve_tun", ours), ("libsodium", reference)] {
                group.bench_function(BenchmarkId::new(who, size), |bench| bench.iter(|| step(&mut sides)));
            }
        }
        group.finish();
    }
}

/// Returns the nanoseconds of one `step`, averaged over about a millisecond of them.
fn time(sides: &mut Sides, step: Step) -> f64 {
    let count = 1 + 1_000_000 / (300 + sides.size);
    let start = Instant::now();
    (0..count).for_each(|_| step(sides));
    start.elapsed().as_nanos() as f64 / count as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints a table, or rows for the report of all benches.
fn table(as_rows: bool) {
    if !as_rows {
        println!("{:10} {:>7} {:>14} {:>14} {:>7}", "", "bytes", "curve_tun, ns", "libsodium, ns", "ratio");
    }
    for (operation, ours, reference) in OPERATIONS {
        for size in SIZES {
            let mut sides = Sides::new(size);
            let rounds: Vec<(f64, f64)> =
                (0..301).map(|_| (time(&mut sides, ours), time(&mut sides, reference))).collect();
            let a = median(rounds.iter().map(|r| r.0).collect());
            let b = median(rounds.iter().map(|r| r.1).collect());
            let ratio = median(rounds.iter().map(|r| r.0 / r.1).collect());
            if as_rows {
                // The reference's figure is derived from the ratio, which is steadier than the two
                // medians.
                println!(
                    "curve_tun,{operation},{size},{a:.1},ns\nlibsodium,{operation},{size},{:.1},ns",
                    a / ratio
                );
            } else {
                println!("{operation:10} {size:>7} {a:>14.0} {b:>14.0} {ratio:>7.3}");
            }
        }
    }
}

fn main() {
    if std::env::args().any(|arg| arg == "--rows") {
        return table(true);
    }
    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    statistics(&mut criterion);
    criterion.final_summary();
    // Not under `cargo test`, which only runs each benchmark once to check that it works.
    if std::env::args().any(|arg| arg == "--bench") {
        table(false);
    }
}
