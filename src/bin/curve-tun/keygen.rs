//! `curve-tun keygen`: a new long-term key pair.

use super::failure::{Outcome, print, print_secret};
use curve_tun::{KEY_TEXT_LEN, SecretKey};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Make a new long-term key pair.
///
/// Prints "public" and "secret", each followed by a key: 44 characters of base64. The secret key is printed this once
/// and kept nowhere.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: Args) -> Outcome {
    let secret = SecretKey::generate()?;
    print(format_args!("public {}", secret.public_key()?))?;
    let mut text = Zeroizing::new([0; KEY_TEXT_LEN]);
    secret.expose_text(&mut text);
    print_secret(b"secret ", &*text)?;
    Ok(ExitCode::SUCCESS)
}
