//! The end of a command: its exit code, or its error message.

use curve_tun::Error;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// The result of a subcommand: its exit code, or why it failed.
pub type Outcome = Result<ExitCode, Failure>;

/// Why a command could not be done, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    /// `None` if there is nobody to tell.
    what: Option<String>,
    hint: Option<String>,
    code: u8,
}

/// The exit code for a command that should not be repeated without somebody's help, because each
/// try counts against a token's PIN.
pub const PIN_REFUSED: u8 = 4;

impl Failure {
    /// Makes a failure; `what` completes the sentence "curve-tun: …", without a final stop.
    pub fn new(what: impl Display) -> Failure {
        Failure { what: Some(what.to_string()), hint: None, code: 1 }
    }

    /// Adds what to do about it, in whole sentences.
    pub fn hint(mut self, hint: impl Display) -> Failure {
        self.hint = Some(hint.to_string());
        self
    }

    /// Makes the command end with an exit code other than 1.
    pub fn code(mut self, code: u8) -> Failure {
        self.code = code;
        self
    }

    /// Prints the failure on standard error, and returns the exit code.
    pub fn report(self) -> ExitCode {
        if let Some(what) = self.what {
            let hint = self.hint.map_or_else(String::new, |hint| format!("{hint}\n"));
            // If standard error is closed, there is nobody to tell.
            let _ = write!(io::stderr(), "curve-tun: {what}\n{hint}");
        }
        ExitCode::from(self.code)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what.as_deref().unwrap_or_default())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(error)
    }
}

/// Prints a line of the command's result. If the reader has gone away, that is a failure, not a
/// panic.
pub fn print(line: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    told(writeln!(out, "{line}").and_then(|()| out.flush()))
}

/// Prints the result of a change that has been made, whether it can be printed or not. If not,
/// `done` says that it has been made, in whole sentences.
pub fn print_of_done(line: impl Display, done: impl Display) -> Result<(), Failure> {
    print(line).map_err(|failure| failure.hint(done))
}

/// Prints a line of `label` and `secret`. Bypasses the buffer of standard output, which is not
/// wiped.
pub fn print_secret(label: &[u8], secret: &[u8]) -> Result<(), Failure> {
    let line = Zeroizing::new([label, secret, b"\n"].concat());
    let out = io::stdout().lock().as_fd().try_clone_to_owned();
    told(out.and_then(|out| File::from(out).write_all(&line)))
}

/// Makes a failure of an error in writing to standard output. If the reader went away (`| head`),
/// it has what it wants: the command does not succeed, but there is nothing to say.
pub fn told(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|e| match e.kind() {
        io::ErrorKind::BrokenPipe => Failure { what: None, hint: None, code: 1 },
        _ => Failure::new(format_args!("cannot write to standard output: {e}"))
            .hint("What was to be printed there is lost. See to its place, and run the command again."),
    })
}

/// Fails if standard output was closed when the tool was started. This is for output that is kept
/// nowhere else.
///
/// By now, the runtime has put /dev/null in the place of a closed standard output, for reading and
/// writing. No shell opens an output in this way.
pub fn check_output() -> Result<(), Failure> {
    let place = || -> io::Result<bool> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let flags = OFlag::from_bits_truncate(fcntl(&out, FcntlArg::F_GETFL)?);
        let (out, null) = (out.metadata()?, std::fs::metadata("/dev/null")?);
        let same = (out.file_type().is_char_device(), out.rdev()) == (true, null.rdev());
        Ok(same && flags & OFlag::O_ACCMODE == OFlag::O_RDWR)
    };
    // If there is no /dev/null, standard output is not that.
    if place().unwrap_or(false) {
        return Err(Failure::new("standard output is closed")
            .hint("The key would be lost. Say where it is to go, or keep it with --vault FILE."));
    }
    Ok(())
}
