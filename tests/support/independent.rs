//! The independent peer of `tests/peer` as a process.

use curve_tun::net::Timeout;
use curve_tun::vault::{MemoryVault, Vault};
use curve_tun::{PublicKey, SecretKey};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Long enough for everything expected; a test that takes this long has failed.
pub const SOON: Timeout = Some(Duration::from_secs(30));
pub const SIZES: [usize; 22] = [
    0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000, 4095, 4096, 16383, 16384, 16385, 40000, 65501, 65502,
    65503,
];

/// The Python that has PyNaCl: `$PYTHON`, the one in the path, or the system's.
fn python() -> String {
    let named = std::env::var("PYTHON").ok();
    let candidates = named.into_iter().chain(["python3".to_owned(), "/usr/bin/python3".to_owned()]);
    let has_nacl = |python: &String| {
        let import = Command::new(python).args(["-c", "import nacl.bindings"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    };
    candidates.into_iter().find(has_nacl).expect("a Python with PyNaCl; scripts/bootstrap test installs it")
}

/// A generated key, known to both processes.
pub struct Key {
    pub secret: [u8; 32],
    pub vault: Arc<MemoryVault>,
}

impl Key {
    pub fn new() -> Key {
        let mut secret = [0; 32];
        SecretKey::generate().unwrap().expose(&mut secret);
        Key { secret, vault: Arc::new(MemoryVault::from_secret(&secret).unwrap()) }
    }

    pub fn public(&self) -> PublicKey {
        self.vault.public_key()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The running peer, ended with the test at the latest.
pub struct Peer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts it with its own key and the other end's.
    pub fn start(arguments: &[&str], its: &Key, ours: PublicKey) -> Peer {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peer/peer.py");
        let mut child = Command::new(python())
            .arg("-B")
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{}\n{}", hex(&its.secret), hex(&ours.0)).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Peer { child, lines }
    }

    /// The next line that it prints; `None` at the end.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.lines.read_line(&mut line).unwrap();
        (count > 0).then(|| line.trim_end().to_owned())
    }

    /// Checks that it found nothing wrong.
    pub fn finish(mut self) {
        assert_eq!(self.line(), None);
        assert!(self.child.wait().unwrap().success(), "the peer says above what it did not like");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The points of small order that the peer knows, in its order.
pub fn low_order() -> [PublicKey; 7] {
    let parse = |text: &str| text.parse().unwrap();
    [
        parse("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        parse("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        parse("4Ot6fDtBuK4WVuP68Z/EatoJjeucMrH9hmIFFl9JuAA="),
        parse("X5yVvKNQjCSx0LFVnIPvWwREXMRYHI6G2CJO3dCfEVc="),
        parse("7P///////////////////////////////////////38="),
        parse("7f///////////////////////////////////////38="),
        parse("7v///////////////////////////////////////38="),
    ]
}
