//! The registry in DNS.

use super::registry::{Handle, Kind, RegistryResource};
use super::term::{self, address, small};
use super::waiting::Waiting;
use crate::error::{Error, Result};
use crate::registry::{DnsOptions, DnsRegistry};
use rustler::types::map::MapIterator;
use rustler::{Atom, Binary, Encoder, Env, NifResult, Term};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

mod names {
    rustler::atoms! {
        servers,
        trust_anchors,
        allow_unvalidated,
        timeout_ms,
        ttl_max,
        cache_max,
    }
}

/// Opens the registry in DNS; options that are of no such form are `badarg`, and so, as an error,
/// are those out of range.
pub(super) fn open(zone: &Binary, options: Term) -> NifResult<Result<Handle>> {
    let options = decode_options(options)?;
    let zone = std::str::from_utf8(zone).map_err(|_| Error::InvalidArgument);
    let opened = zone.and_then(|zone| DnsRegistry::open(zone, &options));
    Ok(opened.map(|registry| RegistryResource::handle(Kind::Dns(Arc::new(registry)))))
}

/// Returns the defaults, but for what the map says.
fn decode_options(map: Term) -> NifResult<DnsOptions> {
    let mut options = DnsOptions::default();
    for (name, value) in MapIterator::new(map).ok_or(rustler::Error::BadArg)? {
        let name = name.decode::<Atom>()?;
        if name == names::servers() {
            let servers = value.decode::<Vec<(Term, Term)>>()?.into_iter();
            let servers = servers.map(|(host, port)| Ok(SocketAddr::new(address(host)?, small(port)?)));
            options.servers = servers.collect::<NifResult<_>>()?;
        } else if name == names::trust_anchors() {
            let text = value.decode::<Binary>()?;
            options.trust_anchors =
                Some(str::from_utf8(&text).map_err(|_| rustler::Error::BadArg)?.to_owned());
        } else if name == names::allow_unvalidated() {
            options.allow_unvalidated = value.decode()?;
        } else if name == names::timeout_ms() {
            options.timeout = Duration::from_millis(value.decode()?);
        } else if name == names::ttl_max() {
            options.ttl_max = Duration::from_secs(value.decode()?);
        } else if name == names::cache_max() {
            options.cache_max = value.decode()?;
        } else {
            return Err(rustler::Error::BadArg);
        }
    }
    Ok(options)
}

/// Returns what is known at once; or `later`, and the answer goes to the calling process.
pub(super) fn ask<'a, T: 'static>(
    env: Env<'a>,
    reference: Term<'a>,
    encode: impl for<'b> Fn(Env<'b>, Result<T>) -> Term<'b> + Copy + Send + 'static,
    ask: impl FnOnce(Box<dyn FnOnce(Result<T>) + Send>) -> Option<Result<T>>,
) -> Term<'a> {
    let waiting = Waiting::caller(env, reference);
    let told = ask(Box::new(move |answer| waiting.tell(|env| encode(env, answer))));
    told.map_or_else(|| term::later().encode(env), |answer| encode(env, answer))
}
