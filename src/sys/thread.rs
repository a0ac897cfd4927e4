//! Threads that the library starts.

use crate::error::{Error, Result};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::thread::{self, JoinHandle};

/// Spawns a thread that receives none of the host's signals.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let blocked = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    if let Ok(before) = blocked {
        // The caller gets its own mask back; the thread keeps the one that it inherited.
        let _ = before.thread_set_mask();
    }
    thread.map_err(|_| Error::TooManyThreads)
}
