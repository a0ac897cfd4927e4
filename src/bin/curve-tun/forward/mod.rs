//! The forwarder: plain connections into tunnels, and tunnels into plain connections.
//!
//! `pump` decides, without I/O; `pair` moves the bytes of one pair; `worker` is a thread with its
//! share of them. `serve`, `connect`, `pipe` and `ping` are the subcommands.

mod address;
mod asker;
mod config;
pub mod connect;
mod descriptor;
mod dial;
mod ending;
mod explain;
mod front;
mod listen;
mod metrics;
mod pair;
pub mod ping;
pub mod pipe;
mod process;
mod proxy;
mod pump;
pub mod serve;
mod tunnel;
mod worker;

use super::failure::Failure;
use super::input::secret_key;
use super::vault::{PassphraseArgs, open_file};
use curve_tun::PublicKey;
use curve_tun::stream::ServiceName;
use curve_tun::vault::{AgentVault, MemoryVault, Vault};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The exit code of a transfer that was cut.
pub const CUT: u8 = 4;
/// The exit code of a process that was ended by force.
pub const FORCED: u8 = 5;

/// Whose key this end has.
#[derive(clap::Args)]
pub struct KeyArgs {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(clap::Args)]
#[group(id = "kept", required = true, multiple = false)]
struct Of {
    /// The vault in this file, as keygen made it
    #[arg(long, value_name = "FILE")]
    vault: Option<PathBuf>,
    /// The secret key in this file, 44 characters as keygen prints them; it is kept in memory, and
    /// no file is written
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    secret_file: Option<PathBuf>,
    /// The agent at this socket
    #[arg(long, value_name = "SOCKET", conflicts_with = "passphrase_file")]
    agent: Option<PathBuf>,
}

impl KeyArgs {
    fn open(&self) -> Result<Arc<dyn Vault>, Failure> {
        let given = [&self.of.vault, &self.of.secret_file, &self.of.agent];
        let count = given.into_iter().flatten().count();
        if count != 1 {
            let what = if count == 0 { "no key is named" } else { "more than one key is named" };
            return Err(Failure::new(what).hint("Name one of vault, secret-file and agent."));
        }
        Ok(match &self.of {
            Of { vault: Some(path), .. } => Arc::new(open_file(path, &self.passphrase)?),
            Of { secret_file: Some(path), .. } => Arc::new(MemoryVault::new(secret_key(path)?)?),
            Of { agent: Some(path), .. } => Arc::new(reach(path)?),
            _ => return Err(Failure::new("no key is named")),
        })
    }
}

impl config::Key {
    /// Opens the key that a configuration names.
    fn open(&self, config: &Path) -> Result<Arc<dyn Vault>, Failure> {
        let beside = |path: &Option<PathBuf>| path.as_ref().map(|path| config::beside(config, path));
        let of = Of {
            vault: beside(&self.vault),
            secret_file: beside(&self.secret_file),
            agent: beside(&self.agent),
        };
        KeyArgs { of, passphrase: PassphraseArgs::from(beside(&self.passphrase_file)) }.open()
    }
}

fn reach(path: &Path) -> Result<AgentVault, Failure> {
    super::check::reach(path)
}

/// What a client's end is told of the server.
#[derive(clap::Args)]
pub struct ServerArgs {
    /// The public key of the server
    #[arg(long, value_name = "KEY", value_parser = read_key)]
    server: PublicKey,
    /// The service to ask the server for; without it, its only or its default one
    #[arg(long, value_name = "NAME", value_parser = read_service)]
    service: Option<ServiceName>,
}

/// How long connections may go on.
#[derive(clap::Args)]
pub struct LimitArgs {
    /// End connections that were idle for this long: 90s, 15m, 2h. Without it, one that is open in
    /// both directions has no limit
    #[arg(long, value_name = "TIME", value_parser = read_time, conflicts_with = "config")]
    idle: Option<Duration>,
    /// End connections that are older than this: 90s, 15m, 2h
    #[arg(long, value_name = "TIME", value_parser = read_time, conflicts_with = "config")]
    max_lifetime: Option<Duration>,
}

/// The end and the log of a process.
#[derive(clap::Args)]
pub struct ProcessArgs {
    /// How long connections may go on after SIGTERM
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = read_time)]
    drain: Duration,
    /// Show metrics for Prometheus at this loopback address or Unix socket: /metrics over HTTP
    #[arg(long, value_name = "ADDR")]
    metrics: Option<address::Address>,
    /// Write the log as one JSON object a line
    #[arg(long)]
    json: bool,
    /// Log also what is no concern of an operator: health checks, clients that gave up
    #[arg(long, short)]
    verbose: bool,
}

/// Refuses to check a command line: what is wrong with one is said when it is run.
fn check_needs_config(check: bool) -> Result<(), Failure> {
    if !check {
        return Ok(());
    }
    Err(Failure::new("--check reads a configuration").hint("Name it with --config FILE.").code(2))
}

/// Shows a number of things.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn read_key(text: &str) -> Result<PublicKey, String> {
    text.parse().map_err(|error: curve_tun::Error| format!("{error}, as \"curve-tun public\" prints it"))
}

fn read_service(text: &str) -> Result<ServiceName, String> {
    text.parse().map_err(|_| "a service is named by 1 to 64 of a-z 0-9 . _ -".to_owned())
}

/// Reads a time: digits and a unit.
fn read_time(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let read = units.iter().find_map(|(unit, seconds)| {
        let digits = text.strip_suffix(unit)?;
        let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        all_digits.then(|| digits.parse::<u32>().ok()).flatten().map(|count| u64::from(count) * seconds)
    });
    match read {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err("a time is more than 0, as a number and s, m, h or d: 90s, 15m, 2h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_number_and_a_unit() {
        assert_eq!(read_time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(read_time("2h"), Ok(Duration::from_secs(7200)));
        for text in ["", "5", "s", "-1s", "+1s", "1.5h", "0s", "99999999999d", "1 s", "1ms"] {
            assert!(read_time(text).is_err(), "{text}");
        }
    }
}
