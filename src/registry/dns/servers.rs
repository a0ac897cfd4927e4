//! The name servers to ask: those of the options, or those of the system.

use super::DnsOptions;
use crate::error::{Error, Result};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::RetryDnsHandle;
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;

/// Asks name servers, and believes them.
pub(super) type Upstream = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

pub(super) struct Servers {
    options: ResolverOpts,
    /// The content of the system's file; `None` if the servers are those of the options.
    system: Option<Vec<u8>>,
    upstream: Upstream,
}

impl Servers {
    /// Takes the servers of the options or, if there are none, those of the system's file;
    /// `RegistryFailed` if neither names any.
    pub(super) fn new(options: &DnsOptions) -> Result<Servers> {
        let mut asking = ResolverOpts::default();
        asking.timeout = options.timeout.div_f32(2.0);
        asking.try_tcp_on_error = true;
        let (system, servers) = if options.servers.is_empty() {
            let file = std::fs::read(RESOLV_CONF).map_err(|_| Error::RegistryFailed)?;
            let servers = listed(&file);
            (Some(file), servers)
        } else {
            (None, options.servers.clone())
        };
        let upstream = upstream(&servers, &asking).ok_or(Error::RegistryFailed)?;
        Ok(Servers { options: asking, system, upstream })
    }

    /// Returns the current servers. The system's file is read each time. If it has changed and
    /// names any servers, these are asked from then on.
    pub(super) fn upstream(&mut self) -> Upstream {
        if let Some(seen) = &mut self.system
            && let Ok(file) = std::fs::read(RESOLV_CONF)
            && file != *seen
        {
            if let Some(upstream) = upstream(&listed(&file), &self.options) {
                self.upstream = upstream;
            }
            *seen = file;
        }
        self.upstream.clone()
    }
}

/// Returns the servers of a `resolv.conf`. Other lines, and anything that is not an address, are
/// ignored.
fn listed(file: &[u8]) -> Vec<SocketAddr> {
    let server = |line: &[u8]| {
        let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        let address: IpAddr =
            words.next().filter(|word| *word == "nameserver").and(words.next())?.parse().ok()?;
        Some(SocketAddr::new(address, PORT))
    };
    file.split(|byte| *byte == b'\n').filter_map(server).collect()
}

fn upstream(servers: &[SocketAddr], options: &ResolverOpts) -> Option<Upstream> {
    if servers.is_empty() {
        return None;
    }
    let context = Arc::new(PoolContext::new(options.clone(), TlsConfig::new().ok()?));
    let provider = TokioRuntimeProvider::default();
    let pool = NameServerPool::from_config(servers.iter().map(name_server), context, provider);
    Some(RetryDnsHandle::new(pool, options.attempts))
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_among_odd_lines() {
        let file =
            b"# nameserver 192.0.2.9\n; x\nsearch -- a..b .\xff \n domain \x00\nnameserver\t192.0.2.1\r\n\
            options x\nnameserver 2001:db8::1 # home\nnameserver\nnameserver x\n\
            nameservers 192.0.2.8\nnameserver 192.0.2.2";
        let listed: Vec<_> = listed(file).iter().map(ToString::to_string).collect();
        assert_eq!(listed, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
    }
}
