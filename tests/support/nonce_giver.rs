//! A process that hands out nonces from a file vault until it is killed, for the tests of crashes.
//!
//! `nonce-giver FILE [ROUNDS]` opens the vault, gives three nonces and closes it, over and over. Each nonce goes to
//! standard output, 16 bytes, before the next is made. An error's number is the exit code.

use curve_tun::vault::{FileVault, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::exit;

fn give(path: &Path) -> Result<(), Error> {
    let vault = FileVault::open(path, None)?;
    let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned().expect("a descriptor"));
    for _ in 0..3 {
        let nonce = vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16])?;
        out.write_all(&nonce).expect("a reader");
    }
    Ok(())
}

fn main() {
    let mut args = std::env::args_os().skip(1);
    let path = args.next().expect("a path");
    let rounds = args.next().map_or(u64::MAX, |n| n.to_str().and_then(|n| n.parse().ok()).expect("a number"));
    for _ in 0..rounds {
        if let Err(error) = give(path.as_ref()) {
            exit(error.code());
        }
    }
}
