//! A real DNS server on loopback, with zones that it signs: what `name-server` beside this file starts.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/name-server");

/// How a zone is signed, and the names that it does not have are denied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    Not,
    Nsec,
    Nsec3,
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
        let folder = tempfile::tempdir().unwrap();
        let address = free_port();
        let mut command = Command::new(SCRIPT);
        command.arg("serve").arg(folder.path()).arg(address.port().to_string());
        for Zone { name, text, signed } in zones {
            fs::write(folder.path().join(name), text).unwrap();
            let signed = match signed {
                Signed::Not => "not",
                Signed::Nsec => "nsec",
                Signed::Nsec3 => "nsec3",
            };
            command.arg(format!("{name}:{signed}"));
        }
        let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the tests need Knot DNS: apt-get install knot");
        Knot { server, folder, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The keys that a signed zone is to be trusted by.
    pub fn trust_anchors(&self, zone: &str) -> String {
        fs::read_to_string(self.file(&format!("{zone}.anchors"))).unwrap()
    }

    /// What the server wrote down of a zone: with its signatures, if it signs it.
    pub fn zone(&self, zone: &str) -> String {
        let flush = ["-b", "zone-flush", zone];
        Command::new("/usr/sbin/knotc").arg("-c").arg(self.file("knot.conf")).args(flush).output().unwrap();
        fs::read_to_string(self.file(zone)).unwrap()
    }

    /// Serves `text` instead, signed anew.
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
        // Waiting closes its input, and so it ends.
        let _ = self.server.wait();
    }
}

fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
