//! `curve-tun agent`: the process that alone knows the key of a vault.

use super::failure::{Failure, Outcome, print};
use super::input::secret_key;
use super::vault::{PassphraseArgs, open_file};
use super::watched::Watched;
use super::{notify, signals, token};
use curve_tun::Error;
use curve_tun::vault::{Agent, MemoryVault, Vault};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Keep a vault open and answer for it over a Unix socket
///
/// The agent alone knows the key; programs of the same user ask it to box and to open boxes
/// (curve_tun_vault_open_agent in C). It runs in the foreground, prints "listening on SOCKET" when
/// it is ready, which it also tells systemd (Type=notify), and ends at SIGTERM, SIGINT or SIGHUP,
/// its keys wiped and its socket removed; where such a signal was ignored when it was started
/// (nohup), it stays ignored. It may be started after its clients, and restarted under them. When
/// its vault fails, as when a token is taken away, and when it answers again, it says so on
/// standard error.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  curve-tun agent --vault /etc/myserver/vault --socket /run/myserver/agent.sock"
)]
pub struct Args {
    #[command(flatten)]
    of: Of,
    /// Where to listen: a path of at most 107 bytes, in a folder that others cannot write
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

/// Whose key it knows.
#[derive(clap::Args)]
#[group(id = "kept", required = true, multiple = false)]
struct Of {
    /// The vault in this file, as keygen made it
    #[arg(long, value_name = "FILE")]
    vault: Option<PathBuf>,
    /// The key in the PKCS#11 token of this URI
    #[arg(long, value_name = "URI")]
    pkcs11: Option<String>,
    /// The secret key in this file, 44 characters as keygen prints them; it is kept in memory, and
    /// no file is written
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    secret: Option<PathBuf>,
}

impl Of {
    fn open(&self, passphrase: &PassphraseArgs) -> Result<Arc<dyn Vault>, Failure> {
        match self {
            Of { vault: Some(path), .. } => Ok(Arc::new(Watched::new(open_file(path, passphrase)?))),
            Of { secret: Some(path), .. } => Ok(Arc::new(MemoryVault::new(secret_key(path)?)?)),
            Of { pkcs11: Some(uri), .. } => Ok(Arc::new(Watched::new(token::open(uri, passphrase)?))),
            _ => Err(Failure::from(Error::InvalidArgument)),
        }
    }
}

pub fn run(args: Args) -> Outcome {
    let vault = args.of.open(&args.passphrase)?;
    // From here on, a signal ends the loop instead of the process, and then what follows runs.
    let stop = signals::stop()?;
    let public = vault.public_key();
    let agent = Agent::bind(&args.socket, vault).map_err(|error| bind_failure(&args, error))?;
    if !lock_memory() {
        eprintln!(
            "curve-tun: not all memory could be locked (the keys are in locked pages of their own as far as the limit \
             goes)\nRaise the limit: \"ulimit -l unlimited\", or LimitMEMLOCK=infinity in a systemd unit."
        );
    }
    // If nobody reads this, clients should still be able to use the key.
    let _ = print(format_args!("public key {public}\nlistening on {}", args.socket.display()));
    notify::ready()?;
    agent.run(stop.as_fd()).map_err(|error| Failure::new(format_args!("the agent stopped: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

fn bind_failure(args: &Args, error: Error) -> Failure {
    let failure = Failure::new(format_args!("cannot listen on {}: {error}", args.socket.display()));
    match error {
        Error::AddressInUse => failure.hint("Another agent listens there. Stop it, or choose another path."),
        Error::AlreadyExists => {
            failure.hint("It is not a socket, and is left as it is. Choose another path.")
        }
        Error::FileNotFound if args.socket.parent().is_some_and(Path::is_dir) => {
            failure.hint("The file system of that folder makes no sockets. Choose another.")
        }
        Error::FileNotFound => failure.hint("Make the folder first, so that only you can write in it."),
        Error::PermissionDenied => failure.hint("This user may not write in the folder of the socket."),
        Error::InvalidArgument => failure.hint("The path of a socket has at most 107 bytes."),
        _ => failure,
    }
}

/// Keeps memory out of the swap: if there is no limit, all present and future memory; otherwise
/// only what there is now.
fn lock_memory() -> bool {
    let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap_or((0, 0));
    // Every process may raise its limit as far as the hard limit.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard);
    if hard == RLIM_INFINITY {
        mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).is_ok()
    } else {
        // Locking future memory would make allocations fail at the limit.
        mlockall(MlockAllFlags::MCL_CURRENT).is_ok()
    }
}
