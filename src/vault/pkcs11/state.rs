//! The file in which the bound of the counter of a key in a token is kept.

use super::failure::{Explained, Pkcs11Failure, Pkcs11Part};
use crate::crypto::{NonceKey, PublicKey, random};
use crate::error::{Error, Result};
use crate::vault::LongTermNonces;
use crate::vault::store::{self, Header};
use std::env;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Returns the nonces of the key `public`, from the state at `path` or at its default path. Makes
/// the state if there is none.
///
/// A new state has a new nonce block key, under which no counter has been used.
///
/// # Errors
/// Those of opening and making a file vault; `VaultCorrupt` if the state belongs to another key;
/// `InvalidArgument` if no path is given and the environment names no folder for one.
pub(super) fn nonces(path: Option<&Path>, public: &PublicKey) -> Explained<LongTermNonces> {
    let found = match path {
        Some(path) => path.to_owned(),
        None => default_folder()?.join(name(public)),
    };
    opened_or_made(&found, path.is_none(), public).map_err(|error| about(&found, error))
}

fn opened_or_made(path: &Path, by_default: bool, public: &PublicKey) -> Result<LongTermNonces> {
    match store::open(path) {
        Err(Error::FileNotFound) => {}
        opened => {
            let (header, counter_log) = opened?;
            return Ok(LongTermNonces::kept(header.token_nonce_key(public)?, counter_log));
        }
    }
    if by_default && let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let key = NonceKey::generate()?;
    let counter_log = store::create(path, &Header::of_token(public, &key)?)?;
    Ok(LongTermNonces::kept(key, counter_log))
}

/// The state of a key that is about to be made. The file is removed when this is dropped.
pub(super) struct Reserved {
    file: store::Reserved,
    /// The folder in which the file is renamed after its key. `None` if a path in the URI names the
    /// file from the start.
    folder: Option<PathBuf>,
}

impl Reserved {
    /// Makes the file, with all the space on the disk that it needs.
    ///
    /// # Errors
    /// Those of making a file vault; `InvalidArgument` if no path is given and the environment
    /// names no folder for one.
    pub(super) fn at(path: Option<&Path>) -> Explained<Reserved> {
        if let Some(path) = path {
            let file = store::Reserved::at(path).map_err(|error| about(path, error))?;
            return Ok(Reserved { file, folder: None });
        }
        let folder = default_folder()?;
        let reserve = || {
            make_folder(&folder)?;
            let mut unique = [0; 16];
            random(&mut unique)?;
            store::Reserved::at(&folder.join(format!("new-{}", hexadecimal(&unique))))
        };
        let file = reserve().map_err(|error| about(&folder, error))?;
        Ok(Reserved { file, folder: Some(folder) })
    }

    /// Makes this the state of the key `public`.
    ///
    /// # Errors
    /// Those of [`Error::of_file`].
    pub(super) fn fill(self, public: &PublicKey) -> Explained<LongTermNonces> {
        let Reserved { file, folder } = self;
        let path = folder.map(|folder| folder.join(name(public)));
        let shown = path.as_deref().unwrap_or(file.path()).to_owned();
        let fill = || {
            let key = NonceKey::generate()?;
            let counter_log = file.fill(&Header::of_token(public, &key)?, path.as_deref())?;
            Ok(LongTermNonces::kept(key, counter_log))
        };
        fill().map_err(|error| about(&shown, error))
    }
}

fn about(path: &Path, error: Error) -> Pkcs11Failure {
    Pkcs11Failure::of(Pkcs11Part::State(Some(path.to_owned())), error)
}

fn make_folder(folder: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| Error::of_file(&e))
}

/// Returns the folder `curve_tun` under `$XDG_STATE_HOME`, or under `$HOME/.local/state`.
fn default_folder() -> Explained<PathBuf> {
    let folder = |name| env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
    let state = state.ok_or(Pkcs11Failure::of(Pkcs11Part::State(None), Error::InvalidArgument))?;
    Ok(state.join("curve_tun"))
}

/// Returns a name that no two keys share.
fn name(public: &PublicKey) -> String {
    hexadecimal(&public.0)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
