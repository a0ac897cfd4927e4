//! The tool's processes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const TOOL: &str = env!("CARGO_BIN_EXE_curve-tun");
/// How long anything may take that is awaited; a test that fails waits no longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Keys of a server and its client, and a registry that lets the client in.
pub struct Keys {
    folder: TempDir,
    pub server_key: String,
    pub client_key: String,
}

impl Keys {
    pub fn new() -> Keys {
        let folder = tempfile::tempdir().unwrap();
        let server_key = make_secret(&folder.path().join("server"));
        let client_key = make_secret(&folder.path().join("client"));
        fs::write(folder.path().join("registry"), format!("* {client_key}\n")).unwrap();
        Keys { folder, server_key, client_key }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes another pair of keys, and gives the public one.
    pub fn another(&self, name: &str) -> String {
        make_secret(&self.path(name))
    }

    pub fn serve(&self, to: &str) -> Forwarder {
        self.serve_with(to, &[])
    }

    pub fn serve_with(&self, to: &str, more: &[&str]) -> Forwarder {
        let mut command = Command::new(TOOL);
        command.args(["serve", "--listen", "127.0.0.1:0", "--to", to]);
        command.arg("--secret-file").arg(self.path("server"));
        command.arg("--registry").arg(self.path("registry")).args(more);
        Forwarder::start(command, self.path("serve.log"))
    }

    pub fn connect(&self, to: SocketAddr) -> Forwarder {
        self.connect_with("127.0.0.1:0", to, &[])
    }

    pub fn connect_with(&self, listen: &str, to: SocketAddr, more: &[&str]) -> Forwarder {
        let mut command = Command::new(TOOL);
        command.args(["connect", "--listen", listen, "--to", &to.to_string()]);
        command.args(self.client_args()).args(more);
        Forwarder::start(command, self.path("connect.log"))
    }

    pub fn client_args(&self) -> [String; 4] {
        let secret = self.path("client").to_str().unwrap().to_owned();
        ["--server".into(), self.server_key.clone(), "--secret-file".into(), secret]
    }

    /// Returns `curve-tun pipe`, with pipes for its standard files.
    pub fn pipe(&self, to: SocketAddr) -> Command {
        let mut command = Command::new(TOOL);
        command.args(["pipe", "--to", &to.to_string()]).args(self.client_args());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn ping(&self, to: SocketAddr) -> Command {
        let mut command = Command::new(TOOL);
        command.args(["ping", &to.to_string()]).args(self.client_args());
        command
    }
}

fn make_secret(path: &Path) -> String {
    let made = Command::new(TOOL).arg("keygen").output().unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    let key = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    fs::write(path, key("secret")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    key("public")
}

/// A `serve` or `connect` that runs; it is killed when this is dropped.
pub struct Forwarder {
    pub child: Child,
    /// Where it listens, as it said.
    pub at: String,
    output: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Forwarder {
    pub fn start(command: Command, log: PathBuf) -> Forwarder {
        Forwarder::start_after(command, log, 0)
    }

    /// Starts what prints so many lines before it says that it listens.
    pub fn start_after(mut command: Command, log: PathBuf, lines: usize) -> Forwarder {
        command.stdin(Stdio::null());
        Forwarder::start_as_it_is(command, log, lines)
    }

    /// Starts what has its own standard input.
    pub fn start_with_input(command: Command, log: PathBuf) -> Forwarder {
        Forwarder::start_as_it_is(command, log, 0)
    }

    fn start_as_it_is(mut command: Command, log: PathBuf, lines: usize) -> Forwarder {
        command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        for _ in 0..=lines {
            line.clear();
            output.read_line(&mut line).unwrap();
        }
        let at = line
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("it does not listen: {line:?} {}", fs::read_to_string(&log).unwrap()));
        let at = at.trim_end().to_owned();
        Forwarder { child, at, output, log }
    }

    /// Reads the next line that it prints.
    pub fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    pub fn address(&self) -> SocketAddr {
        self.at.parse().unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log has `count` lines with `words`.
    pub fn await_log(&self, words: &str, count: usize) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if log.lines().filter(|line| line.contains(words)).count() >= count {
                return log;
            }
            assert!(Instant::now() < until, "no {count} lines with {words:?}:\n{log}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a process to end, but not for ever.
pub fn wait(child: &mut Child) -> ExitStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > until {
            let _ = child.kill();
            panic!("it does not end");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a command to its end, without input; gives its exit code, and what it wrote to standard
/// error.
pub fn run(mut command: Command) -> (Option<i32>, String) {
    command.stdin(Stdio::null());
    run_as_it_is(command)
}

/// The same of one that has its own standard input.
pub fn run_as_it_is(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut stderr = child.stderr.take().unwrap();
    let status = wait(&mut child);
    stderr.read_to_string(&mut said).unwrap();
    (status.code(), said)
}

/// Listens at a port that is free.
pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}
