//! Connecting to an address without blocking: its name is resolved, and each of its addresses is
//! tried.

use super::address::Address;
use nix::libc;
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the addresses of a name are kept.
const KEPT: Duration = Duration::from_secs(5);
/// How many names are kept; the configuration has far fewer.
const NAMES_MAX: usize = 1024;
/// How long one address may take while there are others.
const PATIENCE: Duration = Duration::from_secs(3);

/// The addresses of a name, or the sentence that says why there are none.
pub type Resolved = Result<Arc<[SocketAddr]>, String>;
type Waiting = Box<dyn FnOnce(Resolved) + Send>;

/// Resolves names on threads of their own, one for each name that is asked for.
#[derive(Clone, Default)]
pub struct Resolver(Arc<Mutex<HashMap<(String, u16), Lookup>>>);

enum Lookup {
    /// Those who wait for it.
    Asked(Vec<Waiting>),
    Known(Instant, Resolved),
}

impl Resolver {
    /// Returns the addresses of a name if they are known, else has `tell` called with them, on
    /// another thread.
    pub fn resolve(
        &self,
        host: &str,
        port: u16,
        tell: impl FnOnce(Resolved) + Send + 'static,
    ) -> Option<Resolved> {
        if let Ok(address) = host.parse() {
            return Some(Ok([SocketAddr::new(address, port)].into()));
        }
        let name = (host.to_owned(), port);
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match names.get_mut(&name) {
            Some(Lookup::Known(at, known)) if at.elapsed() < KEPT => return Some(known.clone()),
            Some(Lookup::Asked(waiting)) => {
                waiting.push(Box::new(tell));
                return None;
            }
            _ => {}
        }
        if names.len() >= NAMES_MAX {
            names.retain(|_, lookup| !matches!(lookup, Lookup::Known(at, _) if at.elapsed() >= KEPT));
        }
        names.insert(name.clone(), Lookup::Asked(vec![Box::new(tell)]));
        let resolver = self.clone();
        let asked = name.clone();
        let looks = move || resolver.answer(asked.clone(), look_up(&asked));
        if let Err(error) = thread::Builder::new().name("resolver".into()).spawn(looks) {
            // Who asked is told here: it is the only one so far.
            names.remove(&name);
            return Some(Err(format!("cannot resolve {host}: {error}")));
        }
        None
    }

    fn answer(&self, name: (String, u16), resolved: Resolved) {
        let lookup = Lookup::Known(Instant::now(), resolved.clone());
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, lookup);
        if let Some(Lookup::Asked(waiting)) = before {
            waiting.into_iter().for_each(|tell| tell(resolved.clone()));
        }
    }
}

fn look_up((host, port): &(String, u16)) -> Resolved {
    match (host.as_str(), *port).to_socket_addrs() {
        Ok(addresses) => {
            let addresses: Arc<[SocketAddr]> = addresses.collect();
            if addresses.is_empty() { Err(format!("{host} has no address")) } else { Ok(addresses) }
        }
        Err(error) => Err(format!("cannot resolve {host}: {error}")),
    }
}

/// What has become of an attempt to connect.
pub enum Dialed {
    /// It goes on; [`Dial::new_socket`] may have a socket to wait for.
    Pending,
    Connected(Socket),
    /// No address is left; the last error.
    Failed(io::Error),
}

/// An attempt to connect, to one address after another.
pub struct Dial {
    left: std::vec::IntoIter<SockAddr>,
    socket: Option<Socket>,
    /// Whether nobody waits for the socket yet.
    new: bool,
    until: Instant,
    last: io::Error,
}

impl Dial {
    /// Begins with addresses that were resolved. Call [`Dial::go_on`] next.
    pub fn to_resolved(addresses: &[SocketAddr]) -> Dial {
        Dial::to(addresses.iter().copied().map(SockAddr::from).collect())
    }

