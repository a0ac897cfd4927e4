//! How a command ends.

use curve_tun::Error;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// What a subcommand gives: its exit code, or why it failed.
pub type Outcome = Result<ExitCode, Failure>;

/// Why a command could not be done, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    /// `None` where nobody is left to be told.
    what: Option<String>,
    hint: Option<String>,
    code: u8,
}

/// The exit code for what is not to be tried again without somebody's help: it counts against a
/// token's PIN.
pub const PIN_REFUSED: u8 = 4;

impl Failure {
    /// `what` completes the sentence "curve-tun: …", without a final stop.
    pub fn new(what: impl Display) -> Failure {
        Failure { what: Some(what.to_string()), hint: None, code: 1 }
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
        if let Some(what) = self.what {
            let hint = self.hint.map_or_else(String::new, |hint| format!("{hint}\n"));
            // Nobody is left to be told that standard error is closed.
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

/// Prints a line of the command's result; a reader that has gone away is a failure, not a panic.
pub fn print(line: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    told(writeln!(out, "{line}").and_then(|()| out.flush()))
}

/// Prints what came of a change that is made, printed or not: `done` says so, in whole sentences.
pub fn print_of_done(line: impl Display, done: impl Display) -> Result<(), Failure> {
    print(line).map_err(|failure| failure.hint(done))
}

/// Prints a line of `label` and `secret`, past the buffer of standard output, which is not wiped.
pub fn print_secret(label: &[u8], secret: &[u8]) -> Result<(), Failure> {
    let line = Zeroizing::new([label, secret, b"\n"].concat());
    let out = io::stdout().lock().as_fd().try_clone_to_owned();
    told(out.and_then(|out| File::from(out).write_all(&line)))
}

/// Says whether it could be written to standard output. A reader that went away (`| head`) has what
/// it wants: that is no success, and nothing to be said.
pub fn told(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|e| match e.kind() {
        io::ErrorKind::BrokenPipe => Failure { what: None, hint: None, code: 1 },
        _ => Failure::new(format_args!("cannot write to standard output: {e}"))
            .hint("What was to be printed there is lost. See to its place, and run the command again."),
    })
}

/// Refuses a standard output that was closed when the tool was started, for what is printed and
/// kept nowhere else.
///
/// The runtime has put /dev/null in its place by now, for reading and writing, as no shell opens it
/// for an output.
pub fn check_output() -> Result<(), Failure> {
    let place = || -> io::Result<bool> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let flags = OFlag::from_bits_truncate(fcntl(&out, FcntlArg::F_GETFL)?);
        let (out, null) = (out.metadata()?, std::fs::metadata("/dev/null")?);
        let same = (out.file_type().is_char_device(), out.rdev()) == (true, null.rdev());
        Ok(same && flags & OFlag::O_ACCMODE == OFlag::O_RDWR)
    };
    // Where there is no /dev/null, it is not that.
    if place().unwrap_or(false) {
        return Err(Failure::new("standard output is closed")
            .hint("The key would be lost. Say where it is to go, or keep it with --vault FILE."));
    }
    Ok(())
}
