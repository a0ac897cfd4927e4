//! The thread that asks DNS.

use super::record::{KeyRecord, parse};
use crate::crypto::Origin;
use crate::error::{Error, Result};
use crate::thread::spawn;
use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc as jobs};

/// Names asked for at once; further ones wait.
const AT_ONCE: usize = 256;
/// Names that wait; further ones fail.
const WAITING: usize = 1024;
/// The most keys that are taken from one name.
const KEYS_MAX: usize = 64;
/// The most CNAMEs that are followed in an answer.
const CHAIN_MAX: usize = 8;

/// What DNS says of a name, and for how long.
pub(super) struct Found {
    pub records: Vec<KeyRecord>,
    pub until: Option<Instant>,
}

struct Job {
    name: Name,
    /// When whoever asks gives up.
    until: Instant,
    tell: Tell,
    /// Its place among those that are asked for or wait.
    place: OwnedSemaphorePermit,
}

/// Who is told what DNS says, once: if this is dropped before, that it failed.
struct Tell(Option<Box<dyn FnOnce(Result<Found>) + Send>>);

impl Tell {
    fn tell(mut self, found: Result<Found>) {
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

/// A thread with a resolver, ended when dropped.
pub(super) struct Worker {
    jobs: Option<jobs::UnboundedSender<Job>>,
    places: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
    timeout: Duration,
    origin: Origin,
}

impl Worker {
    /// Each question is given up after `timeout`.
    pub(super) fn start(resolver: TokioResolver, validate: bool, timeout: Duration) -> Result<Worker> {
        crate::crypto::init()?;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().map_err(|e| Error::of_file(&e))?;
        let places = Arc::new(Semaphore::new(AT_ONCE + WAITING));
        let (send, receive) = jobs::unbounded_channel();
        let thread = spawn("curve_tun-dns", move || run(&runtime, receive, resolver, validate))?;
        Ok(Worker { jobs: Some(send), places, thread: Some(thread), timeout, origin: Origin::here() })
    }

    /// The error of a call in a forked child.
    pub(super) fn check(&self) -> Result<()> {
        self.origin.check()
    }

    /// How long to wait for an answer, of whoever would wait for `timeout`.
    pub(super) fn patience(&self, timeout: Option<Duration>) -> Duration {
        timeout.map_or(self.timeout, |timeout| timeout.min(self.timeout))
    }

    /// Asks for the keys at `name`, for the worker's timeout and `timeout` at most. Unless this fails, `tell` is told
    /// once, by the worker's thread.
    pub(super) fn ask(
        &self,
        name: Name,
        timeout: Option<Duration>,
        tell: impl FnOnce(Result<Found>) + Send + 'static,
    ) -> Result<()> {
        self.check()?;
        let until = Instant::now() + self.patience(timeout);
        let jobs = self.jobs.as_ref().ok_or(Error::Internal)?;
        let place = self.places.clone().try_acquire_owned().map_err(|_| Error::RegistryFailed)?;
        let job = Job { name, until, tell: Tell(Some(Box::new(tell))), place };
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
        // Whoever is told by the thread may let go of the registry there: it ends when that returns.
        if thread.thread().id() != thread::current().id() {
            // It can only have failed by a panic, which it has reported.
            let _ = thread.join();
        }
    }
}

fn run(runtime: &Runtime, mut jobs: jobs::UnboundedReceiver<Job>, resolver: TokioResolver, validate: bool) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    runtime.block_on(async {
        while let Some(Job { name, until, tell, place }) = jobs.recv().await {
            let (resolver, turns) = (resolver.clone(), turns.clone());
            runtime.spawn(async move {
                let look = async {
                    let _turn = turns.acquire().await.map_err(|_| Error::Internal)?;
                    look(&resolver, &name, validate).await
                };
                let looked = tokio::time::timeout_at(until.into(), look).await;
                drop(place);
                tell.tell(looked.unwrap_or(Err(Error::Timeout)));
            });
        }
    });
}

async fn look(resolver: &TokioResolver, name: &Name, validate: bool) -> Result<Found> {
    let lookup = match resolver.lookup(name.clone(), RecordType::TXT).await {
        Ok(lookup) => lookup,
        Err(NetError::Dns(DnsError::NoRecordsFound(_))) => return Ok(Found { records: vec![], until: None }),
        Err(NetError::Dns(DnsError::Nsec { proof, .. })) if proof != Proof::Bogus && !validate => {
            return Ok(Found { records: vec![], until: None });
        }
        Err(NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { .. })) => return Err(Error::NotValidated),
        Err(NetError::Timeout) => return Err(Error::Timeout),
        Err(_) => return Err(Error::RegistryFailed),
    };
    let answers = lookup.answers();
    let proven = |record: &Record| record.record_type() == RecordType::RRSIG || record.proof == Proof::Secure;
    if validate && !answers.iter().all(proven) {
        return Err(Error::NotValidated);
    }
    Ok(Found { records: keys_at(name, answers), until: Some(lookup.valid_until()) })
}

/// The keys at `name`, or at the name that it is an alias of. A record of any other name, however well signed, is no
/// answer.
fn keys_at(name: &Name, answers: &[Record]) -> Vec<KeyRecord> {
    let owner = end_of_chain(name, answers);
    let here = answers.iter().filter(|record| record.name == owner);
    let keys = here.filter_map(|record| match &record.data {
        RData::TXT(text) => parse(&text.txt_data.concat()),
        _ => None,
    });
    keys.take(KEYS_MAX).collect()
}

fn end_of_chain(name: &Name, answers: &[Record]) -> Name {
    let mut name = name.clone();
    for _ in 0..CHAIN_MAX {
        let alias = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == name => Some(&target.0),
            _ => None,
        });
        match alias {
            Some(target) => name = target.clone(),
            None => break,
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::PublicKey;
    use hickory_resolver::proto::rr::rdata::{CNAME, TXT};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn text(owner: &str, key: u8) -> Record {
        let text = format!("v=ct1; k={}", PublicKey([key; 32]));
        Record::from_rdata(name(owner), 60, RData::TXT(TXT::new(vec![text])))
    }

    fn alias(owner: &str, target: &str) -> Record {
        Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
    }

    fn keys(answers: &[Record]) -> Vec<u8> {
        keys_at(&name("a.test."), answers).iter().map(|record| record.key.0[0]).collect()
    }

    #[test]
    fn only_records_of_the_name_that_was_asked_for_are_taken() {
        assert_eq!(keys(&[text("a.test.", 1), text("b.test.", 2), text("A.TEST.", 3)]), [1, 3]);
        assert_eq!(keys(&[text("b.test.", 2)]), []);
        assert_eq!(keys(&[text("b.test.", 2), alias("a.test.", "b.test."), text("a.test.", 1)]), [2]);
        assert_eq!(keys(&[alias("c.test.", "b.test."), text("b.test.", 2)]), []);
        let circle = [alias("a.test.", "b.test."), alias("b.test.", "a.test.")];
        assert_eq!(keys(&circle), []);
    }

    #[test]
    fn a_name_with_very_many_keys_gives_the_first() {
        let many: Vec<_> = (0..100).map(|key| text("a.test.", key)).collect();
        assert_eq!(keys(&many), (0..64).collect::<Vec<_>>());
    }
}
