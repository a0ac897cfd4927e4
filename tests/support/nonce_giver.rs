//! A process that hands out nonces from a file vault until it is killed, for the tests of crashes.
//!
//! `nonce-giver FILE [ROUNDS]` opens the vault, asks for three nonces and closes it, over and over. Each nonce goes to
//! standard output, 16 bytes, before the next is asked for. The number of the first error is the exit code.

use curve_tun::vault::{FileVault, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::exit;

/// One round; the first of its errors.
fn give(path: &Path) -> Result<(), Error> {
    let vault = FileVault::open(path, None)?;
    let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned().expect("a descriptor"));
    let mut result = Ok(());
    for _ in 0..3 {
        match vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16]) {
            Ok(nonce) => out.write_all(&nonce).expect("a reader"),
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

fn main() {
    let mut args = std::env::args_os().skip(1);
    let path = args.next().expect("a path");
    let rounds = args.next().map_or(u64::MAX, |n| n.to_str().and_then(|n| n.parse().ok()).expect("a number"));
    let mut result = Ok(());
    for _ in 0..rounds {
        result = result.and(give(path.as_ref()));
        if rounds == u64::MAX && result.is_err() {
            break;
        }
    }
    if let Err(error) = result {
        exit(error.code());
    }
}
