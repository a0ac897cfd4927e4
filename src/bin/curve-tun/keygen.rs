//! `curve-tun keygen`: makes a new long-term key pair.

use super::failure::{Failure, Outcome, check_output, print, print_of_done, print_secret};
use super::input::secret_key;
use super::token;
use super::vault::{PassphraseArgs, creation_failure};
use clap::ValueEnum;
use curve_tun::vault::{Cost, FileVault, Vault};
use curve_tun::{KEY_TEXT_LEN, SecretKey};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Make a new long-term key pair
///
/// With --vault the secret key goes into a new file that only you can read, with --pkcs11 it is
/// made in a token; the public key is printed. Without both, "public" and "secret" are printed,
/// each followed by a key, 44 characters of base64, and nothing is kept.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("sealed").multiple(true))]
#[command(after_help = "Examples:\n  \
    curve-tun keygen --vault /etc/myserver/vault\n  \
    curve-tun keygen --vault vault --passphrase --cost sensitive\n  \
    curve-tun keygen --vault vault --secret old.secret\n  \
    curve-tun keygen --pkcs11 'pkcs11:token=office;object=myserver?module-path=/usr/lib/softhsm/libsofthsm2.so'")]
pub struct Args {
    /// Keep the pair in a new vault, in this file
    #[arg(long, value_name = "FILE", group = "kept")]
    vault: Option<PathBuf>,
    /// Make the pair in the PKCS#11 token of this URI (RFC 7512), which the secret key never leaves
    #[arg(long, value_name = "URI", group = "kept")]
    pkcs11: Option<String>,
    /// Keep this secret key, rather than a new one: 44 characters as keygen prints them; "-" for
    /// standard input
    #[arg(long, value_name = "FILE", requires = "vault", conflicts_with = "pkcs11")]
    secret: Option<PathBuf>,
    /// Seal the file with a passphrase, which is asked for unless --passphrase-file gives it
    #[arg(long, requires = "vault", conflicts_with = "pkcs11", group = "sealed")]
    passphrase: bool,
    #[command(flatten)]
    source: PassphraseArgs,
    /// What guessing the passphrase shall cost, and opening the vault
    #[arg(long, value_enum, default_value_t = Named::Moderate, requires = "sealed", conflicts_with = "pkcs11")]
    cost: Named,
}

/// libsodium's names for its costs.
#[derive(Clone, Copy, ValueEnum)]
pub enum Named {
    /// 64 MiB and about 0.1 s
    Interactive,
    /// 256 MiB and about 0.7 s
    Moderate,
    /// 1 GiB and about 3.5 s
    Sensitive,
}

impl From<Named> for Cost {
    fn from(named: Named) -> Cost {
        match named {
            Named::Interactive => Cost::INTERACTIVE,
            Named::Moderate => Cost::MODERATE,
            Named::Sensitive => Cost::SENSITIVE,
        }
    }
}

pub fn run(args: Args) -> Outcome {
    match (&args.vault, &args.pkcs11) {
        (Some(path), _) => in_file(path, &args)?,
        (_, Some(uri)) => in_token(uri, &args.source)?,
        _ => to_output()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn in_file(path: &Path, args: &Args) -> Result<(), Failure> {
    let sealed = args.passphrase || args.source.given();
    let passphrase = if sealed { Some(args.source.read_new()?) } else { None };
    let passphrase = passphrase.as_deref().map(Vec::as_slice);
    let vault = match &args.secret {
        Some(secret) => FileVault::create_with(path, secret_key(secret)?, passphrase, args.cost.into()),
        None => FileVault::create(path, passphrase, args.cost.into()),
    };
    let vault = vault.map_err(|error| creation_failure(path, error))?;
    let shown = path.display();
    print_of_done(
        vault.public_key(),
        format_args!("The vault is made. \"curve-tun public --vault {shown}\" prints its public key."),
    )
}

fn in_token(uri: &str, pin: &PassphraseArgs) -> Result<(), Failure> {
    let vault = token::generate(uri, pin)?;
    print_of_done(
        vault.public_key(),
        "The key is in the token. \"curve-tun public --pkcs11 URI\" prints its public key.",
    )
}

fn to_output() -> Result<(), Failure> {
    check_output()?;
    let secret = SecretKey::generate()?;
    print(format_args!("public {}", secret.public_key()?))?;
    let mut text = Zeroizing::new([0; KEY_TEXT_LEN]);
    secret.expose_text(&mut text);
    print_secret(b"secret ", &*text)
}
