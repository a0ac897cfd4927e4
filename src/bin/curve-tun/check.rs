//! `curve-tun check`: checks whether an agent can use its key.

use super::failure::{Failure, Outcome, print};
use super::watched::AWAY;
use curve_tun::Error;
use curve_tun::vault::{AgentVault, Vault, exercise};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Check that an agent can use its key, and print its public key
///
/// The agent has its vault seal a box, as for a client of a server, and the box is opened with a
/// key made for that alone. So a token that is away or refuses its PIN, or a disk that is full, is
/// found before clients find it, and a token that is back is taken up again. "curve-tun public
/// --agent" asks for the public key only, which the agent remembers.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  curve-tun check --agent /run/myserver/agent.sock")]
pub struct Args {
    /// The agent at this socket
    #[arg(long, value_name = "SOCKET")]
    agent: PathBuf,
}

pub fn run(args: Args) -> Outcome {
    let agent = reach(&args.agent)?;
    exercise(&agent).map_err(|error| {
        let shown = args.agent.display();
        let reason = if error == Error::NotFound { AWAY } else { error.message() };
        Failure::new(format_args!("the agent at {shown} cannot use its key: {reason}")).hint(advice(error))
    })?;
    print(agent.public_key())?;
    Ok(ExitCode::SUCCESS)
}

/// Connects to the agent at `path`, and checks that it answers.
pub fn reach(path: &Path) -> Result<AgentVault, Failure> {
    AgentVault::open(path).map_err(|error| {
        let failure = Failure::new(format_args!("cannot ask the agent at {}: {error}", path.display()));
        match error {
            Error::FileNotFound | Error::ConnectionRefused => failure.hint(
                "None listens there, and none came within 5 seconds. \"curve-tun agent --vault FILE --socket PATH\" runs \
                 one.",
            ),
            Error::PermissionDenied | Error::Closed => failure.hint(
                "An agent answers only processes of the user that it runs as, and of root: be that user (\"sudo -u USER\").",
            ),
            Error::InvalidArgument => failure.hint("The path of a socket has at most 107 bytes."),
            Error::VaultVersion => failure.hint("Have agent and clients of one version."),
            _ => failure.hint("Is it an agent that listens there? If so, restart it."),
        }
    })
}

fn advice(error: Error) -> &'static str {
    match error {
        Error::NotFound => "When it is back, the agent finds it by itself.",
        Error::WrongPassphrase => {
            "Its token was away and refused the PIN when it was back. Start the agent again with the right PIN."
        }
        Error::PinLocked => "Its token's security officer sets a new PIN. Then start the agent again.",
        Error::DiskFull | Error::ReadOnly | Error::Io | Error::PermissionDenied => {
            "The bound of its key's counter cannot be written to the vault's file, or the state of the key in a token."
        }
        Error::Timeout => "Its vault hangs, or it has more to do than it can in five seconds.",
        _ => "What the agent wrote to standard error may tell more.",
    }
}
