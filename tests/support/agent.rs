//! The agent as its users run it: the tool, as a process.
#![allow(dead_code, reason = "each test file uses its part")]

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
    /// Starts it; gives once it listens.
    pub fn start(vault: &Path, socket: &Path) -> AgentProcess {
        let mut agent = AgentProcess::spawn(vault, socket);
        agent.wait_until_ready();
        agent
    }

    /// Starts it, and does not wait.
    pub fn spawn(vault: &Path, socket: &Path) -> AgentProcess {
        AgentProcess::of(Command::new(TOOL), vault, socket)
    }

    /// Starts it with at most so many descriptors; gives once it listens.
    pub fn start_with_descriptors(most: u32, vault: &Path, socket: &Path) -> AgentProcess {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\""), TOOL]);
        let mut agent = AgentProcess::of(command, vault, socket);
        agent.wait_until_ready();
        agent
    }

    fn of(mut command: Command, vault: &Path, socket: &Path) -> AgentProcess {
        command.args(["agent", "--vault"]).arg(vault).arg("--socket").arg(socket);
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
        self.ask_to_end();
        self.child.wait().unwrap()
    }

    fn ask_to_end(&self) {
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
        if matches!(self.child.try_wait(), Ok(None)) {
            self.ask_to_end();
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
