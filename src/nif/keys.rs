//! The printable form of public keys and of servers.

use super::term::{binary, public_key, reply, server_name};
use crate::crypto::PublicKey;
use crate::error::Error;
use rustler::{Binary, Env, NifResult, Term};

/// Returns a public key as 44 characters of base64.
#[rustler::nif]
fn public_key_to_text<'a>(env: Env<'a>, key: Binary<'a>) -> NifResult<Term<'a>> {
    Ok(binary(env, public_key(&key)?.to_string().as_bytes()))
}

/// Returns the public key that 44 characters of base64 say: `{ok, Key} | {error, bad_key_text}`.
#[rustler::nif]
fn public_key_from_text<'a>(env: Env<'a>, text: Binary<'a>) -> Term<'a> {
    let text = std::str::from_utf8(&text).map_err(|_| Error::BadKeyText);
    let key = text.and_then(str::parse::<PublicKey>);
    reply(env, key.map(|key| binary(env, &key.0)))
}

/// Returns what the host of a server is called in registries, an address or a name in lower case:
/// `{ok, Host} | {error, badarg}`.
#[rustler::nif]
fn server_host<'a>(env: Env<'a>, host: Binary<'a>, port: Term<'a>) -> NifResult<Term<'a>> {
    Ok(reply(env, server_name(&host, port)?.map(|name| binary(env, name.host().as_bytes()))))
}
