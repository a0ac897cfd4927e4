//! The tool at a terminal: it reads exactly what is typed, and the terminal is restored whatever
//! ends or stops the tool.
//!
//! A shell runs at a pseudo-terminal, and the test types. Neither shell does its own line editing,
//! and dash does not repair the terminal after a program.

use curve_tun::vault::{FileVault, Vault};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::{Pid, tcgetpgrp};
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TOOL: &str = env!("CARGO_BIN_EXE_curve-tun");
/// Long enough for everything expected; a test that takes this long has failed.
const SOON: Duration = Duration::from_secs(60);
const SHELLS: [&[&str]; 2] = [&["dash", "-i"], &["bash", "--norc", "--noprofile", "--noediting", "-i"]];

/// A terminal with a shell, which ends when this is dropped.
struct Terminal {
    keyboard: File,
    screen: Arc<(Mutex<Vec<u8>>, Condvar)>,
    /// How much of the screen the test has seen.
    seen: usize,
    shell: Child,
    _folder: TempDir,
    vault: PathBuf,
}

impl Terminal {
    fn with(shell: &[&str]) -> Terminal {
        let terminal = openpty(None, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let vault = folder.path().join("vault");
        let slave = || terminal.slave.try_clone().unwrap();
        // A new session, with this as its terminal.
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .args(shell)
            .env("PS1", "READY")
            .env("LC_ALL", "C")
            .env("TOOL", TOOL)
            .env("VAULT", &vault);
        let shell = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn();
        let shell = shell.expect("setsid, dash and bash, from the packages util-linux, dash and bash");
        let keyboard = File::from(terminal.master);
        let screen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (mut shown, to) = (keyboard.try_clone().unwrap(), screen.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = shown.read(&mut bytes) {
                to.0.lock().unwrap().extend_from_slice(&bytes[..count]);
                to.1.notify_all();
            }
        });
        let mut terminal = Terminal { keyboard, screen, seen: 0, shell, _folder: folder, vault };
        terminal.sees("READY");
        terminal
    }

    fn types(&mut self, keys: impl AsRef<[u8]>) {
        self.keyboard.write_all(keys.as_ref()).unwrap();
    }

    /// Waits until something is shown; returns the text before it, and continues after it.
    fn sees(&mut self, what: &str) -> String {
        let end = Instant::now() + SOON;
        let mut screen = self.screen.0.lock().unwrap();
        loop {
            let new = &screen[self.seen..];
            if let Some(at) = new.windows(what.len()).position(|part| part == what.as_bytes()) {
                let before = String::from_utf8_lossy(&new[..at]).into_owned();
                self.seen += at + what.len();
                return before;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what} in {}", String::from_utf8_lossy(&screen));
            screen = self.screen.1.wait_timeout(screen, left).unwrap().0;
        }
    }

    /// Returns the settings of the terminal.
    fn settings(&self) -> Termios {
        tcgetattr(&self.keyboard).unwrap()
    }

