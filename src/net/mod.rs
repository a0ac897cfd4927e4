//! Blocking TCP for programs that want sockets.
//!
//! Each call has one deadline from start to end, however many waits it consists of:
//! [`Timeout`]. Signals do not cut a wait short, and no call raises SIGPIPE. The
//! protocol itself is in [`crate::connection`].

mod connector;
mod dial;
mod evicted;
mod handshakes;
mod io;
mod listener;
mod providers;
mod sending;
mod shake;
mod socket;
mod stream;
mod timer;

pub use connector::{Connector, KnownSocket};
pub use listener::{Listener, ListenerBuilder};
pub use socket::Socket;
#[cfg(feature = "capi")]
pub(crate) use stream::Shared as SharedStream;
pub use stream::{PendingStream, ReadHalf, Stream, WriteHalf};
pub use timer::TimedServer;

/// How long a call may take: with `None` it may wait for ever, with zero it does not wait.
pub type Timeout = Option<std::time::Duration>;
