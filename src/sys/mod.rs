//! What the other modules need from the operating system: deadlines and waiting, threads, forks,
//! who may read a file, folders, and the limit of a file's size.

mod deadline;
mod exposure;
mod folder;
#[allow(unsafe_code)]
mod fork;
mod size_limit;
#[cfg(any(feature = "dns", feature = "net", feature = "nif"))]
mod thread;

pub(crate) use deadline::Deadline;
pub use exposure::{Exposure, secret_exposure};
pub(crate) use exposure::{exposed, exposure};
pub(crate) use folder::sync_entry;
pub(crate) use fork::{ForkGuard, watch_forks};
pub(crate) use size_limit::writing;
#[cfg(any(feature = "dns", feature = "net", feature = "nif"))]
pub(crate) use thread::spawn;
