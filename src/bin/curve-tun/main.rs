//! `curve-tun`: tunnels, keys, and what keeps the keys, from the command line.
//!
//! There is one file for each subcommand. A subcommand prints its result to standard output and
//! returns the exit code. If it fails, it returns a [`failure::Failure`], which says what went
//! wrong and what to do about it.

#[cfg(target_os = "linux")]
mod agent;
#[cfg(target_os = "linux")]
mod check;
#[cfg(feature = "forward")]
mod documents;
mod failure;
#[cfg(all(target_os = "linux", feature = "forward"))]
mod forward;
mod input;
mod keygen;
#[cfg(target_os = "linux")]
mod notify;
mod peers;
mod public;
mod reseal;
mod signals;
mod terminal;
mod token;
mod vault;
#[cfg(target_os = "linux")]
mod watched;

use clap::{Parser, Subcommand};
use failure::{Failure, Outcome, told};
use nix::sys::resource::{Resource, setrlimit};
use std::io::{self, Write};
use std::process::ExitCode;

/// Tunnels for any TCP service, their keys, and what keeps the keys
#[derive(Parser)]
#[command(
    name = "curve-tun",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes:\n  \
        0  done\n  \
        1  it could not be done; standard error says why and what to do\n  \
        2  the command line is wrong\n  \
        3  a question was asked, and the answer is no\n  \
        4  a passphrase or PIN is wrong, or a PIN is locked; to be started again by itself would lock a token;\n     \
           of \"pipe\": the transfer was cut\n  \
        5  ended by force, with connections that had not ended"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Keygen(keygen::Args),
    Public(public::Args),
    Passphrase(reseal::ChangeArgs),
    Renew(reseal::RenewArgs),
    #[command(subcommand)]
    Peers(peers::Command),
    #[cfg(target_os = "linux")]
    Agent(agent::Args),
    #[cfg(target_os = "linux")]
    Check(check::Args),
    #[cfg(all(target_os = "linux", feature = "forward"))]
    Serve(forward::serve::Args),
    #[cfg(all(target_os = "linux", feature = "forward"))]
    Connect(forward::connect::Args),
    #[cfg(all(target_os = "linux", feature = "forward"))]
    Pipe(forward::pipe::Args),
    #[cfg(all(target_os = "linux", feature = "forward"))]
    Ping(forward::ping::Args),
    #[cfg(feature = "forward")]
    Documents(documents::Args),
}

impl Command {
    fn run(self) -> Outcome {
        match self {
            Command::Keygen(args) => keygen::run(args),
            Command::Public(args) => public::run(args),
            Command::Passphrase(args) => reseal::passphrase(args),
            Command::Renew(args) => reseal::renew(args),
            Command::Peers(command) => peers::run(command),
            #[cfg(target_os = "linux")]
            Command::Agent(args) => agent::run(args),
            #[cfg(target_os = "linux")]
            Command::Check(args) => check::run(args),
            #[cfg(all(target_os = "linux", feature = "forward"))]
            Command::Serve(args) => forward::serve::run(args),
            #[cfg(all(target_os = "linux", feature = "forward"))]
            Command::Connect(args) => forward::connect::run(args),
            #[cfg(all(target_os = "linux", feature = "forward"))]
            Command::Pipe(args) => forward::pipe::run(args),
            #[cfg(all(target_os = "linux", feature = "forward"))]
            Command::Ping(args) => forward::ping::run(args),
            #[cfg(feature = "forward")]
            Command::Documents(args) => documents::run(args),
        }
    }
}

fn main() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => harden().and_then(|()| signals::watch()).and_then(|()| cli.command.run()),
        Err(answer) => explain(&answer),
    };
    done.unwrap_or_else(Failure::report)
}

/// Turns off core dumps, which would show keys and passphrases, and ptrace by processes of the same
/// user. This happens before there is anything to see.
fn harden() -> Result<(), Failure> {
    let hardened = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    #[cfg(target_os = "linux")]
    let hardened = hardened.and_then(|()| nix::sys::prctl::set_dumpable(false));
    hardened.map_err(|e| Failure::new(format_args!("cannot turn core dumps off: {e}")))
}

/// Prints the help or the version, or what is wrong with the command line.
fn explain(answer: &clap::Error) -> Outcome {
    let printed = answer.print().and_then(|()| io::stdout().flush());
    if !answer.use_stderr() {
        told(printed)?;
    }
    Ok(ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2)))
}
