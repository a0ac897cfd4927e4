//! `curve-tun public`: prints the public key that belongs to a secret key.

use super::failure::{Failure, Outcome, print};
use super::input::secret_key;
use super::token;
use super::vault::file_failure;
use curve_tun::vault::FileVault;
#[cfg(target_os = "linux")]
use curve_tun::vault::Vault;
use curve_tun::{Error, PublicKey};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Print a public key: 44 characters of base64, the form that every part of curve_tun takes
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    curve-tun public --vault /etc/myserver/vault\n  \
    curve-tun public --agent /run/myserver/agent.sock")]
pub struct Args {
    #[command(flatten)]
    of: Of,
    /// Read the PIN from the first line of FILE, "-" for standard input, instead of asking at the
    /// terminal
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vault", "agent", "secret"])]
    passphrase_file: Option<PathBuf>,
}

/// Whose public key it is.
#[derive(clap::Args)]
#[group(id = "kept", required = true, multiple = false)]
struct Of {
    /// Of the vault in this file; its passphrase is not needed
    #[arg(long, value_name = "FILE")]
    vault: Option<PathBuf>,
    /// Of the agent at this socket
    #[arg(long, value_name = "SOCKET")]
    agent: Option<PathBuf>,
    /// Of the key in the PKCS#11 token of this URI; asks for the PIN
    #[arg(long, value_name = "URI")]
    pkcs11: Option<String>,
    /// Of the secret key in this file, 44 characters as keygen prints them; "-" for standard input
    #[arg(long, value_name = "FILE")]
    secret: Option<PathBuf>,
}

pub fn run(args: Args) -> Outcome {
    let public = match &args.of {
        Of { vault: Some(path), .. } => of_vault(path)?,
        Of { agent: Some(path), .. } => of_agent(path)?,
        Of { pkcs11: Some(uri), .. } => token::inspect(uri, &args.passphrase_file.into())?,
        Of { secret: Some(path), .. } => of_secret(path)?,
        _ => return Err(Failure::from(Error::InvalidArgument)),
    };
    print(public)?;
    Ok(ExitCode::SUCCESS)
}

fn of_vault(path: &Path) -> Result<PublicKey, Failure> {
    let info = FileVault::inspect(path).map_err(|error| file_failure("read the vault", path, error))?;
    Ok(info.public_key)
}

#[cfg(target_os = "linux")]
fn of_agent(path: &Path) -> Result<PublicKey, Failure> {
    Ok(super::check::reach(path)?.public_key())
}

#[cfg(not(target_os = "linux"))]
fn of_agent(_: &Path) -> Result<PublicKey, Failure> {
    Err(Failure::from(Error::Unsupported).hint("Agents run on Linux."))
}

fn of_secret(path: &Path) -> Result<PublicKey, Failure> {
    Ok(secret_key(path)?.public_key()?)
}
