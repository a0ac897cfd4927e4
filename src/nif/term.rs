//! Terms to values and back.

use crate::crypto::{KEY_BYTES, PublicKey};
use crate::error::{Error, Result};
use crate::registry::{Network, Place, ServerName};
use rustler::types::tuple::{get_tuple, make_tuple};
use rustler::{Atom, Binary, Encoder, Env, NewBinary, NifResult, Term};
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

rustler::atoms! {
    ok,
    error,
    none,
    busy,
    next,
    piled,
    later,
    // The states of a connection.
    ready,
    initiating,
    accepting,
    connected,
    closed,
    // Requests and their answers.
    ask,
    answer_hello,
    seal_vouch,
    open_vouch,
    verify,
    answered,
    hello_answered,
    vouch_sealed,
    vouch_opened,
    verdict,
    failed,
    // Streams.
    client,
    raw,
    opened,
    finished,
    aborted,
}

/// `{ok, Value}` or `{error, Reason}`.
pub(super) fn reply<'a>(env: Env<'a>, result: Result<impl Encoder>) -> Term<'a> {
    match result {
        Ok(value) => (ok(), value).encode(env),
        Err(reason) => failure(env, reason),
    }
}

/// `ok` or `{error, Reason}`.
pub(super) fn done<'a>(env: Env<'a>, result: Result<()>) -> Term<'a> {
    match result {
        Ok(()) => ok().encode(env),
        Err(reason) => failure(env, reason),
    }
}

/// `{error, Reason}`.
pub(super) fn failure<'a>(env: Env<'a>, reason: Error) -> Term<'a> {
    (error(), reason_atom(env, reason)).encode(env)
}

/// Returns the error's atom. Their number is fixed, so the BEAM's table of atoms cannot be filled
/// by it.
pub(super) fn reason_atom<'a>(env: Env<'a>, reason: Error) -> Term<'a> {
    match Atom::from_str(env, reason.atom()) {
        Ok(atom) => atom.encode(env),
        Err(_) => error().encode(env),
    }
}

/// Returns a binary that holds a copy of `bytes`.
pub(super) fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    NewBinary::from_slice(env, bytes).into()
}

/// Returns a binary of exactly `N` bytes; any other is `badarg`.
pub(super) fn exactly<const N: usize>(bytes: &Binary) -> NifResult<[u8; N]> {
    bytes.as_slice().try_into().map_err(|_| rustler::Error::BadArg)
}

/// Returns the path that a binary is.
pub(super) fn path<'a>(bytes: &'a Binary) -> &'a Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Returns a public key: a binary of 32 bytes.
pub(super) fn public_key(bytes: &Binary) -> NifResult<PublicKey> {
    Ok(PublicKey(exactly::<KEY_BYTES>(bytes)?))
}

/// Returns the server at a host, text in a binary, and a port.
pub(super) fn server_name(host: &Binary, port: Term) -> NifResult<Result<ServerName>> {
    let (host, port) = (std::str::from_utf8(host).map_err(|_| Error::InvalidArgument), small(port)?);
    Ok(host.and_then(|host| ServerName::new(host, port)))
}

/// Returns an `inet:ip_address()`.
pub(super) fn address(term: Term) -> NifResult<IpAddr> {
    let parts = get_tuple(term)?;
    if parts.len() == 4 {
        return Ok(Ipv4Addr::from(groups::<u8, 4>(&parts)?).into());
    }
    Ok(Ipv6Addr::from(groups::<u16, 8>(&parts)?).into())
}

fn groups<T: TryFrom<u32> + Copy + Default, const N: usize>(parts: &[Term]) -> NifResult<[T; N]> {
    let mut groups = [T::default(); N];
    if parts.len() != N {
        return Err(rustler::Error::BadArg);
    }
    for (group, part) in groups.iter_mut().zip(parts) {
        *group = small(*part)?;
    }
    Ok(groups)
}

/// Returns a number of less than 32 bits. rustler's own decoders of such cut larger ones to their
/// low bits.
pub(super) fn small<T: TryFrom<u32>>(term: Term) -> NifResult<T> {
    T::try_from(term.decode::<u32>()?).map_err(|_| rustler::Error::BadArg)
}

/// `inet:ip_address()`, `{inet:ip_address(), PrefixLength}`, or a binary of text, which can also be
/// `*` or `!`.
pub(super) fn place(term: Term) -> NifResult<Result<Place>> {
    if let Ok(address) = address(term) {
        return Ok(Ok(address.into()));
    }
    if let Ok((base, prefix)) = term.decode::<(Term, Term)>() {
        return Ok(Network::new(address(base)?, small(prefix)?).map(Place::from));
    }
    let text = term.decode::<Binary>()?;
    Ok(std::str::from_utf8(&text).map_err(|_| Error::BadAddress).and_then(str::parse))
}

/// Returns the address as an `inet:ip_address()`.
pub(super) fn address_term(env: Env, address: IpAddr) -> Term {
    let parts: Vec<_> = match address {
        IpAddr::V4(v4) => v4.octets().iter().map(|part| part.encode(env)).collect(),
        IpAddr::V6(v6) => v6.segments().iter().map(|part| part.encode(env)).collect(),
    };
    make_tuple(env, &parts)
}
