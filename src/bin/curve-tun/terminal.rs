//! Secrets that are typed at the terminal, without echo.
//!
//! Nothing but the echo is turned off: the terminal's keys for signals and for editing a line keep
//! their meaning. When a signal ends or stops the tool meanwhile, the terminal is as it was before
//! the tool goes ([`super::signals`]).

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
    /// How the terminal was before its echo was turned off; `None` while it is as it was.
    before: Option<Termios>,
}

static PROMPT: Mutex<Option<Prompt>> = Mutex::new(None);

fn prompt() -> MutexGuard<'static, Option<Prompt>> {
    PROMPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Prompt {
    /// Turns the echo off and shows the question, if it is this process's turn at the terminal;
    /// else reading stops the process until it is, and [`resume`] comes after that.
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
        // As terminals are; one that another program has left otherwise would give other bytes, or
        // no line.
        silent.local_flags.insert(LocalFlags::ICANON | LocalFlags::ISIG);
        silent.input_flags.remove(InputFlags::ISTRIP | InputFlags::INLCR | InputFlags::IGNCR);
        silent.input_flags.insert(InputFlags::ICRNL);
        self.before = Some(before);
        tcsetattr(&self.terminal, when, &silent)?;
        self.terminal.write_all(self.text.as_bytes())
    }

    /// Makes the terminal as it was.
    fn restore(&mut self) {
        if let Some(before) = self.before.take() {
            // If it is gone, there is nothing to make as it was.
            let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &before);
        }
    }
}

/// Asks at the terminal, without echo: gives the bytes that were typed before the end of the line,
/// 1024 at most.
pub fn ask(text: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |e: io::Error| {
        Failure::new(format_args!("cannot ask for the passphrase at a terminal: {e}"))
            .hint("Give it with --passphrase-file FILE, or - for standard input.")
    };
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let asking = Prompt { terminal: terminal.try_clone().map_err(failed)?, text: text.into(), before: None };
    let shown = {
        let mut prompt = prompt();
        // What was typed ahead stays.
        prompt.insert(asking).show(SetArg::TCSANOW)
    };
    let line = shown.and_then(|()| read_line(&mut terminal));
    if let Ok(Line { too_long: true, .. }) = line {
        // The rest of it must not be read by the shell as a command.
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

/// Before the process ends or stops: makes the terminal as it was. What was typed so far must not
/// be shown and run by the shell, which reads next.
pub fn yield_to_shell() {
    if let Some(prompt) = &mut *prompt() {
        if prompt.before.is_some() {
            let _ = tcflush(&prompt.terminal, FlushArg::TCIFLUSH);
        }
        prompt.restore();
    }
}

/// When the process goes on after it was stopped: asks anew, if it was asking.
pub fn resume() {
    if let Some(prompt) = &mut *prompt() {
        // What was typed before is gone, so that nobody has to guess whether it is. If this fails,
        // reading does.
        let _ = prompt.show(SetArg::TCSAFLUSH);
    }
}
