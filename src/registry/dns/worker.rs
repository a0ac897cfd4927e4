//! The thread that asks DNS.

use super::anchors::Anchors;
use super::cache::{Cache, Records};
use super::proof::look;
use super::servers::Servers;
use crate::error::{Error, Result};
use crate::sys::ForkGuard;
use crate::sys::spawn;
use hickory_resolver::proto::rr::Name;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc as jobs, watch};

/// Names asked for at once; further ones wait.
const AT_ONCE: usize = 256;
/// Names that wait; further ones fail.
const WAITING: usize = 1024;
/// Those who wait for the answer to one name; further ones fail.
const JOINED: usize = 1024;
/// Names of clients of one source that are asked for or wait; further ones fail. So a source has no
/// more than a quarter of what is asked for at once, whatever becomes of its clients meanwhile.
const OF_ONE_SOURCE: usize = AT_ONCE / 4;
/// Between one try and the next, so that one that fails at once is not repeated without end.
const PAUSE: Duration = Duration::from_millis(50);

/// Told to all who wait for it, when there is one.
type Answer = Option<Result<Records>>;

/// The names that are asked for or wait, each with those who wait for its answer.
type Questions = Mutex<HashMap<Name, Arc<watch::Sender<Answer>>>>;

fn lock(questions: &Questions) -> MutexGuard<'_, HashMap<Name, Arc<watch::Sender<Answer>>>> {
    questions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One who waits for the answer to a question.
struct Job {
    name: Name,
    question: Arc<watch::Sender<Answer>>,
    /// Whether nobody asked before.
    first: bool,
    answer: watch::Receiver<Answer>,
    /// When whoever asks gives up.
    until: Instant,
    tell: Tell,
}

/// Who is told what DNS says, once: if this is dropped before, that it failed.
struct Tell(Option<Box<dyn FnOnce(Result<Records>) + Send>>);

impl Tell {
    fn tell(mut self, found: Result<Records>) {
        if let Some(tell) = self.0.take() {
            tell(found);
        }
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(Err(Error::RegistryFailed));
        }
    }
}

/// Whom the thread asks, and what it does with the answers.
pub(super) struct Asking {
    pub servers: Mutex<Servers>,
    /// `None` if no answer has to be proven.
    pub anchors: Option<Anchors>,
    pub cache: Arc<Cache>,
}

/// A thread that asks, ended when dropped.
pub(super) struct Worker {
    jobs: Option<jobs::UnboundedSender<Job>>,
    questions: Arc<Questions>,
    thread: Option<JoinHandle<()>>,
    timeout: Duration,
    fork_guard: ForkGuard,
}

impl Worker {
    /// Whoever asks gives up after `timeout`.
    pub(super) fn start(asking: Asking, timeout: Duration) -> Result<Worker> {
        crate::crypto::init()?;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().map_err(|e| Error::of_file(&e))?;
        let questions = Arc::<Questions>::default();
        let (send, receive) = jobs::unbounded_channel();
        let asked = questions.clone();
        let thread = spawn("curve_tun-dns", move || run(&runtime, receive, asking, &asked))?;
        Ok(Worker {
            jobs: Some(send),
            questions,
            thread: Some(thread),
            timeout,
            fork_guard: ForkGuard::here(),
        })
    }

    /// The error of a call in a forked child.
    pub(super) fn check(&self) -> Result<()> {
        self.fork_guard.check()
    }

    /// How long to wait for an answer, of whoever would wait for `timeout`.
    pub(super) fn patience(&self, timeout: Option<Duration>) -> Duration {
        timeout.map_or(self.timeout, |timeout| timeout.min(self.timeout))
    }

