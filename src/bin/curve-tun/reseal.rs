//! `curve-tun passphrase` and `curve-tun renew`: write the file of a vault anew, with the same key.

use super::failure::{Outcome, print_of_done};
use super::keygen::Named;
use super::vault::{PassphraseArgs, file_failure, new_passphrase, passphrase_of};
use curve_tun::vault::FileVault;
use std::path::PathBuf;
use std::process::ExitCode;

/// Change the passphrase of a vault in a file, give it one, or take it away
///
/// The key stays; its public key is printed. The file is replaced whole: after a crash it is the
/// old one or the new one. The vault must not be open. Copies of the old file, and what the disk
/// still holds of it, open with the old passphrase: if that was seen by others, make a new key.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    curve-tun passphrase --vault vault\n  \
    curve-tun passphrase --vault vault --passphrase-file old --new-passphrase-file new\n  \
    curve-tun passphrase --vault vault --remove")]
pub struct ChangeArgs {
    /// The vault in this file
    #[arg(long, value_name = "FILE", group = "kept")]
    vault: PathBuf,
    #[command(flatten)]
    old: PassphraseArgs,
    /// Read the new passphrase from the first line of FILE, instead of asking at the terminal
    #[arg(long, value_name = "FILE", group = "new")]
    new_passphrase_file: Option<PathBuf>,
    /// Have the file protected by its permissions alone
    #[arg(long, group = "new")]
    remove: bool,
    /// What guessing the new passphrase shall cost, and opening the vault
    #[arg(long, value_enum, default_value_t = Named::Moderate, conflicts_with = "remove")]
    cost: Named,
}

/// Make a vault safe to use that was restored from a backup, or whose counter is damaged
///
/// A copy's counter is older than the last that was used, so nonces could come again. This draws a
/// new nonce block key, under which none has been used, and begins counting anew. The key stays,
/// and so does the passphrase; the public key is printed. Run it each time that a copy is put to
/// use, and before that.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  cp -p backup/vault /var/lib/myserver/vault && curve-tun renew --vault /var/lib/myserver/vault"
)]
pub struct RenewArgs {
    /// The vault in this file
    #[arg(long, value_name = "FILE", group = "kept")]
    vault: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

pub fn passphrase(args: ChangeArgs) -> Outcome {
    let old = passphrase_of(&args.vault, &args.old)?;
    let new = if args.remove { None } else { Some(new_passphrase(args.new_passphrase_file.as_deref())?) };
    let [old, new] = [&old, &new].map(|passphrase| passphrase.as_deref().map(Vec::as_slice));
    let changed = FileVault::change_passphrase(&args.vault, old, new, args.cost.into());
    let changed = changed.map_err(|error| file_failure("change the passphrase of", &args.vault, error))?;
    print_of_done(changed, "The passphrase is changed all the same.")?;
    Ok(ExitCode::SUCCESS)
}

pub fn renew(args: RenewArgs) -> Outcome {
    let passphrase = passphrase_of(&args.vault, &args.passphrase)?;
    let renewed = FileVault::renew(&args.vault, passphrase.as_deref().map(Vec::as_slice));
    let renewed = renewed.map_err(|error| file_failure("renew", &args.vault, error))?;
    print_of_done(renewed, "The vault is renewed all the same.")?;
    Ok(ExitCode::SUCCESS)
}