    /// Begins with the path of a Unix socket.
    pub fn to_path(path: &std::path::Path) -> io::Result<Dial> {
        Ok(Dial::to(vec![SockAddr::unix(path)?]))
    }

    fn to(addresses: Vec<SockAddr>) -> Dial {
        let last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        Dial { left: addresses.into_iter(), socket: None, new: false, until: Instant::now(), last }
    }

    /// Returns the socket that is being connected, once for each.
    pub fn new_socket(&mut self) -> Option<&Socket> {
        self.socket.as_ref().filter(|_| std::mem::take(&mut self.new))
    }

    /// Returns the socket that is being connected.
    pub fn socket(&self) -> Option<&Socket> {
        self.socket.as_ref()
    }

    /// Returns when to call [`Dial::go_on`] at the latest; `None` if this is the last address.
    pub fn deadline(&self) -> Option<Instant> {
        (self.left.len() > 0).then_some(self.until)
    }

    /// Goes on after the socket has become ready, or its time has come.
    pub fn go_on(&mut self, now: Instant) -> Dialed {
        if let Some(socket) = &self.socket {
            match connected(socket) {
                Ok(true) => return self.socket.take().map_or(Dialed::Pending, Dialed::Connected),
                Ok(false) if self.deadline().is_none_or(|until| now < until) => return Dialed::Pending,
                Ok(false) => self.last = io::Error::from(io::ErrorKind::TimedOut),
                Err(error) => self.last = error,
            }
            self.socket = None;
        }
        for address in self.left.by_ref() {
            self.until = now + PATIENCE;
            match begin(&address) {
                Ok((socket, true)) => return Dialed::Connected(socket),
                Ok((socket, false)) => {
                    (self.socket, self.new) = (Some(socket), true);
                    return Dialed::Pending;
                }
                Err(error) => self.last = error,
            }
        }
        Dialed::Failed(std::mem::replace(&mut self.last, io::Error::from(io::ErrorKind::Other)))
    }
}

/// Begins to connect; says whether it is connected at once.
fn begin(address: &SockAddr) -> io::Result<(Socket, bool)> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(address.domain(), kind, None)?;
    match socket.connect(address) {
        Ok(()) => connected(&socket).map(|connected| (socket, connected)),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok((socket, false)),
        Err(error) => Err(error),
    }
}

fn connected(socket: &Socket) -> io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        // TCP can connect a socket to itself, where nobody listens at an ephemeral port.
        Ok(peer) if peer.is_ipv4() || peer.is_ipv6() => {
            if peer == socket.local_addr()? {
                Err(io::ErrorKind::ConnectionRefused.into())
            } else {
                Ok(true)
            }
        }
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sets what every TCP socket of a pair has: small writes leave at once, and an idle peer that is
/// gone is found within two minutes.
pub fn set_options(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    if !matches!(socket.local_addr()?.domain(), Domain::IPV4 | Domain::IPV6) {
        return Ok(());
    }
    let quiet = Duration::from_secs(60);
    let keepalive = socket2::TcpKeepalive::new().with_time(quiet).with_interval(quiet / 4).with_retries(4);
    socket.set_tcp_nodelay(true)?;
    // No user timeout: Linux counts it while a living peer's window is closed, too.
    socket.set_tcp_keepalive(&keepalive)
}

/// Says what to do about an address that an operator gave: the error of connecting to it, in the
/// words of the system, with what it mostly means.
pub fn explain(address: &Address, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("cannot connect to {address}: nobody listens there"),
        io::ErrorKind::TimedOut => {
            format!("cannot connect to {address}: no answer; a firewall may drop it, or the host is down")
        }
        io::ErrorKind::NotFound => format!("cannot connect to {address}: there is no such socket"),
        _ => format!("cannot connect to {address}: {error}"),
    }
}

/// Says whether an error is one of this process or machine, and not of where it connected to.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN | libc::EADDRNOTAVAIL)
    )
}
