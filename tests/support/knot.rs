//! A real DNS server on loopback: Knot, with zones that it signs.

use std::fmt::Write;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

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
        fs::create_dir(folder.path().join("keys")).unwrap();
        let address = free_port();
        fs::write(folder.path().join("knot.conf"), configuration(&folder, address, zones)).unwrap();
        for zone in zones {
            fs::write(folder.path().join(zone.name), zone_file(&zone.text, 1)).unwrap();
        }
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("/usr/sbin/knotd");
        command.arg("-c").arg(folder.path().join("knot.conf")).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let server = command.spawn().expect("the tests need Knot DNS: apt-get install knot");
        let mut knot = Knot { server, folder, address };
        knot.wait_until_loaded(zones.len());
        knot
    }

    fn wait_until_loaded(&mut self, zones: usize) {
        let end = Instant::now() + Duration::from_secs(30);
        while self.control(&["zone-status"]).matches("serial: 1").count() < zones {
            let running = self.server.try_wait().unwrap().is_none() && Instant::now() < end;
            assert!(running, "{}", fs::read_to_string(self.file("log")).unwrap());
            sleep(Duration::from_millis(20));
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The keys that a signed zone is to be trusted by.
    pub fn trust_anchors(&self, zone: &str) -> String {
        let output = Command::new("/usr/sbin/keymgr")
            .arg("-c")
            .arg(self.file("knot.conf"))
            .args([zone, "dnskey"])
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().replace(" DNSKEY ", " 3600 IN DNSKEY ")
    }

    /// What the server wrote down of a zone: with its signatures, if it signs it.
    pub fn zone(&self, zone: &str) -> String {
        self.control(&["-b", "zone-flush", zone]);
        fs::read_to_string(self.file(zone)).unwrap()
    }

    /// Serves `text` instead, signed anew.
    pub fn change(&self, zone: &str, text: &str, serial: u32) {
        fs::write(self.file(zone), zone_file(text, serial)).unwrap();
        self.control(&["-b", "zone-reload", zone]);
        let status = self.control(&["zone-status", zone]);
        assert!(status.contains(&format!("serial: {serial}")), "{status}");
    }

    fn control(&self, arguments: &[&str]) -> String {
        let configuration = self.file("knot.conf");
        let output =
            Command::new("/usr/sbin/knotc").arg("-c").arg(configuration).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn zone_file(text: &str, serial: u32) -> String {
    if text.contains("SOA") {
        return text.to_owned();
    }
    format!("$TTL 60\n@ SOA ns hostmaster {serial} 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n{text}")
}

fn configuration(folder: &TempDir, address: SocketAddr, zones: &[Zone]) -> String {
    let path = folder.path().display();
    let mut text = format!(
        "server:\n  rundir: \"{path}\"\n  listen: {}@{}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         log:\n - target: stderr\n   any: warning\n\
         database:\n  storage: \"{path}/keys\"\n\
         policy:\n - id: nsec\n   single-type-signing: on\n   algorithm: ED25519\n\
         \x20- id: nsec3\n   single-type-signing: on\n   algorithm: ED25519\n   nsec3: on\n   nsec3-iterations: 0\n\
         zone:\n",
        address.ip(),
        address.port()
    );
    for Zone { name, signed, .. } in zones {
        let (signing, policy) = match signed {
            Signed::Not => ("off", "nsec"),
            Signed::Nsec => ("on", "nsec"),
            Signed::Nsec3 => ("on", "nsec3"),
        };
        write!(
            text,
            " - domain: {name}\n   storage: \"{path}\"\n   file: {name}\n   dnssec-signing: {signing}\n   \
             dnssec-policy: {policy}\n   zonefile-sync: 0\n   journal-content: none\n"
        )
        .unwrap();
    }
    text
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
