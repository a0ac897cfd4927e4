//! Vaults as resources.

use super::provider::LaterVault;
use super::term::{binary, exactly, failure, public_key, reply};
use crate::crypto::{Cost, NONCE_BYTES, TAG_BYTES};
use crate::error::{Error, Result};
use crate::vault::{FileVault, LocalKey, LongTermNonce, MemoryVault, Purpose, Vault};
use rustler::{Binary, Encoder, Env, NewBinary, NifResult, Resource, ResourceArc, Term};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The secret key that the original ships with its `curve_tun_vault_dummy`: known to all, for tests only.
const DUMMY_SECRET: [u8; 32] = [
    0x4f, 0x05, 0x45, 0x77, 0x2d, 0x3a, 0xb0, 0xe3, 0x0d, 0x29, 0xda, 0xa8, 0xea, 0xbe, 0xe3, 0x8e, 0xa0,
    0xd9, 0xe5, 0xcf, 0xf8, 0x21, 0x0a, 0x54, 0xb8, 0x85, 0xda, 0xee, 0x5d, 0x28, 0x2c, 0x9d,
];

/// How many nonces that were given out may wait for their box; older ones are forgotten.
const ISSUED_MAX: usize = 1024;

pub(super) struct VaultResource {
    pub vault: Arc<dyn Vault>,
    /// The same, if its key lives here.
    local: Option<Local>,
    /// Nonces given out by `vault_nonce` and not used.
    issued: Mutex<VecDeque<LongTermNonce>>,
}

/// A vault whose key is in this process.
enum Local {
    Memory(Arc<MemoryVault>),
    File(Arc<FileVault>),
}

#[rustler::resource_impl]
impl Resource for VaultResource {}

impl VaultResource {
    fn new(vault: Arc<dyn Vault>, local: Option<Local>) -> ResourceArc<VaultResource> {
        ResourceArc::new(VaultResource { vault, local, issued: Mutex::default() })
    }

    fn of_memory(vault: MemoryVault) -> ResourceArc<VaultResource> {
        let vault = Arc::new(vault);
        VaultResource::new(vault.clone(), Some(Local::Memory(vault)))
    }

    fn of_file(vault: FileVault) -> ResourceArc<VaultResource> {
        let vault = Arc::new(vault);
        VaultResource::new(vault.clone(), Some(Local::File(vault)))
    }

    fn key(&self) -> NifResult<&LocalKey> {
        match &self.local {
            Some(Local::Memory(vault)) => Ok(vault.local()),
            Some(Local::File(vault)) => Ok(vault.local()),
            None => Err(rustler::Error::BadArg),
        }
    }

    fn issue(&self, key: &LocalKey) -> Result<LongTermNonce> {
        let nonce = key.issue_nonce()?;
        let mut issued = self.issued.lock().map_err(|_| Error::Internal)?;
        if issued.len() == ISSUED_MAX {
            issued.pop_front();
        }
        issued.push_back(nonce);
        Ok(nonce)
    }

    /// Takes a nonce back for its one use.
    fn redeem(&self, nonce: &LongTermNonce) -> Result<()> {
        let mut issued = self.issued.lock().map_err(|_| Error::Internal)?;
        let at = issued.iter().position(|n| n == nonce).ok_or(Error::InvalidArgument)?;
        issued.remove(at);
        Ok(())
    }
}

/// The purpose whose prefix begins a whole nonce, and the part after it.
fn purpose(nonce: &[u8; NONCE_BYTES]) -> Result<(Purpose, &[u8])> {
    [Purpose::Hello, Purpose::Cookie, Purpose::Vouch]
        .into_iter()
        .map(|purpose| (purpose, &nonce[NONCE_BYTES - purpose.nonce_len()..]))
        .find(|(purpose, part)| purpose.nonce(part) == Ok(*nonce))
        .ok_or(Error::InvalidArgument)
}

/// A vault with a new key: `{ok, Vault} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn vault_generate(env: Env) -> Term {
    reply(env, MemoryVault::generate().map(VaultResource::of_memory))
}

/// The vault in a file that is not sealed by a passphrase: `{ok, Vault} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn vault_open_file<'a>(env: Env<'a>, path: Binary<'a>) -> Term<'a> {
    let path = Path::new(OsStr::from_bytes(&path));
    reply(env, FileVault::open(path, None).map(VaultResource::of_file))
}

/// Makes a vault with a new key in a new file, without a passphrase: `{ok, PublicKey} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn vault_create_file<'a>(env: Env<'a>, path: Binary<'a>) -> Term<'a> {
    let path = Path::new(OsStr::from_bytes(&path));
    let made = FileVault::create(path, None, Cost::default());
    reply(env, made.map(|vault| binary(env, &vault.public_key().0)))
}

/// A vault with the original's well-known key: `{ok, Vault} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn vault_dummy(env: Env) -> Term {
    reply(env, MemoryVault::from_secret(&DUMMY_SECRET).map(VaultResource::of_memory))
}

/// A vault that an Erlang module answers for.
#[rustler::nif]
fn vault_later<'a>(env: Env<'a>, key: Binary<'a>) -> NifResult<Term<'a>> {
    Ok(VaultResource::new(Arc::new(LaterVault(public_key(&key)?)), None).encode(env))
}

/// The public key whose secret the vault holds.
#[rustler::nif]
fn vault_public_key(env: Env, vault: ResourceArc<VaultResource>) -> Term {
    binary(env, &vault.vault.public_key().0)
}

/// A long-term nonce for one later `vault_box`: `{ok, Nonce} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn vault_nonce(env: Env, vault: ResourceArc<VaultResource>) -> NifResult<Term> {
    let nonce = vault.issue(vault.key()?);
    Ok(reply(env, nonce.map(|nonce| binary(env, &nonce))))
}

/// Seals a message for a peer: `{ok, Box} | {error, Reason}`.
///
/// The whole nonce is the prefix of a cookie or a vouch, then a nonce of `vault_nonce` that was not used before.
#[rustler::nif(schedule = "DirtyCpu")]
fn vault_box<'a>(
    env: Env<'a>,
    vault: ResourceArc<VaultResource>,
    message: Binary<'a>,
    nonce: Binary<'a>,
    peer: Binary<'a>,
) -> NifResult<Term<'a>> {
    let (key, nonce, peer) = (vault.key()?, exactly(&nonce)?, public_key(&peer)?);
    let mut sealed = NewBinary::new(env, message.len() + TAG_BYTES);
    let done = purpose(&nonce).and_then(|(purpose, part)| {
        let part = part.try_into().map_err(|_| Error::InvalidArgument)?;
        vault.redeem(&part)?;
        key.box_seal_issued(purpose, &peer, &part, &message, &mut sealed)
    });
    Ok(reply(env, done.map(|()| Term::from(sealed))))
}

/// Opens a box from a peer: `{ok, Message} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn vault_box_open<'a>(
    env: Env<'a>,
    vault: ResourceArc<VaultResource>,
    sealed: Binary<'a>,
    nonce: Binary<'a>,
    peer: Binary<'a>,
) -> NifResult<Term<'a>> {
    let (key, nonce, peer) = (vault.key()?, exactly(&nonce)?, public_key(&peer)?);
    let Some(len) = sealed.len().checked_sub(TAG_BYTES) else { return Ok(failure(env, Error::BadPacket)) };
    let mut message = NewBinary::new(env, len);
    let done =
        purpose(&nonce).and_then(|(purpose, part)| key.box_open(purpose, &peer, part, &sealed, &mut message));
    Ok(reply(env, done.map(|()| Term::from(message))))
}
