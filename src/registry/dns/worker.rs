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

/// The most names that are asked for at once; further names wait.
const AT_ONCE: usize = 256;
/// The most names that wait; further names fail.
const WAITING: usize = 1024;
/// The most callers that wait for the answer to one name; further callers fail.
const JOINED: usize = 1024;
/// The most names of clients of one source that are asked for or wait; further names fail. So one
/// source never has more than a quarter of the names that are asked for at once, whatever becomes
/// of its clients in the meantime.
const OF_ONE_SOURCE: usize = AT_ONCE / 4;
/// The pause between two tries, so that a lookup that fails at once is not repeated in a busy loop.
const PAUSE: Duration = Duration::from_millis(50);

/// The answer for all who wait for it; `None` until there is one.
type Answer = Option<Result<Records>>;

/// The names that are asked for or wait, each with the channel to those who wait for its answer.
type Questions = Mutex<HashMap<Name, Arc<watch::Sender<Answer>>>>;

fn lock(questions: &Questions) -> MutexGuard<'_, HashMap<Name, Arc<watch::Sender<Answer>>>> {
    questions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A caller that waits for the answer to a question.
struct Job {
    name: Name,
    question: Arc<watch::Sender<Answer>>,
    /// Whether this caller is the first to ask.
    first: bool,
    answer: watch::Receiver<Answer>,
    /// When the caller gives up.
    until: Instant,
    tell: Tell,
}

/// The function to call once with what DNS says. If this is dropped before the call, the function
/// gets a failure.
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

/// What the thread needs: the servers to ask, the anchors of proofs, and the cache for answers.
pub(super) struct Asking {
    pub servers: Mutex<Servers>,
    /// `None` if answers need no proof.
    pub anchors: Option<Anchors>,
    pub cache: Arc<Cache>,
}

/// A thread that asks DNS. It ends when this is dropped.
pub(super) struct Worker {
    jobs: Option<jobs::UnboundedSender<Job>>,
    questions: Arc<Questions>,
    thread: Option<JoinHandle<()>>,
    timeout: Duration,
    fork_guard: ForkGuard,
}

impl Worker {
    /// Starts the thread. Callers give up after `timeout`.
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

    /// Returns an error in a forked child.
    pub(super) fn check(&self) -> Result<()> {
        self.fork_guard.check()
    }

    /// Returns how long to wait for an answer, for a caller that would wait for `timeout`.
    pub(super) fn patience(&self, timeout: Option<Duration>) -> Duration {
        timeout.map_or(self.timeout, |timeout| timeout.min(self.timeout))
    }

    /// Asks for the keys at `name`, for at most the worker's timeout and at most `timeout`. Unless
    /// this fails, `tell` is called once, on the worker's thread. A name that is being asked for is
    /// not asked for again: all callers get its answer. For a client, `source` is the ending that
    /// the names of all clients of its source share.
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
            // A forked child does not have this thread, so waiting for it would never end.
            std::mem::forget(self.jobs.take());
            return std::mem::forget(thread);
        }
        drop(self.jobs.take());
        // A function that this thread calls may drop the registry. The thread ends when that
        // function returns.
        if thread.thread().id() != thread::current().id() {
            // The thread can only have failed by a panic, which has been reported.
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

/// A question, as its tasks see it.
struct Question {
    name: Name,
    answer: Arc<watch::Sender<Answer>>,
    questions: Arc<Questions>,
}

impl Question {
    /// Drops `answer`, and returns whether nobody waits for the question any more. If so, removes
    /// the question.
    fn is_left(&self, answer: Option<watch::Receiver<Answer>>) -> bool {
        let mut questions = lock(&self.questions);
        // Nobody can join meanwhile, because of the lock.
        drop(answer);
        let left = self.answer.receiver_count() == 0;
        if left && questions.get(&self.name).is_some_and(|asked| Arc::ptr_eq(asked, &self.answer)) {
            questions.remove(&self.name);
        }
        left
    }
}

/// Ends a question when it is dropped, however its task ends.
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

/// Looks up the name until there is an answer, or until nobody waits for it.
async fn ask(asking: Arc<Asking>, turns: Arc<Semaphore>, question: Question) {
    let asked = Asked(question);
    let Question { name, answer, .. } = &asked.0;
    let mut looking = pin!(async {
        let _turn = turns.acquire().await.map_err(|_| Error::Internal)?;
        loop {
            let upstream = asking.servers.lock().unwrap_or_else(PoisonError::into_inner).upstream();
            match look(&upstream, asking.anchors.as_ref(), name).await {
                // Callers who came late still wait.
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

/// Tells a waiting caller the answer, or that its time is over.
async fn wait(question: Question, job: Job) {
    let Job { mut answer, until, tell, .. } = job;
    let told = match tokio::time::timeout_at(until.into(), answer.wait_for(Option::is_some)).await {
        Ok(answered) => answered.ok().and_then(|answer| answer.clone()).unwrap_or(Err(Error::RegistryFailed)),
        Err(_) => Err(Error::Timeout),
    };
    // The caller's place is free before the caller is told.
    question.is_left(Some(answer));
    tell.tell(told);
}
