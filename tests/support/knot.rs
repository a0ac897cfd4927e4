//! A real DNS server on loopback, with zones that it signs, started by `name-server` beside this
//! file.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/name-server");

/// How a zone is signed, and how missing names are denied; see `name-server`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    Not,
    Nsec,
    Nsec3,
    OptOut,
    Day,
    Split,
}

pub struct Zone<'a> {
    pub name: &'a str,
    /// Lines of a zone file, after the SOA and NS records.
    pub text: String,
    pub signed: Signed,
}

/// A running server; it ends when dropped.
pub struct Knot {
    server: Child,
    folder: TempDir,
    address: SocketAddr,
}

impl Knot {
    pub fn start(zones: &[Zone]) -> Knot {
        Knot::run(Ipv4Addr::LOCALHOST, zones, &mut Command::new(SCRIPT))
    }

    /// Starts one on port 53 of a loopback address.
    pub fn start_at(address: &str, zones: &[Zone]) -> Knot {
        let mut command = Command::new(SCRIPT);
        Knot::run(address.parse().unwrap(), zones, command.env("NAME_SERVER_AT", format!("{address}@53")))
    }

    fn run(address: Ipv4Addr, zones: &[Zone], command: &mut Command) -> Knot {
        let folder = tempfile::tempdir().unwrap();
        command.arg("serve").arg(folder.path());
        for Zone { name, text, signed } in zones {
            fs::write(folder.path().join(name), text).unwrap();
            let signed = match signed {
                Signed::Not => "not",
                Signed::Nsec => "nsec",
                Signed::Nsec3 => "nsec3",
                Signed::OptOut => "optout",
                Signed::Day => "day",
                Signed::Split => "split",
            };
            command.arg(format!("{name}:{signed}"));
        }
        command.env_remove("LD_PRELOAD");
        let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.strip_prefix("ready ").and_then(|port| port.trim_end().parse().ok());
        let port: u16 = port.expect("the tests need Knot DNS: apt-get install knot");
        Knot { server, folder, address: (address, port).into() }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the trusted keys of a signed zone, as its operator gets them from `keymgr`.
    pub fn trust_anchors(&self, zone: &str) -> String {
        fs::read_to_string(self.file(&format!("{zone}.anchors"))).unwrap()
    }

    /// Returns the zone as the server has written it, with its signatures, if it signs it.
    pub fn zone(&self, zone: &str) -> String {
        self.tool("knotc", &["-b", "zone-flush", zone]);
        fs::read_to_string(self.file(zone)).unwrap()
    }

    /// Returns the output of one of the server's tools.
    pub fn tool(&self, tool: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(SCRIPT);
        command.arg("tool").arg(self.folder.path()).arg(tool).args(arguments).env_remove("LD_PRELOAD");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Serves `text` instead, signed again.
    pub fn change(&self, zone: &str, text: &str, serial: u32) {
        fs::write(self.file(zone), text).unwrap();
        let mut command = Command::new(SCRIPT);
        let command = command.arg("change").arg(self.folder.path()).arg(zone).arg(serial.to_string());
        assert!(command.status().unwrap().success());
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        // Waiting closes its input, which ends it.
        let _ = self.server.wait();
    }
}
