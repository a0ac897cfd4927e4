//! `curve-tun`: keys and what keeps them, from the command line.
//!
//! One file for each subcommand. A subcommand prints its result to standard
//! output and gives the exit code; what went wrong is a [`failure::Failure`],
//! which says what to do about it.

#[cfg(target_os = "linux")]
mod agent;
#[cfg(target_os = "linux")]
mod check;
mod failure;
mod input;
mod keygen;
mod peers;
mod public;
mod token;
mod vault;
#[cfg(target_os = "linux")]
mod watched;

use clap::{Parser, Subcommand};
use failure::Outcome;
use std::process::ExitCode;

/// Keys for curve_tun tunnels, and what keeps them
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
        4  a passphrase or PIN is wrong, or a PIN is locked; to be started again by itself would lock a token"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Keygen(keygen::Args),
    Public(public::Args),
    #[command(subcommand)]
    Peers(peers::Command),
    #[cfg(target_os = "linux")]
    Agent(agent::Args),
    #[cfg(target_os = "linux")]
    Check(check::Args),
}

impl Command {
    fn run(self) -> Outcome {
        match self {
            Command::Keygen(args) => keygen::run(args),
            Command::Public(args) => public::run(args),
            Command::Peers(command) => peers::run(command),
            #[cfg(target_os = "linux")]
            Command::Agent(args) => agent::run(args),
            #[cfg(target_os = "linux")]
            Command::Check(args) => check::run(args),
        }
    }
}

fn main() -> ExitCode {
    Cli::parse().command.run().unwrap_or_else(|failure| failure.report())
}
