//! A server under mixed traffic for a long time: `make soak MINUTES=30`.
//!
//! The server is a separate process with a [`net::Listener`](curve_tun::net::Listener). 2,000
//! honest clients stay connected, talk, leave and come back at random, while its registry changes
//! and its minute keys rotate every second. In every other span of time a tenth of its traffic is
//! hostile. At the end every honest message has come back once and in order, memory and descriptors
//! are flat, and honest throughput beside the hostile tenth is at least 0.9 of what it is without.

mod honest;
mod hostile;
mod server;
mod watch;

use curve_tun::PublicKey;
use curve_tun::vault::MemoryVault;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use watch::Watch;

/// Connections that are open at any time.
const CONNECTIONS: usize = 2000;
/// Threads of honest clients.
const WORKERS: usize = 8;
/// The length of the alternating spans without and with hostile clients.
const SPAN: Duration = Duration::from_secs(5);
/// After two spans all clients pause until the server has given idle buffers back and has been
/// measured.
const REST: Duration = Duration::from_secs(3);
/// One in this many events of a hostile span is hostile.
const HOSTILE_ONE_IN: u64 = 10;

/// Shared by all threads.
struct Field {
    port: u16,
    server_key: PublicKey,
    /// The clients that are let in.
    friends: Vec<Arc<MemoryVault>>,
    end: AtomicBool,
    /// Actions of honest clients: connecting, or sending a batch and receiving it.
    actions: AtomicU64,
    /// Messages that came back.
    echoes: AtomicU64,
    /// Attacks that are due.
    attacks_due: AtomicU64,
    hostile: AtomicBool,
    resting: AtomicBool,
}

impl Field {
    fn ended(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// Counts an action of an honest client: in a hostile span its share of attacks becomes due.
    fn acted(&self) {
        let actions = self.actions.fetch_add(1, Ordering::Relaxed) + 1;
        if self.hostile.load(Ordering::Relaxed) && actions.is_multiple_of(HOSTILE_ONE_IN - 1) {
            self.attacks_due.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Honest throughput in spans of one kind.
#[derive(Default)]
struct Spans {
    echoes: u64,
    time: Duration,
}

impl Spans {
    fn rate(&self) -> f64 {
        self.echoes as f64 / self.time.as_secs_f64()
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match arguments.next().as_deref() {
        Some(server::ARGUMENT) => server::run(),
        Some(minutes) => soak(minutes.parse().expect("minutes: a number")),
        None => soak(30.0),
    }
}

fn soak(minutes: f64) {
    let (field, mut server) = server::start();
    let watch = Watch::new(server.id());
    let at_start = watch.descriptors();
    let (mut alone, mut beset) = (Spans::default(), Spans::default());
    let (mut samples, mut attacks) = (Vec::new(), hostile::Made::default());
    let started = Instant::now();
    thread::scope(|scope| {
        // A thread that panics makes the others end, so that the panic is reported.
        let workers: Vec<_> = (0..WORKERS).map(|n| scope.spawn(move || honest::work(field, n))).collect();
        let attacker = scope.spawn(|| hostile::work(field));
        while !honest::all_are_connected() {
            assert!(started.elapsed() < Duration::from_secs(120), "the clients do not get connected");
            thread::sleep(Duration::from_millis(50));
        }
        println!("{CONNECTIONS} clients connected after {:.1} s", started.elapsed().as_secs_f64());
        let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
        while Instant::now() < end && !workers.iter().any(|worker| worker.is_finished()) {
            for (hostile, spans) in [(false, &mut alone), (true, &mut beset)] {
                field.hostile.store(hostile, Ordering::Relaxed);
                let (echoes, begun) = (field.echoes.load(Ordering::Relaxed), Instant::now());
                thread::sleep(SPAN);
                spans.echoes += field.echoes.load(Ordering::Relaxed) - echoes;
                spans.time += begun.elapsed();
            }
            field.hostile.store(false, Ordering::Relaxed);
            field.resting.store(true, Ordering::Relaxed);
            thread::sleep(REST);
            samples.push(watch.sample());
            println!("{}", samples[samples.len() - 1]);
            field.resting.store(false, Ordering::Relaxed);
        }
        field.end.store(true, Ordering::Relaxed);
        attacks = attacker.join().expect("the attacker ends");
        for worker in workers {
            worker.join().expect("every honest message came back, once and in order");
        }
    });
    let descriptors_back = watch.wait_for_descriptors(at_start);
    server.end();

    println!(
        "{} honest messages came back, each once and in order; {} actions; {attacks}",
        field.echoes.load(Ordering::Relaxed),
        field.actions.load(Ordering::Relaxed),
    );
    let ratio = beset.rate() / alone.rate();
    println!(
        "honest messages/s: {:.0} alone, {:.0} beside the hostile tenth, {ratio:.3}",
        alone.rate(),
        beset.rate()
    );
    let flat = watch::report(&samples);
    println!("descriptors: {at_start} at the start, {descriptors_back} at the end");
    assert!(flat, "memory and descriptors are flat");
    assert_eq!(at_start, descriptors_back, "descriptors are back to the start");
    assert!(ratio >= 0.9, "hostile clients cost honest ones more than a tenth");
    assert!(attacks.all_kinds(), "every attack was made");
    println!("passed");
}
