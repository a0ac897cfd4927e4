//! `curve-tun public`: the public key that belongs to a secret one.

use super::failure::{Failure, Outcome, print};
use super::input;
use curve_tun::SecretKey;
use std::path::PathBuf;
use std::process::ExitCode;

/// Print a public key: 44 characters of base64, the form that every part of curve_tun takes.
#[derive(clap::Args)]
pub struct Args {
    /// A file that holds a secret key as keygen prints it, 44 characters; "-" for standard input.
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
}

pub fn run(args: Args) -> Outcome {
    let text = input::secret_line(&args.secret)?;
    let secret = SecretKey::from_text(&text).map_err(|e| {
        Failure::new(format_args!("{}: {e}", args.secret.display()))
            .hint("The file must hold the secret key alone, in the form that keygen prints after \"secret\".")
    })?;
    print(secret.public_key()?)?;
    Ok(ExitCode::SUCCESS)
}
