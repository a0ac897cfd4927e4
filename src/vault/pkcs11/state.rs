//! The file in which the bound of the counter of a key in a token is kept.

use crate::crypto::{NonceKey, PublicKey};
use crate::error::{Error, Result};
use crate::vault::LongTermNonces;
use crate::vault::store::{self, Head};
use std::env;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The nonces of the key `public`, by the state at `path`, or where it is by default; made if it is not there.
///
/// A new state has a new nonce block key, under which no counter has been used.
///
/// # Errors
/// Those of opening and making a file vault; `VaultCorrupt` if the state is another key's; `InvalidArgument` if no
/// path is given and the environment tells no folder for one.
pub(super) fn nonces(path: Option<&Path>, public: &PublicKey) -> Result<LongTermNonces> {
    let default = if path.is_none() { Some(default_path(public)?) } else { None };
    let path = path.or(default.as_deref()).ok_or(Error::Internal)?;
    match store::open(path) {
        Err(Error::FileNotFound) => {}
        opened => {
            let (head, journal) = opened?;
            return Ok(LongTermNonces::kept(head.token_nonce_key(public)?, journal));
        }
    }
    if default.is_some()
        && let Some(folder) = path.parent()
    {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|e| Error::of_file(&e))?;
    }
    let key = NonceKey::generate()?;
    let journal = store::create(path, &Head::of_token(public, &key)?)?;
    Ok(LongTermNonces::kept(key, journal))
}

/// `$XDG_STATE_HOME/curve_tun/KEY`, or the same under `$HOME/.local/state`.
fn default_path(public: &PublicKey) -> Result<PathBuf> {
    let folder = |name| env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
    let name: String = public.0.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(state.ok_or(Error::InvalidArgument)?.join("curve_tun").join(name))
}
