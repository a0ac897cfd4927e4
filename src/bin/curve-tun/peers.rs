//! `curve-tun peers`: changes and checks a registry in a file, and tries out one in DNS.

mod refused;

use super::failure::{Failure, Outcome, print, print_of_done};
use curve_tun::registry::{
    Candidate, Entry, FileRegistry, Place, Problem, Registry, RegistryFileError, ServerKeys, ServerName,
    Subject, read_address,
};
use curve_tun::{Error, PublicKey};
use nix::unistd::{Uid, User, geteuid};
pub use refused::failure as file_failure;
use refused::failure;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The number of bytes of a list that are printed at a time.
const BATCH: usize = 64 * 1024;

/// Say who may come in: change, show and check a registry file.
///
/// The file has one entry a line: a place, a public key, and a comment. A place is where a client's
/// key may come in from:
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
/// Quote these for the shell: '*' '!' '[host]:port'. Servers that have the file open see a change
/// at their next handshake.
#[derive(clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub enum Command {
    Add(AddArgs),
    Remove(RemoveArgs),
    /// Remove every entry of a key, but those that deny it; print how many there were.
    ///
    /// A key that was stolen is better denied ('!'): that outlives old copies of the entries.
    Purge(KeyArgs),
    List(ListArgs),
    /// Print the entries of a key, in the order of the file.
    ///
    /// Those of all right lines are printed, also if a line is wrong. That there are none is exit
    /// code 3.
    Find(KeyArgs),
    Check(CheckArgs),
}

/// Add an entry; the file is made if there is none.
///
/// To have it twice is not an error, and changes nothing. A key is denied ('!') also in a file with
/// a wrong line, which stays as it is and is named: servers that have the file open deny the key
/// from then on.
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
pub struct RemoveArgs {
    #[command(flatten)]
    entry: EntryArgs,
}

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

