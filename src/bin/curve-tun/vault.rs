//! Vaults as subcommands open them: how a passphrase comes, and what errors say.

use super::failure::{Failure, PIN_REFUSED};
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
        Error::WrongPassphrase => {
            failure.hint("Try again. Without its passphrase a vault cannot be opened.").code(PIN_REFUSED)
        }
        Error::DiskFull => failure.hint("Make room on the disk. Nothing was lost."),
        Error::ReadOnly => {
            failure.hint("A vault writes the bound of its counter: it needs a disk that can be written.")
        }
        Error::OutOfMemory => failure.hint("The passphrase's cost takes more memory than there is."),
        _ => failure,
    }
}
