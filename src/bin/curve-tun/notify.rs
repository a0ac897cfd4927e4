//! Notifies the service manager (`sd_notify`), if one has started the tool.

use super::failure::Failure;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

const SOCKET: &str = "NOTIFY_SOCKET";

/// Tells the service manager that clients can come.
pub fn ready() -> Result<(), Failure> {
    let Some(socket) = std::env::var_os(SOCKET) else { return Ok(()) };
    tell(&socket, b"READY=1").map_err(|e| {
        Failure::new(format_args!("cannot tell {} that it is ready: {e}", Path::new(&socket).display()))
            .hint("NOTIFY_SOCKET is for services of systemd's Type=notify. Elsewhere, unset it.")
    })
}

/// Tells the service manager that the process ends by itself.
#[cfg_attr(not(feature = "forward"), allow(dead_code, reason = "the agent ends at once"))]
pub fn stopping() {
    if let Some(socket) = std::env::var_os(SOCKET) {
        // The service manager sees the end anyway.
        let _ = tell(&socket, b"STOPPING=1");
    }
}

/// Returns how often it wants to hear that the process is alive, if it does.
#[cfg_attr(not(feature = "forward"), allow(dead_code, reason = "the agent answers its clients"))]
pub fn watchdog() -> Option<Duration> {
    let own = |pid: String| pid.parse() == Ok(std::process::id());
    if std::env::var("WATCHDOG_PID").is_ok_and(|pid| !own(pid)) {
        return None;
    }
    let micros = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    Some(Duration::from_micros(micros)).filter(|interval| !interval.is_zero())
}

/// Tells it that the process is alive, and what `systemctl status` shows.
#[cfg_attr(not(feature = "forward"), allow(dead_code, reason = "the agent answers its clients"))]
pub fn alive(status: std::fmt::Arguments) {
    if let Some(socket) = std::env::var_os(SOCKET) {
        // Who hears nothing of it restarts the process.
        let _ = tell(&socket, format!("WATCHDOG=1\nSTATUS={status}").as_bytes());
    }
}

fn tell(socket: &OsStr, what: &[u8]) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(what, &address).map(drop)
}