    /// Asks for the keys at `name`, for the worker's timeout and `timeout` at most. Unless this
    /// fails, `tell` is told once, by the worker's thread. A name that is asked for already is not
    /// asked for again: all are told its answer. For a client, `source` is what the names of those
    /// of its source end in.
    pub(super) fn ask(
        &self,
        name: Name,
        source: Option<&Name>,
        timeout: Option<Duration>,
        tell: impl FnOnce(Result<Records>) + Send + 'static,
    ) -> Result<()> {
        self.check()?;
        let until = Instant::now() + self.patience(timeout);
        let jobs = self.jobs.as_ref().ok_or(Error::Internal)?;
        let mut questions = lock(&self.questions);
        let has_its_share =
            |source: &Name| questions.keys().filter(|asked| source.zone_of(asked)).count() >= OF_ONE_SOURCE;
        let full = questions.len() >= AT_ONCE + WAITING || source.is_some_and(has_its_share);
        let (question, first) = match questions.entry(name.clone()) {
            Entry::Occupied(asked) if asked.get().receiver_count() < JOINED => (asked.get().clone(), false),
            Entry::Vacant(free) if !full => (free.insert(Arc::new(watch::Sender::new(None))).clone(), true),
            _ => return Err(Error::RegistryFailed),
        };
        let answer = question.subscribe();
        drop(questions);
        let job = Job { name, question, first, answer, until, tell: Tell(Some(Box::new(tell))) };
        jobs.send(job).map_err(|jobs::error::SendError(mut job)| {
            job.tell.0 = None;
            Error::RegistryFailed
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.check().is_err() {
            // A forked child has no such thread: to wait for it would be to wait for ever.
            std::mem::forget(self.jobs.take());
            return std::mem::forget(thread);
        }
        drop(self.jobs.take());
        // Whoever is told by the thread may let go of the registry there: it ends when that
        // returns.
        if thread.thread().id() != thread::current().id() {
            // It can only have failed by a panic, which it has reported.
            let _ = thread.join();
        }
    }
}

fn run(
    runtime: &Runtime,
    mut jobs: jobs::UnboundedReceiver<Job>,
    asking: Asking,
    questions: &Arc<Questions>,
) {
    let (asking, turns) = (Arc::new(asking), Arc::new(Semaphore::new(AT_ONCE)));
    runtime.block_on(async {
        while let Some(job) = jobs.recv().await {
            let question = || Question {
                name: job.name.clone(),
                answer: job.question.clone(),
                questions: questions.clone(),
            };
            if job.first {
                runtime.spawn(ask(asking.clone(), turns.clone(), question()));
            }
            runtime.spawn(wait(question(), job));
        }
    });
}

/// A question as its tasks see it.
struct Question {
    name: Name,
    answer: Arc<watch::Sender<Answer>>,
    questions: Arc<Questions>,
}

impl Question {
    /// Says whether nobody waits for it any more; then it is one no longer.
    fn is_left(&self, answer: Option<watch::Receiver<Answer>>) -> bool {
        let mut questions = lock(&self.questions);
        // Nobody joins meanwhile.
        drop(answer);
        let left = self.answer.receiver_count() == 0;
        if left && questions.get(&self.name).is_some_and(|asked| Arc::ptr_eq(asked, &self.answer)) {
            questions.remove(&self.name);
        }
        left
    }
}

/// Ends a question however its task ends.
struct Asked(Question);

impl Drop for Asked {
    fn drop(&mut self) {
        let Question { name, answer, questions } = &self.0;
        let mut questions = lock(questions);
        if questions.get(name).is_some_and(|asked| Arc::ptr_eq(asked, answer)) {
            questions.remove(name);
        }
        drop(questions);
        answer.send_if_modified(|answer| {
            let unanswered = answer.is_none();
            answer.get_or_insert(Err(Error::RegistryFailed));
            unanswered
        });
    }
}

/// Looks until there is an answer, or nobody waits for it.
async fn ask(asking: Arc<Asking>, turns: Arc<Semaphore>, question: Question) {
    let asked = Asked(question);
    let Question { name, answer, .. } = &asked.0;
    let mut looking = pin!(async {
        let _turn = turns.acquire().await.map_err(|_| Error::Internal)?;
        loop {
            let upstream = asking.servers.lock().unwrap_or_else(PoisonError::into_inner).upstream();
            match look(&upstream, asking.anchors.as_ref(), name).await {
                // Those who came late wait still.
                Err(Error::Timeout) => tokio::time::sleep(PAUSE).await,
                found => return found,
            }
        }
    });
    loop {
        let mut left = pin!(answer.closed());
        let found = poll_fn(|cx| match left.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => looking.as_mut().poll(cx).map(Some),
        });
        match found.await {
            Some(found) => {
                let found = found.map(|found| asking.cache.put(name.clone(), found));
                answer.send_replace(Some(found));
                return;
            }
            None if asked.0.is_left(None) => return,
            None => {}
        }
    }
}

/// Tells one who waits the answer, or that the time is over.
async fn wait(question: Question, job: Job) {
    let Job { mut answer, until, tell, .. } = job;
    let told = match tokio::time::timeout_at(until.into(), answer.wait_for(Option::is_some)).await {
        Ok(answered) => answered.ok().and_then(|answer| answer.clone()).unwrap_or(Err(Error::RegistryFailed)),
        Err(_) => Err(Error::Timeout),
    };
    // Its place is free before it is told so.
    question.is_left(Some(answer));
    tell.tell(told);
}
