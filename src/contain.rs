//! Code of the host's, called where a panic in it is not to take others along.

use crate::error::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Makes the call; `Internal` if it panics, which has been reported.
pub(crate) fn contain<R>(call: impl FnOnce() -> R) -> Result<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        // A payload may panic when it is dropped.
        std::mem::forget(payload);
        Error::Internal
    })
}
