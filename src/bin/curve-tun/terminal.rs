//! Reads secrets that are typed at the terminal, without echo.
//!
//! Only the echo is turned off: the terminal's keys for signals and for editing a line keep their
//! meaning. If a signal ends or stops the tool meanwhile, the terminal is restored first
//! ([`super::signals`]).

use super::failure::Failure;
use super::input::{LINE_MAX, Line, read_line};
use nix::sys::termios::{FlushArg, InputFlags, LocalFlags, SetArg, Termios, tcflush, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// A question that waits for its answer.
struct Prompt {
    terminal: File,
    text: String,
    /// The terminal's settings before its echo was turned off; `None` while they are unchanged.
    before: Option<Termios>,
}

static PROMPT: Mutex<Option<Prompt>> = Mutex::new(None);

fn prompt() -> MutexGuard<'static, Option<Prompt>> {
    PROMPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Prompt {
    /// Turns the echo off and shows the question, if it is this process's turn at the terminal. If
    /// not, reading stops the process until it is, and then [`resume`] is called.
    fn show(&mut self, when: SetArg) -> io::Result<()> {
        if tcgetpgrp(&self.terminal)? != getpgrp() {
            return Ok(());
        }
        let before = match self.before.take() {
            Some(before) => before,
            None => tcgetattr(&self.terminal)?,
        };
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL);
        // These are the usual settings. If another program has left the terminal with others, it
        // would give other bytes, or no line.
        silent.local_flags.insert(LocalFlags::ICANON | LocalFlags::ISIG);
        silent.input_flags.remove(InputFlags::ISTRIP | InputFlags::INLCR | InputFlags::IGNCR);
        silent.input_flags.insert(InputFlags::ICRNL);
        self.before = Some(before);
        tcsetattr(&self.terminal, when, &silent)?;
        self.terminal.write_all(self.text.as_bytes())
    }

    /// Restores the terminal's settings.
    fn restore(&mut self) {
        if let Some(before) = self.before.take() {
            // If the terminal is gone, there is nothing to restore.
            let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &before);
        }
    }
}

/// Asks at the terminal, without echo. Returns the bytes that were typed before the end of the
/// line, at most 1024.
pub fn ask(text: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |e: io::Error| {
        Failure::new(format_args!("cannot ask for the passphrase at a terminal: {e}"))
            .hint("Give it with --passphrase-file FILE, or - for standard input.")
    };
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let asking = Prompt { terminal: terminal.try_clone().map_err(failed)?, text: text.into(), before: None };
    let shown = {
        let mut prompt = prompt();
        // Keep what was typed ahead.
        prompt.insert(asking).show(SetArg::TCSANOW)
    };
    let line = shown.and_then(|()| read_line(&mut terminal));
    if let Ok(Line { too_long: true, .. }) = line {
        // The shell must not read the rest of the line as a command.
        while matches!(read_line(&mut terminal), Ok(Line { too_long: true, .. })) {}
    }
    if let Some(mut prompt) = prompt().take() {
        prompt.restore();
    }
    // The end of the line was not shown, either.
    let _ = terminal.write_all(b"\n");
    match line.map_err(failed)? {
        Line { too_long: true, .. } => {
            Err(Failure::new(format_args!("what was typed is over {LINE_MAX} bytes")).hint("Type fewer."))
        }
        Line { ended: false, .. } => {
            Err(Failure::new("the terminal's input ended before the passphrase did")
                .hint("End the passphrase with Enter."))
        }
        Line { bytes, .. } => Ok(bytes),
    }
}

/// Restores the terminal before the process ends or stops. What was typed so far is discarded,
/// because the shell, which reads next, must not show and run it.
pub fn yield_to_shell() {
    if let Some(prompt) = &mut *prompt() {
        if prompt.before.is_some() {
            let _ = tcflush(&prompt.terminal, FlushArg::TCIFLUSH);
        }
        prompt.restore();
    }
}

/// Asks again, if it was asking, when the process goes on after it was stopped.
pub fn resume() {
    if let Some(prompt) = &mut *prompt() {
        // What was typed before is discarded, so that nobody has to guess whether it counts. If
        // this fails, reading fails, too.
        let _ = prompt.show(SetArg::TCSAFLUSH);
    }
}
