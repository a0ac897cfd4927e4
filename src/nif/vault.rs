//! Vaults as resources.

use super::provider::LaterVault;
use super::providers::Provider;
use super::term::{self, binary, exactly, failure, path, public_key, reply};
use crate::crypto::{Cost, NONCE_BYTES, TAG_BYTES};
use crate::error::{Error, Result};
use crate::vault::{FileVault, LongTermNonce, MemoryVault, Purpose, TwoSteps, Vault, first_line};
use rustler::{Atom, Binary, Encoder, Env, NewBinary, NifResult, Resource, ResourceArc, Term};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The secret key that the original ships with its `curve_tun_vault_dummy`: known to all, for tests
/// only.
const DUMMY_SECRET: [u8; 32] = [
    0x4f, 0x05, 0x45, 0x77, 0x2d, 0x3a, 0xb0, 0xe3, 0x0d, 0x29, 0xda, 0xa8, 0xea, 0xbe, 0xe3, 0x8e, 0xa0,
    0xd9, 0xe5, 0xcf, 0xf8, 0x21, 0x0a, 0x54, 0xb8, 0x85, 0xda, 0xee, 0x5d, 0x28, 0x2c, 0x9d,
];

/// How many nonces that were given out may wait for their box; older ones are forgotten.
const ISSUED_MAX: usize = 1024;

pub(super) struct VaultResource {
    vault: Arc<dyn Vault>,
    /// Whether a call can wait: for a disk, a token or an agent.
    waits: bool,
    /// The same vault, if it can box in two steps.
    two_steps: Option<Arc<dyn TwoSteps>>,
    /// Nonces given out by `vault_nonce` and not used.
    issued: Mutex<VecDeque<LongTermNonce>>,
}

#[rustler::resource_impl]
impl Resource for VaultResource {}

type Handle = ResourceArc<VaultResource>;

/// Returns a vault over a key of which we see the nonces.
fn whole(vault: impl TwoSteps + 'static, waits: bool) -> Result<Handle> {
    let vault = Arc::new(vault);
    Ok(ResourceArc::new(VaultResource {
        vault: vault.clone(),
        waits,
        two_steps: Some(vault),
        issued: Mutex::default(),
    }))
}

impl VaultResource {
    /// Returns the vault for a connection. One whose calls can wait it does not ask itself, but
    /// stops with its requests, so that no scheduler waits.
    pub(super) fn for_connections(&self) -> Arc<dyn Vault> {
        if self.waits { Arc::new(LaterVault(self.vault.public_key())) } else { self.vault.clone() }
    }

    /// Who answers requests to it, if its calls can wait.
    pub(super) fn provider(&self) -> Option<Provider> {
        self.waits.then(|| Provider::Vault(self.vault.clone()))
    }

    fn two_steps(&self) -> Result<&dyn TwoSteps> {
        self.two_steps.as_deref().ok_or(Error::Unsupported)
    }

    fn issue(&self) -> Result<LongTermNonce> {
        let nonce = self.two_steps()?.issue_nonce()?;
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

/// Returns the purpose whose prefix begins a whole nonce, and the part after it.
fn purpose(nonce: &[u8; NONCE_BYTES]) -> Result<(Purpose, &[u8])> {
    [Purpose::Hello, Purpose::Cookie, Purpose::Vouch]
        .into_iter()
        .map(|purpose| (purpose, &nonce[NONCE_BYTES - purpose.nonce_len()..]))
        .find(|(purpose, part)| purpose.nonce(part) == Ok(*nonce))
        .ok_or(Error::InvalidArgument)
}

/// Returns a path, or the atom `none`.
fn path_or_none<'a>(term: Term<'a>) -> NifResult<Option<Binary<'a>>> {
    match term.decode::<Atom>() {
        Ok(atom) if atom == term::none() => Ok(None),
        _ => Ok(Some(term.decode()?)),
    }
}

/// Opens with the first line of a file as passphrase or PIN, or without.
fn opened<V>(secret_file: Option<Binary>, open: impl FnOnce(Option<&[u8]>) -> Result<V>) -> Result<V> {
    match secret_file {
        Some(file) => first_line(path(&file), |secret| open(Some(secret))),
        None => open(None),
    }
}

/// Returns a vault with a new key: `{ok, Vault} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn vault_generate(env: Env) -> Term {
    reply(env, MemoryVault::generate().and_then(|vault| whole(vault, false)))
}

/// Returns the vault in a file, sealed by the passphrase in the first line of another or, with
/// `none`, not sealed: `{ok, Vault} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn vault_open_file<'a>(env: Env<'a>, file: Binary<'a>, passphrase_file: Term<'a>) -> NifResult<Term<'a>> {
    let vault = opened(path_or_none(passphrase_file)?, |passphrase| FileVault::open(path(&file), passphrase));
    let vault = vault.and_then(|vault| {
        // Brings the first bound to the disk: one that cannot take it is told of here, and not by
        // the first handshake.
        vault.issue_nonce()?;
        whole(vault, true)
    });
    Ok(reply(env, vault))
}

/// Returns the vault of the agent at a Unix socket: `{ok, Vault} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn vault_open_agent<'a>(env: Env<'a>, socket: Binary<'a>) -> Term<'a> {
    reply(env, open_agent(path(&socket)))
}

