//! `curve-tun peers`: the registry in a file.

use super::failure::{Failure, Outcome, print};
use curve_tun::registry::{
    Candidate, Entry, FileRegistry, Registry, RegistryFileError, ServerKeys, ServerName, Subject,
};
use curve_tun::{Error, PublicKey};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How much of a list is printed at a time.
const BATCH: usize = 64 * 1024;

/// Say who may come in: change, show and check a registry file.
///
/// The file has one entry a line: a place, a public key, and a comment. A place is where a client's key may come in from:
///
///   192.0.2.7       this address
///   192.0.2.0/24    this network, unless a more specific one that holds the address has entries
///   *               anywhere
///   !               nowhere, whatever other entries say
///
/// or, in the file of a client, a server that is known by the key:
///
///   [host]:port     as it is connected to
///
/// Quote these for the shell: '*' '!' '[host]:port'. Servers that have the file open see a change at their next handshake.
#[derive(clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub enum Command {
    Add(AddArgs),
    Remove(EntryArgs),
    List(ListArgs),
    Check(CheckArgs),
}

/// Add an entry; the file is made if there is none.
///
/// To have it twice is not an error, and changes nothing.
#[derive(clap::Args)]
pub struct AddArgs {
    #[command(flatten)]
    entry: EntryArgs,
    /// What to note beside the key: one line of at most 1024 bytes.
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

/// Remove an entry.
#[derive(clap::Args)]
pub struct EntryArgs {
    /// The registry file.
    #[arg(long, value_name = "FILE")]
    registry: PathBuf,
    /// An address, a network, '*', '!' or '[host]:port'.
    #[arg(value_parser = subject)]
    place: Subject,
    /// A public key: 44 characters of base64.
    #[arg(value_parser = key)]
    key: PublicKey,
}

/// Print all entries, in the order of the file.
#[derive(clap::Args)]
pub struct ListArgs {
    /// The registry file.
    #[arg(long, value_name = "FILE")]
    registry: PathBuf,
}

/// Check the file, or ask it a question.
///
/// With a file alone: whether every line is right; prints how many entries it has. With an address and a key: whether that
/// client may come in. With '[host]:port' and a key: whether that server is known by it. The answer no is exit code 3.
#[derive(clap::Args)]
pub struct CheckArgs {
    /// The registry file.
    #[arg(long, value_name = "FILE")]
    registry: PathBuf,
    /// An address, or '[host]:port'.
    #[arg(value_parser = whom, requires = "key")]
    whom: Option<Whom>,
    /// A public key: 44 characters of base64.
    #[arg(value_parser = key)]
    key: Option<PublicKey>,
}

/// Of whom `check` asks.
#[derive(Clone)]
enum Whom {
    Client(IpAddr),
    Server(ServerName),
}

fn subject(text: &str) -> Result<Subject, &'static str> {
    text.parse().map_err(|_| "not an address, a network, '*', '!' or '[host]:port'")
}

fn key(text: &str) -> Result<PublicKey, Error> {
    text.parse()
}

fn whom(text: &str) -> Result<Whom, &'static str> {
    let client = text.parse().map(Whom::Client).ok();
    client.or_else(|| text.parse().map(Whom::Server).ok()).ok_or("not an address or '[host]:port'")
}

pub fn run(command: Command) -> Outcome {
    match command {
        Command::Add(args) => add(args),
        Command::Remove(args) => remove(args),
        Command::List(args) => list(args),
        Command::Check(args) => check(args),
    }
}

fn add(AddArgs { entry: EntryArgs { registry: path, place, key }, comment }: AddArgs) -> Outcome {
    let entry = Entry { subject: place, key, comment };
    FileRegistry::add_to(&path, &entry).map_err(|error| match error {
        RegistryFileError::Failed(Error::InvalidArgument) if path.is_file() => Failure::new(
            "the comment does not fit",
        )
        .hint("It must be one line of at most 1024 bytes, without control characters or blanks around it."),
        error => failure(&path, error),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn remove(EntryArgs { registry: path, place, key }: EntryArgs) -> Outcome {
    FileRegistry::remove_from(&path, &place, &key).map_err(|error| failure(&path, error))?;
    Ok(ExitCode::SUCCESS)
}

fn list(ListArgs { registry: path }: ListArgs) -> Outcome {
    let (mut text, mut printed) = (String::new(), Ok(()));
    let listed = FileRegistry::each_entry(&path, |entry| {
        if !text.is_empty() {
            text.push('\n');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{entry}");
        if text.len() >= BATCH && printed.is_ok() {
            printed = print(std::mem::take(&mut text));
        }
    });
    printed?;
    if !text.is_empty() {
        print(text)?;
    }
    listed.map_err(|error| failure(&path, error))?;
    Ok(ExitCode::SUCCESS)
}

fn check(CheckArgs { registry: path, whom, key }: CheckArgs) -> Outcome {
    let (Some(whom), Some(key)) = (whom, key) else {
        let mut count = 0u64;
        FileRegistry::each_entry(&path, |_| count += 1).map_err(|error| failure(&path, error))?;
        print(format_args!("{count} entries"))?;
        return Ok(ExitCode::SUCCESS);
    };
    let registry = FileRegistry::open(&path).map_err(|error| failure(&path, error))?;
    let yes = match whom {
        Whom::Client(address) => registry.verify(&Candidate::new(address, key))?,
        Whom::Server(name) => registry.server_keys(&name, None).is_ok_and(|keys| keys.contains(&key)),
    };
    print(if yes { "yes" } else { "no" })?;
    Ok(if yes { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// What went wrong with the file, and what to do about it.
fn failure(path: &Path, error: RegistryFileError) -> Failure {
    let failure = Failure::new(format_args!("{}: {error}", path.display()));
    match error {
        RegistryFileError::Malformed(_) => {
            failure.hint("Correct that line. Servers that have the file open go on with the entries they have.")
        }
        RegistryFileError::Failed(Error::FileNotFound) => {
            failure.hint("`curve-tun peers add` makes the file, but no folder.")
        }
        RegistryFileError::Failed(Error::NotFound) => {
            failure.hint("`curve-tun peers list` shows the entries that there are.")
        }
        RegistryFileError::Failed(Error::RegistryPermissions) => failure.hint(
            "The file and its folder must belong to root or to you, and neither these nor any folder above may be \
             writable by all. Try: chmod o-w",
        ),
        RegistryFileError::Failed(Error::Timeout) => {
            failure.hint("Another program has been changing the file for ten seconds; try again when it has ended.")
        }
        RegistryFileError::Failed(_) => failure,
    }
}
