//! Blocking TCP for programs that want sockets.
//!
//! Every wait has a deadline that holds from the start of a call to its end:
//! [`Timeout`]. Interrupting signals do not cut a wait short, and none of these
//! calls raises SIGPIPE. The protocol is not here but in [`crate::connection`].

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
pub use stream::{PendingStream, ReadHalf, Stream, WriteHalf};
pub use timer::TimedServer;

/// How long a call may take: `None` for ever, zero to see what can be done at once.
pub type Timeout = Option<std::time::Duration>;
