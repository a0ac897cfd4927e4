//! Configuration files: many listeners and services in one process.

use super::super::failure::Failure;
use super::address::{Address, Listen};
use super::proxy::Header;
use super::{read_key, read_service, read_time};
use curve_tun::PublicKey;
use curve_tun::stream::ServiceName;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A larger file is no configuration.
const FILE_MAX: u64 = 1 << 20;

/// Whose key a process has: one of the three.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Key {
    pub vault: Option<PathBuf>,
    pub secret_file: Option<PathBuf>,
    pub agent: Option<PathBuf>,
    /// Of the vault.
    pub passphrase_file: Option<PathBuf>,
}

/// The file of `serve --config`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Serve {
    pub key: Key,
    pub handshakes_max: Option<u32>,
    pub listener: BTreeMap<String, Listener>,
    #[serde(deserialize_with = "services")]
    pub service: BTreeMap<ServiceName, Target>,
}

/// Where tunnels come in.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Listener {
    #[serde(deserialize_with = "listen")]
    pub listen: Listen,
    /// What is to be had there; without it, everything.
    #[serde(default, deserialize_with = "names")]
    pub services: Option<BTreeSet<ServiceName>>,
}

/// A service, and who may have it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Target {
    #[serde(deserialize_with = "address_to_connect")]
    pub to: Address,
    pub registry: PathBuf,
    /// The version of the PROXY protocol that the service is spoken to in.
    pub proxy: Option<Header>,
    #[serde(default, deserialize_with = "time")]
    pub idle: Option<Duration>,
    #[serde(default, deserialize_with = "time")]
    pub max_lifetime: Option<Duration>,
}

/// The file of `connect --config`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Connect {
    pub key: Key,
    pub forward: BTreeMap<String, Forward>,
}

/// Where plain connections come in, and where they lead.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Forward {
    #[serde(deserialize_with = "listen")]
    pub listen: Listen,
    #[serde(deserialize_with = "address_to_connect")]
    pub to: Address,
    #[serde(deserialize_with = "key")]
    pub server: PublicKey,
    #[serde(default, deserialize_with = "name")]
    pub service: Option<ServiceName>,
    #[serde(default, deserialize_with = "time")]
    pub idle: Option<Duration>,
    #[serde(default, deserialize_with = "time")]
    pub max_lifetime: Option<Duration>,
}

/// Reads a configuration. What is wrong with it is told with its line and column.
pub fn read<C: DeserializeOwned>(path: &Path) -> Result<C, Failure> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        Failure::new(format_args!("cannot read {shown}: {error}")).hint("Check the path and its permissions.")
    };
    let too_large = fs::metadata(path).map_err(unreadable)?.len() > FILE_MAX;
    if too_large {
        return Err(Failure::new(format_args!(
            "{shown} is over {FILE_MAX} bytes: too large for a configuration"
        )));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    toml::from_str(&text).map_err(|error| {
        // In one line, as it may go into the log.
        let place = error.span().map_or_else(String::new, |span| place(&text, span.start));
        let what = error.message().replace('\n', ", ");
        Failure::new(format_args!("{shown}: {place}{what}"))
            .hint("docs/TOOL.md shows a configuration. \"--check\" reads one, and starts nothing.")
    })
}

/// Shows where a byte of a text is.
fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    format!("line {line}, column {column}: ")
}

/// Returns a path of a configuration, which is relative to the folder of its file.
pub fn beside(config: &Path, path: &Path) -> PathBuf {
    config.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
}

fn parsed<'de, D: Deserializer<'de>, T>(
    from: D,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    parse(&String::deserialize(from)?).map_err(D::Error::custom)
}

fn listen<'de, D: Deserializer<'de>>(from: D) -> Result<Listen, D::Error> {
    parsed(from, str::parse)
}

fn address_to_connect<'de, D: Deserializer<'de>>(from: D) -> Result<Address, D::Error> {
    parsed(from, Address::to_connect)
}

fn key<'de, D: Deserializer<'de>>(from: D) -> Result<PublicKey, D::Error> {
    parsed(from, read_key)
}

fn name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ServiceName>, D::Error> {
    parsed(from, read_service).map(Some)
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    parsed(from, read_time).map(Some)
}

fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Option<BTreeSet<ServiceName>>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    let names = names.iter().map(|name| read_service(name)).collect::<Result<_, _>>();
    names.map(Some).map_err(D::Error::custom)
}

fn services<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<ServiceName, Target>, D::Error> {
    let services = BTreeMap::<String, Target>::deserialize(from)?;
    let services = services.into_iter().map(|(name, target)| Ok((read_service(&name)?, target)));
    services.collect::<Result<_, String>>().map_err(D::Error::custom)
}
