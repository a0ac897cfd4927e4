//! The agent as its users run it: the tool, as a process.
#![allow(dead_code, reason = "each test file uses its part")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

pub const TOOL: &str = env!("CARGO_BIN_EXE_curve-tun");

/// A running agent; killed when dropped.
pub struct AgentProcess {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl AgentProcess {
    /// Starts it; gives once it listens.
    pub fn start(vault: &Path, socket: &Path) -> AgentProcess {
        AgentProcess::start_for(&["--vault".as_ref(), vault.as_os_str()], socket)
    }

    /// The same, for what these arguments name.
    pub fn start_for(arguments: &[&OsStr], socket: &Path) -> AgentProcess {
        let mut agent = AgentProcess::spawn_for(arguments, socket);
        agent.wait_until_ready();
        agent
    }

    /// Starts it, and does not wait.
    pub fn spawn(vault: &Path, socket: &Path) -> AgentProcess {
        AgentProcess::spawn_for(&["--vault".as_ref(), vault.as_os_str()], socket)
    }

    fn spawn_for(arguments: &[&OsStr], socket: &Path) -> AgentProcess {
        let mut command = Command::new(TOOL);
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

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> ExitStatus {
        self.send_sigterm();
        self.child.wait().unwrap()
    }

    pub fn send_sigterm(&self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
