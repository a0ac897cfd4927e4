//! How subcommands open vaults: where the passphrase comes from, and what errors say.

use super::failure::{Failure, PIN_REFUSED};
use super::input::secret_line;
use super::terminal::ask;
use curve_tun::Error;
use curve_tun::vault::{Exposure, FileVault};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// How the passphrase of a vault, or the PIN of a token, comes.
#[derive(clap::Args)]
pub struct PassphraseArgs {
    /// Read the passphrase or PIN from the first line of FILE, "-" for standard input, instead of
    /// asking at the terminal
    #[arg(long, value_name = "FILE", requires = "kept", group = "sealed")]
    passphrase_file: Option<PathBuf>,
}

impl From<Option<PathBuf>> for PassphraseArgs {
    fn from(passphrase_file: Option<PathBuf>) -> PassphraseArgs {
        PassphraseArgs { passphrase_file }
    }
}

impl PassphraseArgs {
    /// Returns whether the passphrase comes from somewhere other than the terminal.
    pub fn given(&self) -> bool {
        self.passphrase_file.is_some()
    }

    /// Returns the passphrase of a vault that has one.
    pub fn read(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match &self.passphrase_file {
            Some(path) => secret_line(path),
            None => ask("Passphrase: "),
        }
    }

    /// Returns a passphrase for a new vault. At the terminal, it is asked for twice.
    pub fn read_new(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        new_passphrase(self.passphrase_file.as_deref())
    }
}

/// Returns a passphrase to seal a file with. It is the first line of a file, or is asked for twice
/// at the terminal.
pub fn new_passphrase(file: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let passphrase = match file {
        Some(path) => secret_line(path)?,
        None => {
            let passphrase = ask("New passphrase: ")?;
            if *ask("The same again: ")? != *passphrase {
                return Err(Failure::new("the two passphrases differ").hint("Nothing was done. Try again."));
            }
            passphrase
        }
    };
    if passphrase.is_empty() {
        return Err(Failure::new("the passphrase is empty")
            .hint("Give one. Without a passphrase a file is protected by its permissions alone."));
    }
    Ok(passphrase)
}

/// Opens a file vault, asking for its passphrase if it has one.
pub fn open_file(path: &Path, passphrase: &PassphraseArgs) -> Result<FileVault, Failure> {
    let passphrase = passphrase_of(path, passphrase)?;
    FileVault::open(path, passphrase.as_deref().map(Vec::as_slice))
        .map_err(|error| file_failure("open the vault", path, error))
}

/// Returns the passphrase of the vault in this file, if it has one. If a passphrase is given for a
/// vault that has none, this fails, because the vault's owner believes that it is sealed.
pub fn passphrase_of(path: &Path, args: &PassphraseArgs) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let info = FileVault::inspect(path).map_err(|error| file_failure("open the vault", path, error))?;
    if info.sealed {
        return args.read().map(Some);
    }
    if args.given() {
        return Err(Failure::new(format_args!("the vault {} is not sealed: it has no passphrase", path.display()))
            .hint(
                "Leave --passphrase-file away, or seal it: \"curve-tun passphrase --vault FILE\". Copies that were made \
                 before stay open.",
            ));
    }
    Ok(None)
}

/// Returns the failure for an error in making a vault's file, with what to do about it.
pub fn creation_failure(path: &Path, error: Error) -> Failure {
    let what = "make a vault in";
    let shown = path.display();
    let failure = Failure::new(format_args!("cannot {what} {shown}: {error}"));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match error {
        Error::AlreadyExists => match FileVault::exposure(path) {
            Ok(Some(reason @ (Exposure::Link | Exposure::NotAFile))) => {
                Failure::new(format_args!("cannot {what} {shown}: {reason}"))
                    .hint("A vault is made in a new file. Choose another name.")
            }
            _ => failure.hint(
                "Nothing is ever overwritten. Choose another name, or move the old file away; if that is a vault, its key \
                 is lost without it.",
            ),
        },
        Error::FileNotFound if folder.is_dir() => failure.hint(format_args!(
            "The file system of {} makes no files there. Choose another folder.",
            folder.display()
        )),
        Error::FileNotFound if folder.exists() => {
            failure.hint(format_args!("{} is not a folder.", folder.display()))
        }
        Error::FileNotFound => failure.hint(format_args!(
            "There is no folder {0}. Make it first: mkdir -m 700 {0}",
            folder.display()
        )),
        Error::PermissionDenied => {
            failure.hint(format_args!("This user may not write in the folder {}.", folder.display()))
        }
        error => file_failure(what, path, error),
    }
}

/// Returns the failure for an error with a vault's file, with what to do about it.
pub fn file_failure(what: &str, path: &Path, error: Error) -> Failure {
    let shown = path.display();
    let failure = Failure::new(format_args!("cannot {what} {shown}: {error}"));
    match error {
        Error::FileNotFound => {
            failure.hint("Check the path. \"curve-tun keygen --vault FILE\" makes a vault.")
        }
        Error::PermissionDenied => {
            failure.hint("Run this as the user to whom the vault belongs (\"sudo -u USER\").")
        }
        Error::VaultPermissions => match FileVault::exposure(path) {
            Ok(Some(reason)) => Failure::new(format_args!("cannot {what} {shown}: {reason}")).hint(match reason {
                Exposure::Link => "Name the file itself: where a link leads, others may decide.",
                Exposure::Owner(_) => {
                    "Run this as the user to whom the vault belongs (\"sudo -u USER\"), or make it yours with chown, if \
                     nobody else has read it."
                }
                Exposure::Mode(_) => {
                    "If others have read it, their copy of the key stays good: make a new one. Else: chmod 600, and see \
                     how it came to be open."
                }
                _ => "A vault is a regular file, as \"curve-tun keygen --vault FILE\" makes it. Check the path.",
            }),
            _ => failure.hint("A vault must be a regular file of your own with mode 0600."),
        },
        Error::InvalidArgument => {
            failure.hint("The name of a file has at most 255 bytes, and a path 4,095, none of them zero.")
        }
        Error::VaultInUse => {
            failure.hint("Stop that process, or have all of them use one \"curve-tun agent\" and its socket.")
        }
        Error::VaultCorrupt => failure.hint(
            "If only its counter is damaged, \"curve-tun renew --vault FILE\" mends it. Else restore it from a backup, and \
             renew that; or make a new vault with a new key.",
        ),
        Error::VaultVersion => failure.hint("Install the version of curve-tun that made it, or a later one."),
        Error::WrongPassphrase => {
            failure.hint("Try again. Without its passphrase a vault cannot be opened.").code(PIN_REFUSED)
        }
        Error::DiskFull => failure.hint(
            "Make room on the disk, or raise the limit of a file's size (\"ulimit -f\"). Nothing was lost.",
        ),
        Error::ReadOnly => failure.hint(
            "A vault writes the bound of its counter: it needs a disk that can be written. Where there is none, keep the \
             key alone there: \"curve-tun agent --secret FILE\".",
        ),
        Error::OutOfMemory => failure.hint("The passphrase's cost takes more memory than there is."),
        Error::TooManyFiles => failure.hint("Raise the limit of open files (\"ulimit -n\")."),
        _ => failure.hint("Look for errors of the disk in the system's log."),
    }
}