    /// Waits until the echo is off: then the tool is reading.
    fn asks(&mut self, prompt: &str) {
        self.sees(prompt);
        let end = Instant::now() + SOON;
        while self.settings().local_flags.contains(LocalFlags::ECHO) {
            assert!(Instant::now() < end, "the echo stays on");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Makes the shell print how the last command ended, and returns that.
    fn status(&mut self) -> String {
        self.types("echo \"status=$?.\"\n");
        // First it is echoed as typed.
        self.sees("status=$?");
        self.sees("status=");
        self.sees(".")
    }

    /// Waits until the shell knows that its job has stopped: a shell that believes it to be running
    /// does not continue it when told to bring it to the foreground.
    fn knows_of_a_stop(&mut self) {
        let end = Instant::now() + SOON;
        let mut jobs = String::new();
        while !jobs.contains("Stopped") {
            assert!(Instant::now() < end, "it does not stop: {jobs}");
            self.types("jobs\n");
            jobs = self.sees("READY");
        }
    }

    /// Returns the foreground process of the terminal.
    fn in_front(&self) -> Pid {
        tcgetpgrp(&self.keyboard).unwrap()
    }

    fn starts(&mut self, arguments: &str) {
        self.types(format!("\"$TOOL\" {arguments}\n"));
        self.sees("\n");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

const MAKE: &str = "keygen --vault \"$VAULT\" --passphrase --cost interactive";

#[test]
fn a_signal_at_the_prompt_leaves_the_terminal_as_it_was_and_is_what_ends_the_tool() {
    enum Sent {
        Typed(u8),
        Signal,
    }
    for shell in SHELLS {
        let mut terminal = Terminal::with(shell);
        let before = terminal.settings();
        for (signal, sent) in [
            (Signal::SIGINT, Sent::Typed(3)),
            (Signal::SIGQUIT, Sent::Typed(0x1c)),
            (Signal::SIGINT, Sent::Signal),
            (Signal::SIGTERM, Sent::Signal),
            (Signal::SIGHUP, Sent::Signal),
            (Signal::SIGALRM, Sent::Signal),
            (Signal::SIGUSR1, Sent::Signal),
            (Signal::SIGXCPU, Sent::Signal),
        ] {
            for prompt in ["New passphrase: ", "The same again: "] {
                terminal.starts(MAKE);
                terminal.asks("New passphrase: ");
                if prompt != "New passphrase: " {
                    terminal.types("secret\n");
                    terminal.asks(prompt);
                }
                match sent {
                    Sent::Typed(key) => terminal.types([key]),
                    Sent::Signal => kill(terminal.in_front(), signal).unwrap(),
                }
                terminal.sees("READY");
                assert_eq!(terminal.settings(), before, "{shell:?}, {signal}");
                assert_eq!(terminal.status(), (128 + signal as i32).to_string(), "{shell:?}, {signal}");
                terminal.sees("READY");
            }
        }
        assert!(!terminal.vault.exists());
    }
}

#[test]
fn a_tool_that_is_stopped_at_the_prompt_gives_the_terminal_back_and_asks_again() {
    for shell in SHELLS {
        let mut terminal = Terminal::with(shell);
        let before = terminal.settings();
        terminal.starts(MAKE);
        for round in 0..2 {
            terminal.asks("New passphrase: ");
            terminal.types("half of it");
            if round == 0 {
                terminal.types([0x1a]);
            } else {
                kill(terminal.in_front(), Signal::SIGTSTP).unwrap();
            }
            terminal.sees("READY");
            assert_eq!(terminal.settings(), before, "{shell:?}");
            terminal.types("echo \"still $((1 + 1))\"\n");
            terminal.sees("still 2");
            terminal.sees("READY");
            // In the background it does not touch the terminal, and stops when it would read.
            terminal.types("bg\n");
            terminal.sees("READY");
            terminal.knows_of_a_stop();
            assert_eq!(terminal.settings(), before, "{shell:?}");
            terminal.types("fg\n");
        }
        terminal.asks("New passphrase: ");
        terminal.types("open sesame\n");
        terminal.asks("The same again: ");
        terminal.types("open sesame\n");
        let shown = terminal.sees("READY");
        assert_eq!(terminal.settings(), before, "{shell:?}");
        assert_eq!(terminal.status(), "0", "{shell:?}");
        let key = FileVault::open(&terminal.vault, Some(b"open sesame")).unwrap().public_key();
        assert!(shown.contains(&key.to_string()) && !shown.contains("sesame"), "{shown}");
    }
}

#[test]
fn a_tool_that_starts_in_the_background_asks_when_it_is_its_turn() {
    let mut terminal = Terminal::with(SHELLS[0]);
    let before = terminal.settings();
    terminal.types(format!("\"$TOOL\" {MAKE} &\n"));
    terminal.sees("READY");
    terminal.knows_of_a_stop();
    assert_eq!(terminal.settings(), before);
    terminal.types("fg\n");
    for prompt in ["New passphrase: ", "The same again: "] {
        terminal.asks(prompt);
        terminal.types("open sesame\n");
    }
    terminal.sees("READY");
    assert_eq!(terminal.settings(), before);
    FileVault::open(&terminal.vault, Some(b"open sesame")).unwrap();
}

#[test]
fn the_bytes_that_are_typed_are_the_passphrase() {
    // Keys that edit the line take effect; the key that quotes the next one (^V) allows those
    // bytes, too.
    for (typed, passphrase) in [
        (&b"gr\xfcn"[..], &b"gr\xfcn"[..]),
        (b"gr\xe4n", b"gr\xe4n"),
        ("gr\u{fc}n \u{1f511}".as_bytes(), "gr\u{fc}n \u{1f511}".as_bytes()),
        (b"\ttab\t", b"\ttab\t"),
        (b"  blanks  ", b"  blanks  "),
        (b"wronx\x7fg", b"wrong"),
        (b"all wrong\x15right", b"right"),
        (b"^V: \x16\x03\x16\x1a\x16\x04", b"^V: \x03\x1a\x04"),
        (&[b'x'; 1024], &[b'x'; 1024]),
    ] {
        let mut terminal = Terminal::with(SHELLS[0]);
        terminal.starts(MAKE);
        for prompt in ["New passphrase: ", "The same again: "] {
            terminal.asks(prompt);
            terminal.types(typed);
            terminal.types("\n");
        }
        terminal.sees("READY");
        let vault = FileVault::open(&terminal.vault, Some(passphrase));
        assert!(vault.is_ok(), "{typed:?}: {:?}", vault.err());
        drop(vault);
    }
}

#[test]
fn what_is_no_passphrase_is_refused_and_nothing_of_it_reaches_the_shell() {
    let mut terminal = Terminal::with(SHELLS[0]);
    let before = terminal.settings();
    for typed in [&[b'x'; 1025][..], &[b'x'; 3000], &[4], b"", b"\n"] {
        terminal.starts(MAKE);
        terminal.asks("New passphrase: ");
        terminal.types(typed);
        if typed.is_empty() {
            // Without a line end, twice: the text typed so far, and nothing.
            terminal.types("half\x04\x04");
        } else if typed.len() > 1 {
            terminal.types("\n");
        }
        if typed == b"\n" {
            terminal.asks("The same again: ");
            terminal.types("\n");
        }
        terminal.sees("curve-tun: ");
        let said = terminal.sees("READY");
        assert!(!said.contains("xxx") && !said.contains("half"), "{said}");
        assert_eq!(terminal.settings(), before);
        assert_eq!(terminal.status(), "1");
        terminal.sees("READY");
    }
    assert!(!terminal.vault.exists());
}
