//! Vaults whose calls hang until the test releases them, and what they leave in this process.

use super::wrapped::{Before, Call, Wrapped};
use curve_tun::Result;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for everything expected; a test that takes this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A gate at which calls hang until it is opened.
#[derive(Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    open: bool,
    inside: usize,
    most: usize,
    calls: usize,
}

impl Gate {
    pub fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.inside += 1;
        state.calls += 1;
        state.most = state.most.max(state.inside);
        self.changed.notify_all();
        let (mut state, _) = self.changed.wait_timeout_while(state, PATIENCE, |state| !state.open).unwrap();
        state.inside -= 1;
    }

    pub fn open(&self) {
        self.state.lock().unwrap().open = true;
        self.changed.notify_all();
    }

    /// Waits until at least this many calls hang.
    pub fn wait_until_inside(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| state.inside < count);
        assert!(!waited.unwrap().1.timed_out(), "{count} calls were not made");
    }

    pub fn most(&self) -> usize {
        self.state.lock().unwrap().most
    }

    pub fn calls(&self) -> usize {
        self.state.lock().unwrap().calls
    }
}

/// Guards a vault with this many concurrent calls.
pub struct Gated {
    at_once: usize,
    gate: Arc<Gate>,
}

pub type GatedVault = Wrapped<Gated>;

impl GatedVault {
    pub fn new(at_once: usize) -> (Arc<GatedVault>, Arc<Gate>) {
        let gate = Arc::new(Gate::default());
        (Wrapped::around(Gated { at_once, gate: gate.clone() }), gate)
    }
}

impl Before for Gated {
    fn call(&self, _: &Call) -> Result<()> {
        self.gate.pass();
        Ok(())
    }

    fn max_concurrency(&self) -> Option<usize> {
        Some(self.at_once)
    }
}

/// Returns how many threads of this process ask vaults and registries.
pub fn asking() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // One may have ended since it was listed.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("curve_tun-bloc")).count()
}

pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}
