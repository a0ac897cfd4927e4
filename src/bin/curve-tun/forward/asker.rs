//! Threads that ask a vault or a registry that takes a while, such as an agent's.

use curve_tun::connection::{Answer, Request};
use curve_tun::registry::Registry;
use curve_tun::vault::Vault;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;

/// How many questions are asked at once. An agent that hangs holds up handshakes, and nothing else.
const THREADS: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

/// The threads, which are started with the first question.
#[derive(Default)]
pub struct Asker(OnceLock<Option<Mutex<mpsc::Sender<Job>>>>);

impl Asker {
    /// Has a question asked, and its answer told on another thread. Gives it back at once where
    /// there are no threads to ask it.
    pub fn ask(
        &self,
        request: Request,
        vault: Arc<dyn Vault>,
        registry: Option<Arc<dyn Registry>>,
        tell: impl FnOnce(Answer) + Send + 'static,
    ) {
        let ask = move || {
            tell(match registry {
                Some(registry) => request.perform(&*vault, &*registry),
                None => request.perform_by_vault(&*vault),
            });
        };
        match self.0.get_or_init(start) {
            Some(jobs) => {
                // The threads end after this has.
                let _ = jobs.lock().unwrap_or_else(PoisonError::into_inner).send(Box::new(ask));
            }
            // Slow, but right.
            None => ask(),
        }
    }
}

fn start() -> Option<Mutex<mpsc::Sender<Job>>> {
    let (sender, jobs) = mpsc::channel::<Job>();
    let jobs = Arc::new(Mutex::new(jobs));
    let started = (0..THREADS).filter(|n| {
        let jobs = jobs.clone();
        let work = move || {
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                match job {
                    Ok(job) => job(),
                    Err(_) => return,
                }
            }
        };
        thread::Builder::new().name(format!("asker {n}")).spawn(work).is_ok()
    });
    (started.count() > 0).then(|| Mutex::new(sender))
}