#[cfg(target_os = "linux")]
fn open_agent(socket: &Path) -> Result<Handle> {
    let vault = Arc::new(crate::vault::AgentVault::open(socket)?);
    Ok(ResourceArc::new(VaultResource { vault, waits: true, two_steps: None, issued: Mutex::default() }))
}

#[cfg(not(target_os = "linux"))]
fn open_agent(_: &Path) -> Result<Handle> {
    Err(Error::Unsupported)
}

/// Returns the vault of the key in a token that a URI names, with the PIN in the first line of a
/// file or, with `none`, as the URI says: `{ok, Vault} | {error, Reason}`. A URI that has the PIN
/// itself is an error, for it is a term.
#[rustler::nif(schedule = "DirtyIo")]
fn vault_open_pkcs11<'a>(env: Env<'a>, uri: Binary<'a>, pin_file: Term<'a>) -> NifResult<Term<'a>> {
    let pin_file = path_or_none(pin_file)?;
    let uri = std::str::from_utf8(&uri).map_err(|_| Error::InvalidArgument);
    Ok(reply(env, uri.and_then(|uri| open_pkcs11(uri, pin_file))))
}

#[cfg(feature = "pkcs11")]
fn open_pkcs11(uri: &str, pin_file: Option<Binary>) -> Result<Handle> {
    use crate::vault::Pkcs11Vault;
    if Pkcs11Vault::shows_pin(uri)? {
        return Err(Error::InvalidArgument);
    }
    opened(pin_file, |pin| Pkcs11Vault::open(uri, pin)).and_then(|vault| whole(vault, true))
}

#[cfg(not(feature = "pkcs11"))]
fn open_pkcs11(_: &str, _: Option<Binary>) -> Result<Handle> {
    Err(Error::Unsupported)
}

/// Makes a vault with a new key in a new file, without a passphrase:
/// `{ok, PublicKey} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn vault_create_file<'a>(env: Env<'a>, file: Binary<'a>) -> Term<'a> {
    let made = FileVault::create(path(&file), None, Cost::default());
    reply(env, made.map(|vault| binary(env, &vault.public_key().0)))
}

/// Returns a vault with the original's well-known key: `{ok, Vault} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn vault_dummy(env: Env) -> Term {
    reply(env, MemoryVault::from_secret(&DUMMY_SECRET).and_then(|vault| whole(vault, false)))
}

/// Returns a vault that an Erlang module answers for.
#[rustler::nif]
fn vault_later<'a>(env: Env<'a>, key: Binary<'a>) -> NifResult<Term<'a>> {
    let vault = Arc::new(LaterVault(public_key(&key)?));
    let resource = VaultResource { vault, waits: false, two_steps: None, issued: Mutex::default() };
    Ok(ResourceArc::new(resource).encode(env))
}

/// Returns the public key whose secret the vault holds.
#[rustler::nif]
fn vault_public_key(env: Env, vault: Handle) -> Term {
    binary(env, &vault.vault.public_key().0)
}

/// Returns a long-term nonce for one later `vault_box`: `{ok, Nonce} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn vault_nonce(env: Env, vault: Handle) -> Term {
    reply(env, vault.issue().map(|nonce| binary(env, &nonce)))
}

/// Seals a message for a peer: `{ok, Box} | {error, Reason}`.
///
/// The whole nonce is the prefix of a cookie or a vouch, then a nonce of `vault_nonce` that was not
/// used before.
#[rustler::nif(schedule = "DirtyIo")]
fn vault_box<'a>(
    env: Env<'a>,
    vault: Handle,
    message: Binary<'a>,
    nonce: Binary<'a>,
    peer: Binary<'a>,
) -> NifResult<Term<'a>> {
    let (nonce, peer) = (exactly(&nonce)?, public_key(&peer)?);
    let mut sealed = NewBinary::new(env, message.len() + TAG_BYTES);
    let done = purpose(&nonce).and_then(|(purpose, part)| {
        let part = part.try_into().map_err(|_| Error::InvalidArgument)?;
        vault.redeem(&part)?;
        vault.two_steps()?.box_seal_issued(purpose, &peer, &part, &message, &mut sealed)
    });
    Ok(reply(env, done.map(|()| Term::from(sealed))))
}

/// Opens a box from a peer: `{ok, Message} | {error, Reason}`.
#[rustler::nif(schedule = "DirtyIo")]
fn vault_box_open<'a>(
    env: Env<'a>,
    vault: Handle,
    sealed: Binary<'a>,
    nonce: Binary<'a>,
    peer: Binary<'a>,
) -> NifResult<Term<'a>> {
    let (nonce, peer) = (exactly(&nonce)?, public_key(&peer)?);
    let Some(len) = sealed.len().checked_sub(TAG_BYTES) else { return Ok(failure(env, Error::BadPacket)) };
    let mut message = NewBinary::new(env, len);
    let done = purpose(&nonce)
        .and_then(|(purpose, part)| vault.vault.box_open(purpose, &peer, part, &sealed, &mut message));
    Ok(reply(env, done.map(|()| Term::from(message))))
}
