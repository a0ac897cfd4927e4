//! What a process has done, in numbers: for the log at its end, and for Prometheus meanwhile.
//!
//! No label tells who came: keys and addresses are in the log alone.

use super::address::{Address, Listen};
use super::ending::Ending;
use super::listen::{Bound, Listening, listen};
use crate::failure::Failure;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use socket2::Socket;
use std::fmt;
use std::io::{Read, Write};
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How a connection has ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct How {
    how: &'static str,
}

/// Where bytes went.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Way {
    direction: &'static str,
}

/// The numbers of a process.
pub struct Metrics {
    registry: Registry,
    pub accepted: Counter,
    pub opened: Counter,
    pub open: Gauge,
    ended: Family<How, Counter>,
    bytes: Family<Way, Counter>,
}

/// Every way to end, in the order in which they are shown.
const ALL: [&str; 9] =
    ["done", "unused", "cut", "local_reset", "aborted", "time_limit", "unreachable", "refused", "shut_down"];

impl Metrics {
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("curve_tun");
        let (accepted, opened, open) = (Counter::default(), Counter::default(), Gauge::default());
        let (ended, bytes) = (Family::<How, Counter>::default(), Family::<Way, Counter>::default());
        registry.register("connections_accepted", "Connections that came in", accepted.clone());
        registry.register("connections_opened", "Pairs that were connected through", opened.clone());
        registry.register("connections_open", "Pairs that are there now", open.clone());
        registry.register("connections_ended", "Connections that have ended, by how", ended.clone());
        let help = "Bytes of ended connections: up is into the tunnel";
        registry.register_with_unit("forwarded", help, Unit::Bytes, bytes.clone());
        // Those that have not happened are 0, and not unknown.
        ALL.iter().for_each(|how| drop(ended.get_or_create(&How { how })));
        Metrics { registry, accepted, opened, open, ended, bytes }
    }

    /// Counts the end of a pair.
    pub fn count(&self, ending: &Ending, up: u64, down: u64) {
        self.ended.get_or_create(&How { how: ending.word() }).inc();
        self.bytes.get_or_create(&Way { direction: "up" }).inc_by(up);
        self.bytes.get_or_create(&Way { direction: "down" }).inc_by(down);
    }

    fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map(|()| text)
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "accepted {}, opened {}", self.accepted.get(), self.opened.get())?;
        ALL.iter().try_for_each(|how| {
            let count = self.ended.get_or_create(&How { how }).get();
            if count == 0 && !matches!(*how, "done" | "cut") { Ok(()) } else { write!(f, ", {how} {count}") }
        })
    }
}

/// How long whoever asks for the metrics may take, and how much it may say.
const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST_MAX: usize = 8192;

/// Where the metrics can be read, for as long as this is not dropped.
pub struct Page {
    pub shown: Vec<String>,
    _bound: Option<Bound>,
}

/// Serves the metrics over HTTP, at a loopback address or a Unix socket: they are nobody else's
/// concern.
pub fn serve(address: &Address, metrics: &Arc<Metrics>) -> Result<Page, Failure> {
    if let Address::Tcp { host, port } = address {
        let found = (host.as_str(), *port).to_socket_addrs();
        if !found.is_ok_and(|mut found| found.all(|at| at.ip().is_loopback())) {
            return Err(Failure::new(format_args!("metrics are not served at {address}")).hint(
                "Serve them at 127.0.0.1:PORT, [::1]:PORT or unix:PATH, and put a proxy in front for others.",
            ));
        }
    }
    let (listening, bound) = listen(&Listen::At(address.clone()))?;
    let mut shown = Vec::new();
    for Listening { socket, at } in listening {
        shown.push(at);
        let metrics = metrics.clone();
        let serve = move || {
            // The socket is one for event loops, and this thread has no other.
            if socket.set_nonblocking(false).is_err() {
                return;
            }
            loop {
                match socket.accept() {
                    // Who asks is of this machine, and goes away by itself.
                    Ok((client, _)) => drop(answer(&client, &metrics)),
                    Err(_) => thread::sleep(Duration::from_millis(100)),
                }
            }
        };
        thread::Builder::new()
            .name("metrics".into())
            .spawn(serve)
            .map_err(|error| Failure::new(format_args!("cannot start a thread: {error}")))?;
    }
    Ok(Page { shown, _bound: bound })
}

fn answer(mut client: &Socket, metrics: &Metrics) -> std::io::Result<()> {
    let until = Instant::now() + PATIENCE;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || request.len() > REQUEST_MAX {
            return Ok(());
        }
        client.set_read_timeout(Some(left))?;
        let mut part = [0; 1024];
        match client.read(&mut part)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&part[..count]),
        }
    }
    let text = metrics.text().unwrap_or_default();
    let (status, body) = match request.split(|byte| *byte == b' ').take(2).collect::<Vec<_>>()[..] {
        [b"GET", b"/metrics"] => ("200 OK", &*text),
        [b"GET", _] => ("404 Not Found", "see /metrics\n"),
        _ => ("405 Method Not Allowed", "only GET is supported\n"),
    };
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())?;
    client.shutdown(std::net::Shutdown::Write)
}
