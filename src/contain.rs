//! Calls code of the host in such a way that a panic in it does no further harm.

use crate::error::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Makes the call; returns `Internal` if it panics, in which case the panic has been reported.
pub(crate) fn contain<R>(call: impl FnOnce() -> R) -> Result<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        // Dropping a payload may panic.
        std::mem::forget(payload);
        Error::Internal
    })
}
