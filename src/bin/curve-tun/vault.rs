//! Vaults as subcommands open them: how a passphrase comes, and what errors say.

use super::failure::Failure;
use super::input;
use curve_tun::Error;
use curve_tun::vault::FileVault;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// How the passphrase of a vault, or the PIN of a token, comes.
#[derive(clap::Args)]
pub struct PassphraseArgs {
    /// Read the passphrase or PIN from the first line of FILE, "-" for standard input, instead of asking at the terminal
    #[arg(long, value_name = "FILE", requires = "kept", group = "sealed")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// Whether it comes from somewhere other than the terminal.
    pub fn given(&self) -> bool {
        self.passphrase_file.is_some()
    }

    /// The passphrase of a vault that has one.
    pub fn read(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match &self.passphrase_file {
            Some(path) => input::secret_line(path),
            None => input::ask("Passphrase: "),
        }
    }

    /// A passphrase for a new vault; at the terminal it is asked for twice.
    pub fn read_new(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let passphrase = match &self.passphrase_file {
            Some(path) => input::secret_line(path)?,
            None => {
                let passphrase = input::ask("New passphrase: ")?;
                if *input::ask("The same again: ")? != *passphrase {
                    return Err(
                        Failure::new("the two passphrases differ").hint("Nothing was made. Try again.")
                    );
                }
                passphrase
            }
        };
        if passphrase.is_empty() {
            return Err(Failure::new("the passphrase is empty").hint(
                "Give one, or leave --passphrase away to have the file protected by its permissions alone.",
            ));
        }
        Ok(passphrase)
    }
}

/// Has `open` open a key in a token; the PIN is asked for only if the URI has none and the token wants one.
pub fn with_pin<T>(
    what: &str,
    passphrase: &PassphraseArgs,
    open: impl Fn(Option<&[u8]>) -> Result<T, Error>,
) -> Result<T, Failure> {
    let pin = if passphrase.given() { Some(passphrase.read()?) } else { None };
    let opened = match open(pin.as_deref().map(Vec::as_slice)) {
        Err(Error::WrongPassphrase) if pin.is_none() => open(Some(&input::ask("PIN: ")?)),
        opened => opened,
    };
    opened.map_err(|error| token_failure(what, error))
}

/// An error of a key in a token, with what to do about it. The URI, which may have a PIN, is not repeated.
fn token_failure(what: &str, error: Error) -> Failure {
    let failure = Failure::new(format_args!("cannot {what}: {error}"));
    match error {
        Error::Unsupported => failure.hint("Build curve-tun with --features cli,pkcs11."),
        Error::NotFound => failure.hint(
            "No token, or no X25519 key in it, fits the URI. Is it plugged in? \
             \"pkcs11-tool --module PATH --list-token-slots\" shows what there is.",
        ),
        Error::InvalidArgument => failure.hint(
            "The URI is malformed, has an unknown attribute, or fits several keys. Write \
             pkcs11:token=NAME;object=NAME?module-path=/PATH, with special characters as %20 and the like.",
        ),
        Error::FileNotFound => {
            failure.hint("Check module-path, pin-source and x-curve-tun-state in the URI.")
        }
        Error::WrongPassphrase => failure.hint("Mind that a token locks after a few wrong PINs."),
        Error::PermissionDenied => {
            failure.hint("The PIN is locked or expired: its security officer sets a new one.")
        }
        Error::AlreadyExists => failure.hint("The token has an object of that name. Choose another."),
        Error::VaultInUse => {
            failure.hint("Another process uses the key's state. Have both use one \"curve-tun agent\".")
        }
        _ => failure.hint("The module's own tools may tell more."),
    }
}

#[cfg(feature = "pkcs11")]
pub use curve_tun::vault::Pkcs11Vault;

/// Stands in where the feature is not built in.
#[cfg(not(feature = "pkcs11"))]
pub enum Pkcs11Vault {}

#[cfg(not(feature = "pkcs11"))]
impl Pkcs11Vault {
    pub fn open(_: &str, _: Option<&[u8]>) -> Result<curve_tun::vault::FileVault, Error> {
        Err(Error::Unsupported)
    }

    pub fn generate(_: &str, _: Option<&[u8]>) -> Result<curve_tun::vault::FileVault, Error> {
        Err(Error::Unsupported)
    }

    pub fn inspect(_: &str, _: Option<&[u8]>) -> Result<curve_tun::PublicKey, Error> {
        Err(Error::Unsupported)
    }
}

/// Opens a file vault, asking for its passphrase if it has one.
pub fn open_file(path: &Path, passphrase: &PassphraseArgs) -> Result<FileVault, Failure> {
    let failed = |error| file_failure("open the vault", path, error);
    let sealed = FileVault::inspect(path).map_err(failed)?.sealed;
    let passphrase = if sealed { Some(passphrase.read()?) } else { None };
    FileVault::open(path, passphrase.as_deref().map(Vec::as_slice)).map_err(failed)
}

/// An error of a vault's file, with what to do about it.
pub fn file_failure(what: &str, path: &Path, error: Error) -> Failure {
    let shown = path.display();
    let failure = Failure::new(format_args!("cannot {what} {shown}: {error}"));
    match error {
        Error::AlreadyExists => failure.hint(
            "Nothing is ever overwritten. Choose another name, or move the old file away; \
             without it, its key is lost.",
        ),
        Error::FileNotFound => {
            failure.hint("Check the path. \"curve-tun keygen --vault FILE\" makes a vault.")
        }
        Error::VaultPermissions => match FileVault::exposure(path) {
            Ok(Some(reason)) => Failure::new(format_args!("cannot {what} {shown}: {reason}")).hint(
                "A vault must be a regular file of your own with mode 0600. If others could read it, \
                 their copy of the key stays good: make a new one.",
            ),
            _ => failure,
        },
        Error::VaultInUse => {
            failure.hint("Stop that process, or have all of them use one \"curve-tun agent\" and its socket.")
        }
        Error::VaultCorrupt => failure.hint("Restore it from a backup, or make a new vault with a new key."),
        Error::VaultVersion => failure.hint("Install the version of curve-tun that made it, or a later one."),
        Error::WrongPassphrase => failure.hint("Try again. Without its passphrase a vault cannot be opened."),
        Error::DiskFull => failure.hint("Make room on the disk. Nothing was lost."),
        Error::ReadOnly => {
            failure.hint("A vault writes the bound of its counter: it needs a disk that can be written.")
        }
        Error::OutOfMemory => failure.hint("The passphrase's cost takes more memory than there is."),
        _ => failure,
    }
}
