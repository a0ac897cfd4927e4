//! How a command ends.

use curve_tun::Error;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// What a subcommand gives: its exit code, or why it failed.
pub type Outcome = Result<ExitCode, Failure>;

/// Why a command could not be done, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    what: String,
    hint: Option<String>,
    code: u8,
}

/// The exit code for what is not to be tried again without somebody's help: it counts against a token's PIN.
pub const PIN_REFUSED: u8 = 4;

impl Failure {
    /// `what` completes the sentence "curve-tun: …", without a final stop.
    pub fn new(what: impl Display) -> Failure {
        Failure { what: what.to_string(), hint: None, code: 1 }
    }

    /// Adds what to do about it: whole sentences.
    pub fn hint(mut self, hint: impl Display) -> Failure {
        self.hint = Some(hint.to_string());
        self
    }

    /// Has it end with another exit code than 1.
    pub fn code(mut self, code: u8) -> Failure {
        self.code = code;
        self
    }

    /// Says it on standard error; gives the exit code.
    pub fn report(self) -> ExitCode {
        let hint = self.hint.map_or_else(String::new, |hint| format!("{hint}\n"));
        // Nobody is left to be told that standard error is closed.
        let _ = write!(io::stderr(), "curve-tun: {}\n{hint}", self.what);
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(error)
    }
}

/// Prints a line of the command's result; a reader that has gone away is a failure, not a panic.
pub fn print(line: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    told(writeln!(out, "{line}").and_then(|()| out.flush()))
}

/// Prints a line of `label` and `secret`, past the buffer of standard output, which is not wiped.
pub fn print_secret(label: &[u8], secret: &[u8]) -> Result<(), Failure> {
    let line = Zeroizing::new([label, secret, b"\n"].concat());
    let out = io::stdout().lock().as_fd().try_clone_to_owned();
    told(out.and_then(|out| File::from(out).write_all(&line)))
}

fn told(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|e| Failure::new(format_args!("cannot write to standard output: {e}")))
}
