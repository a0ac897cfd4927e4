//! A process that draws nonces from a file vault until it is killed, for the crash tests: the
//! program that includes this module, run again for its test `nonce_giver` alone.
//!
//! It opens the vault, draws three nonces and closes it, over and over. Each nonce goes to standard
//! output, 16 bytes, before the next is drawn. The number of the first error is the exit code.

use crate::support::full_name;
use curve_tun::vault::{FileVault, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, exit};

/// Set in such a process: the vault's file, and the number of rounds if it is limited.
const FILE: &str = "CURVE_TUN_NONCES_OF";
const ROUNDS: &str = "CURVE_TUN_NONCES_ROUNDS";
/// Precedes the first nonce; anything before it comes from the test harness.
const BEGIN: &[u8] = b"nonces:\n";

/// Returns the command that draws nonces from this file, under another program, such as strace, if
/// one is given.
pub fn command(under: Option<Command>, file: &Path, rounds: Option<&str>) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match under {
        Some(mut other) => {
            other.arg(this);
            other
        }
        None => Command::new(this),
    };
    let test = full_name(module_path!(), "nonce_giver");
    command.args(["--exact", &test, "--nocapture", "--test-threads=1"]).env(FILE, file);
    if let Some(rounds) = rounds {
        command.env(ROUNDS, rounds);
    }
    command
}

/// Returns the nonces in its output.
pub fn nonces(said: &[u8]) -> &[u8] {
    let begin = said.windows(BEGIN.len()).position(|bytes| bytes == BEGIN);
    begin.map_or(&[], |at| &said[at + BEGIN.len()..])
}

/// Runs one round; returns the first of its errors.
fn give(path: &Path, out: &mut File) -> Result<(), Error> {
    let vault = FileVault::open(path, None)?;
    let mut result = Ok(());
    for _ in 0..3 {
        match vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16]) {
            Ok(nonce) => out.write_all(&nonce).expect("a reader"),
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

#[test]
fn nonce_giver() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let rounds = std::env::var(ROUNDS).map_or(u64::MAX, |rounds| rounds.parse().expect("a number"));
    let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned().expect("a descriptor"));
    out.write_all(BEGIN).expect("a reader");
    let mut result = Ok(());
    for _ in 0..rounds {
        result = result.and(give(path.as_ref(), &mut out));
        if rounds == u64::MAX && result.is_err() {
            break;
        }
    }
    exit(result.map_or_else(Error::code, |()| 0));
}
