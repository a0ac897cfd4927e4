//! The agent as its users run it: the tool, as a process.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub const TOOL: &str = env!("CARGO_BIN_EXE_curve-tun");

/// A running agent; ended when dropped.
pub struct AgentProcess {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl AgentProcess {
    /// Starts it; returns once it listens.
    pub fn start(vault: &Path, socket: &Path) -> AgentProcess {
        AgentProcess::start_for(&["--vault".as_ref(), vault.as_os_str()], socket)
    }

    /// The same, with these arguments to name the vault.
    pub fn start_for(arguments: &[&OsStr], socket: &Path) -> AgentProcess {
        let mut agent = AgentProcess::spawn_for(arguments, socket);
        agent.wait_until_ready();
        agent
    }

    /// Starts it without waiting.
    pub fn spawn(vault: &Path, socket: &Path) -> AgentProcess {
        AgentProcess::spawn_for(&["--vault".as_ref(), vault.as_os_str()], socket)
    }

    /// Starts it with a limit of descriptors; returns once it listens.
    pub fn start_with_descriptors(most: u32, vault: &Path, socket: &Path) -> AgentProcess {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\""), TOOL]);
        let mut agent = AgentProcess::of(command, &["--vault".as_ref(), vault.as_os_str()], socket);
        agent.wait_until_ready();
        agent
    }

    fn spawn_for(arguments: &[&OsStr], socket: &Path) -> AgentProcess {
        AgentProcess::of(Command::new(TOOL), arguments, socket)
    }

    fn of(mut command: Command, arguments: &[&OsStr], socket: &Path) -> AgentProcess {
        command.arg("agent").args(arguments).arg("--socket").arg(socket);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        AgentProcess { child, out }
    }

    fn wait_until_ready(&mut self) {
        let mut line = String::new();
        while !line.starts_with("listening on ") {
            line.clear();
            assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "the agent ended before it listened");
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM, and returns how it ended.
    pub fn terminate(mut self) -> ExitStatus {
        self.send_sigterm();
        self.child.wait().unwrap()
    }

    pub fn send_sigterm(&self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    /// Sends SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.send_sigterm();
            let end = Instant::now() + Duration::from_secs(5);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
                thread::sleep(Duration::from_millis(2));
            }
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
