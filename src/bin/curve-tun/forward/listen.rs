//! Listening sockets of a forwarder.

use super::super::failure::Failure;
use super::address::{Address, Listen};
use super::descriptor::activated;
use nix::libc;
use nix::sys::stat::{Mode, umask};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// As many as Linux lets wait (net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// A Unix socket's path, which is removed in the end if it is still the one that was made.
pub struct Bound {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for Bound {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|id| id == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// A socket that listens, and where, as an operator reads it.
pub struct Listening {
    pub socket: Socket,
    pub at: String,
}

/// Listens at an address: at each that a name has.
pub fn listen(at: &Listen) -> Result<(Vec<Listening>, Option<Bound>), Failure> {
    let address = match at {
        Listen::Systemd(name) => return Ok((listen_activated(at, name)?, None)),
        Listen::At(address) => address,
    };
    match address {
        Address::Tcp { host, port } => Ok((listen_tcp(address, host, *port)?, None)),
        Address::Unix(path) => {
            let (socket, bound) = listen_unix(path).map_err(|error| refused(address, &error))?;
            Ok((vec![Listening { socket, at: address.to_string() }], Some(bound)))
        }
    }
}

fn listen_tcp(address: &Address, host: &str, port: u16) -> Result<Vec<Listening>, Failure> {
    let found = (host, port).to_socket_addrs().map_err(|error| {
        Failure::new(format_args!("cannot listen on {address}: {error}"))
            .hint("Give an address of this machine, [::] for all of them.")
    })?;
    let (mut sockets, mut port) = (Vec::new(), port);
    for mut at in found {
        at.set_port(port);
        let (socket, at) = bind_tcp(at).map_err(|error| refused(address, &error))?;
        // All of a name's addresses get one port.
        port = at.port();
        sockets.push(Listening { socket, at: at.to_string() });
    }
    if sockets.is_empty() {
        return Err(Failure::new(format_args!("cannot listen on {address}: it has no address")));
    }
    Ok(sockets)
}

/// Takes the sockets that the service manager listens at. Their files are its own to remove.
fn listen_activated(address: &Listen, name: &str) -> Result<Vec<Listening>, Failure> {
    let sockets = activated(name);
    if sockets.is_empty() {
        return Err(Failure::new(format_args!(
            "cannot listen on {address}: no socket of this name was passed"
        ))
        .hint("A .socket unit passes it: FileDescriptorName= is its name, and Service= names this one."));
    }
    let listening = sockets.into_iter().map(|socket| {
        socket.set_nonblocking(true)?;
        let at = socket.local_addr()?;
        let path = || at.as_pathname().map(|path| Address::Unix(path.to_owned()).to_string());
        let at = at.as_socket().map(|at| at.to_string()).or_else(path).unwrap_or_else(|| address.to_string());
        Ok(Listening { socket, at })
    });
    listening.collect::<io::Result<_>>().map_err(|error| refused(address, &error))
}

fn bind_tcp(at: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    if at.is_ipv6() {
        // [::] is every address, those of IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket().ok_or(ErrorKind::AddrNotAvailable)?;
    Ok((socket, bound))
}

/// A file of a process that is gone is replaced, and nothing else is.
fn listen_unix(path: &Path) -> io::Result<(Socket, Bound)> {
    let address = SockAddr::unix(path)?;
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
            match probe.connect(&address) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
                Err(error) if error.raw_os_error() != Some(libc::EAGAIN) => return Err(error),
                _ => return Err(ErrorKind::AddrInUse.into()),
            }
        }
        Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    // The user alone: who can connect acts with this process's key.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = socket.bind(&address);
    umask(before);
    bound?;
    let bound = Bound { path: path.to_owned(), id: identity(path)? };
    socket.listen(BACKLOG)?;
    Ok((socket, bound))
}

fn refused(address: &impl fmt::Display, error: &io::Error) -> Failure {
    let failure = Failure::new(format_args!("cannot listen on {address}: {error}"));
    match error.kind() {
        ErrorKind::AddrInUse => {
            failure.hint("Another process listens there. Stop it, or choose another address.")
        }
        ErrorKind::AlreadyExists => failure.hint("It is not a socket, and is left as it is. Choose another path."),
        ErrorKind::PermissionDenied => failure.hint(
            "Ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= in a systemd unit); a socket's folder \
             has to be writable.",
        ),
        ErrorKind::AddrNotAvailable => failure.hint("Give an address of this machine, [::] for all of them."),
        ErrorKind::NotFound => failure.hint("Make the folder first, so that only you can write in it."),
        _ => failure,
    }
}