#[derive(clap::Args)]
pub struct KeyArgs {
    /// The registry file.
    #[arg(long, value_name = "FILE")]
    registry: PathBuf,
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

/// Check a file or a zone in DNS, or ask it a question.
///
/// With a file alone: whether every line is right; prints how many entries it has. With an address
/// or '[host]:port': prints the keys that may come in from there, or that the server is known by.
/// With a key, too: whether that client may come in, or that server is known by it. The answer no
/// is exit code 3.
///
/// With --as it is answered as a program sees it that this user runs: whether it can read the file,
/// and trusts file and folder. Only root can ask that for others.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    curve-tun peers check --registry /etc/myserver/peers --as myserver\n  \
    curve-tun peers check --registry peers 192.0.2.7\n  \
    curve-tun peers check --dns keys.example --trust-anchors keys.example.dnskey '[db.keys.example]:7000'")]
pub struct CheckArgs {
    /// The registry file.
    #[arg(long, value_name = "FILE", conflicts_with = "dns", required_unless_present = "dns")]
    registry: Option<PathBuf>,
    /// The user, a name or a number, that runs the program whose file it is.
    #[arg(long = "as", value_name = "USER", requires = "registry")]
    user: Option<String>,
    /// Ask the registry in DNS under this zone, with the proof by DNSSEC that servers ask for.
    #[arg(long, value_name = "ZONE", requires = "whom")]
    dns: Option<String>,
    /// A name server, such as 192.0.2.1:53 or '[2001:db8::1]:53', instead of those of
    /// /etc/resolv.conf; may be repeated.
    #[arg(long = "dns-server", value_name = "ADDRESS:PORT", requires = "dns")]
    servers: Vec<SocketAddr>,
    /// A file of DNSKEY or DS records, as keymgr and dig print them, that are trusted instead of
    /// the keys of the root zone.
    #[arg(long, value_name = "FILE", requires = "dns")]
    trust_anchors: Option<PathBuf>,
    /// An address, or '[host]:port'.
    #[arg(value_parser = whom)]
    whom: Option<Whom>,
    /// A public key: 44 characters of base64.
    #[arg(value_parser = key, requires = "whom")]
    key: Option<PublicKey>,
}

/// The client or server that `check` asks about.
#[derive(Clone)]
enum Whom {
    Client(IpAddr),
    Server(ServerName),
}

fn subject(text: &str) -> Result<Subject, String> {
    text.parse().map_err(|_| Problem::of_subject(text).to_string())
}

fn key(text: &str) -> Result<PublicKey, Error> {
    text.parse()
}

fn whom(text: &str) -> Result<Whom, String> {
    match (read_address(text), text.parse()) {
        (Ok(address), _) => Ok(Whom::Client(address)),
        (_, Ok(server)) => Ok(Whom::Server(server)),
        _ if text.starts_with('[') => Err(Problem::of_subject(text).to_string()),
        _ => Err("not an address or '[host]:port'".to_owned()),
    }
}

pub fn run(command: Command) -> Outcome {
    match command {
        Command::Add(args) => add(args),
        Command::Remove(RemoveArgs { entry }) => remove(entry),
        Command::Purge(args) => purge(args),
        Command::List(ListArgs { registry }) => list(&registry, |_| true).map(|_| ExitCode::SUCCESS),
        Command::Find(args) => find(args),
        Command::Check(args) => check(args),
    }
}

fn add(AddArgs { entry: EntryArgs { registry: path, place, key }, comment }: AddArgs) -> Outcome {
    let denies = place == Subject::Client(Place::Nowhere);
    let entry = Entry { subject: place, key, comment };
    FileRegistry::add_to(&path, &entry).map_err(|error| match error {
        RegistryFileError::Failed(Error::InvalidArgument) => Failure::new("the comment does not fit").hint(
            "It must be one line of at most 1024 bytes, without control characters or blanks around it.",
        ),
        error => failure(&path, error),
    })?;
    // Any other entry is refused if a line is wrong.
    if denies && let Err(RegistryFileError::Malformed(wrong)) = FileRegistry::each_entry(&path, |_| {}) {
        eprintln!(
            "curve-tun: {}: {wrong}\nThe key is denied by servers that have the file open. Correct that line: until then \
             they take nothing else from the file, and a server that starts refuses it.",
            path.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(EntryArgs { registry: path, place, key }: EntryArgs) -> Outcome {
    FileRegistry::remove_from(&path, &place, &key).map_err(|error| failure(&path, error))?;
    Ok(ExitCode::SUCCESS)
}

fn purge(KeyArgs { registry: path, key }: KeyArgs) -> Outcome {
    let count = FileRegistry::remove_key_from(&path, &key).map_err(|error| failure(&path, error))?;
    print_of_done(
        format_args!("{count} removed"),
        "They are removed all the same. `curve-tun peers list` shows what is left.",
    )?;
    Ok(ExitCode::SUCCESS)
}

fn find(KeyArgs { registry: path, key }: KeyArgs) -> Outcome {
    let found = list(&path, |entry| entry.key == key)?;
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// Prints the entries for which `wanted` returns true; returns whether there were any.
fn list(path: &Path, wanted: impl Fn(&Entry) -> bool) -> Result<bool, Failure> {
    let (mut text, mut printed, mut any) = (String::new(), Ok(()), false);
    let listed = FileRegistry::each_entry(path, |entry| {
        if !wanted(&entry) {
            return;
        }
        any = true;
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
    listed.map_err(|error| failure(path, error))?;
    Ok(any)
}

fn check(args: CheckArgs) -> Outcome {
    if let Some(user) = &args.user {
        become_user(user)?;
    }
    let (Some(whom), Some(path)) = (&args.whom, &args.registry) else {
        let Some(path) = &args.registry else { return check_dns(&args) };
        let mut count = 0u64;
        FileRegistry::each_entry(path, |_| count += 1).map_err(|error| failure(path, error))?;
        print(format_args!("{count} entries"))?;
        return Ok(ExitCode::SUCCESS);
    };
    let registry = FileRegistry::open(path).map_err(|error| failure(path, error))?;
    match (whom, &args.key) {
        (Whom::Client(address), None) => keys(registry.lookup(*address)),
        (Whom::Client(address), Some(key)) => answer(registry.verify(&Candidate::new(*address, *key))?),
        (Whom::Server(name), key) => {
            let known = registry.server_keys(name, None).unwrap_or_default();
            key.map_or_else(|| keys(known.clone()), |key| answer(known.contains(&key)))
        }
    }
}

fn answer(yes: bool) -> Outcome {
    print(if yes { "yes" } else { "no" })?;
    Ok(if yes { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn keys(keys: Vec<PublicKey>) -> Outcome {
    for key in &keys {
        print(key)?;
    }
    Ok(if keys.is_empty() { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

#[cfg(not(feature = "dns"))]
fn check_dns(_: &CheckArgs) -> Outcome {
    Err(Failure::from(Error::Unsupported).hint("Build the tool with the feature dns."))
}

#[cfg(feature = "dns")]
fn check_dns(args: &CheckArgs) -> Outcome {
    use curve_tun::registry::{DnsOptions, DnsRegistry};

    let zone = args.dns.as_deref().unwrap_or_default();
    let mut options = DnsOptions::default().servers(args.servers.clone());
    if let Some(path) = &args.trust_anchors {
        options.trust_anchors = Some(read_anchors(path)?);
    }
    let registry = DnsRegistry::open(zone, &options).map_err(|error| {
        Failure::new(format_args!("{zone}: {error}")).hint(match error {
            Error::InvalidArgument => {
                "It is no domain name, or too long a one for the names of addresses under it."
            }
            _ => "Check /etc/resolv.conf, or name a server with --dns-server.",
        })
    })?;
    let found = match args.whom.as_ref().ok_or(Error::InvalidArgument)? {
        Whom::Client(address) => registry.lookup(*address, None),
        Whom::Server(name) => registry.server_keys(name, None),
    };
    let found = match found {
        Ok(found) => found,
        Err(Error::NotFound) => Vec::new(),
        Err(error) => {
            return Err(Failure::new(format_args!("{zone}: {error}")).hint(match error {
                Error::NotValidated => {
                    "The zone is not signed, a signature is wrong or expired, or the chain does not begin at the trust \
                     anchors; or the name server does not hand on DNSSEC's records."
                }
                _ => "No name server gave an answer in time: check /etc/resolv.conf or --dns-server.",
            }));
        }
    };
    args.key.map_or_else(|| keys(found.clone()), |key| answer(found.contains(&key)))
}

#[cfg(feature = "dns")]
fn read_anchors(path: &Path) -> Result<String, Failure> {
    const FORM: &str = "Trust anchors are DNSKEY or DS records as `keymgr ZONE dnskey`, `keymgr ZONE ds` and \
                        `dig ZONE DNSKEY` print them.";
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::new(format_args!("cannot read {}: {e}", path.display())).hint(FORM))?;
    curve_tun::registry::check_trust_anchors(&text)
        .map_err(|wrong| Failure::new(format_args!("{}: {wrong}", path.display())).hint(FORM))?;
    Ok(text)
}

/// Becomes another user, permanently.
fn become_user(user: &str) -> Result<(), Failure> {
    let found = match user.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(user),
    };
    let found = found.ok().flatten().ok_or_else(|| {
        Failure::new(format_args!("there is no user {user}"))
            .hint("`getent passwd` shows those that there are.")
    })?;
    if found.uid == geteuid() {
        return Ok(());
    }
    switch(&found).map_err(|e| {
        Failure::new(format_args!("cannot look as user {user}: {e}"))
            .hint("Only root can look as another user: run this by sudo, or as that user without --as.")
    })
}

#[cfg(not(target_vendor = "apple"))]
fn switch(user: &User) -> nix::Result<()> {
    let name = std::ffi::CString::new(user.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
    nix::unistd::initgroups(&name, user.gid)?;
    nix::unistd::setgid(user.gid)?;
    nix::unistd::setuid(user.uid)
}

#[cfg(target_vendor = "apple")]
fn switch(_: &User) -> nix::Result<()> {
    Err(nix::Error::ENOTSUP)
}
