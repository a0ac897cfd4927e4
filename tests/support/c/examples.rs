//! The C examples: built once, run as processes, watched from outside.

use super::{library, printed, repository, succeed};
use curve_tun::PublicKey;
use curve_tun::connection::Options;
use curve_tun::net::{Connector, Socket, Timeout};
use curve_tun::vault::MemoryVault;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long anything may take before a test considers it hung.
pub const PATIENCE: Timeout = Some(Duration::from_secs(60));

/// Returns the folder of the examples, which are built or brought up to date first.
pub fn examples() -> &'static Path {
    static EXAMPLES: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        // `scripts/sanitize` builds them with one of clang's sanitizers.
        let sanitizer = std::env::var("SANITIZER").ok();
        let name = sanitizer.as_ref().map_or("examples".into(), |sanitizer| format!("examples-{sanitizer}"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        // Test processes that run side by side take turns.
        let lock = File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let mut make = Command::new("make");
        make.arg("-C").arg(repository().join("c-examples"));
        make.arg(format!("LIBDIR={}", library().display())).arg(format!("BUILD={}", folder.display()));
        if let Some(sanitizer) = sanitizer {
            let how = "-g -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all";
            make.arg("CC=clang").arg(format!("CFLAGS={how} -fsanitize={sanitizer}"));
        }
        succeed(&mut make);
        folder
    })
}

/// A key pair that `keygen` made.
pub struct Keys {
    pub public: PublicKey,
    pub secret: String,
}

impl Keys {
    /// Opens a tunnel to the server with this key at the port.
    pub fn connect(&self, server: PublicKey, port: u16) -> curve_tun::Result<Socket> {
        let options = Options::default().handshake_timeout(Duration::from_secs(60));
        let connector = Connector::new(Arc::new(self.vault())).server_key(server);
        connector.options(options).timeout(PATIENCE).connect("127.0.0.1", port)
    }

    pub fn vault(&self) -> MemoryVault {
        // Public and secret keys have the same text form.
        MemoryVault::from_secret(&self.secret.parse::<PublicKey>().unwrap().0).unwrap()
    }
}

pub fn keygen() -> Keys {
    let text = printed(&mut Command::new(examples().join("keygen")));
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    Keys { public: field("public ").parse().unwrap(), secret: field("secret ").to_owned() }
}

/// A running example server, which ends when this is dropped.
pub struct Server {
    process: Child,
    key: PublicKey,
    /// The address that it printed: `HOST:PORT`.
    pub address: String,
    pub port: u16,
}

impl Server {
    pub fn start(name: &str, options: &[&str], keys: &Keys, peers: &[&Keys]) -> Server {
        Server::start_at("127.0.0.1", name, options, keys, peers)
    }

    pub fn start_at(host: &str, name: &str, options: &[&str], keys: &Keys, peers: &[&Keys]) -> Server {
        Server::run(&mut Command::new(examples().join(name)), host, options, keys, peers)
    }

    /// Starts a server with a limit of `descriptors` open files.
    pub fn start_limited(descriptors: u32, name: &str, keys: &Keys, peers: &[&Keys]) -> Server {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]);
        Server::run(shell.arg(examples().join(name)), "127.0.0.1", &[], keys, peers)
    }

    /// Starts the server of a command line that begins with `command`.
    pub fn run(command: &mut Command, host: &str, options: &[&str], keys: &Keys, peers: &[&Keys]) -> Server {
        command.args(options).args([host, "0", &keys.secret]);
        command.args(peers.iter().map(|peer| peer.public.to_string()));
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").and_then(|line| line.strip_suffix('\n'));
        let Some(address) = address else {
            let _ = process.kill();
            let mut said = String::new();
            process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("{line}{said}");
        };
        let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        Server { process, key: keys.public, address: address.to_owned(), port }
    }

    /// Opens a tunnel to it.
    pub fn connect(&self, client: &Keys) -> Socket {
        client.connect(self.key, self.port).unwrap()
    }

    /// Opens a TCP connection to it that stays silent.
    pub fn connect_tcp(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).unwrap()
    }

    pub fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.process.id().to_string()).join(name)
    }

    /// Returns how many files it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// Returns its resident memory in KiB.
    pub fn resident(&self) -> usize {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Returns the clock ticks (hundredths of a second) that it has used.
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(self.proc("stat")).unwrap();
        // The fields after the name, which is in parentheses: user and system time are the 12th and 13th.
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    fn signal(&self, signal: i32) {
        let id = i32::try_from(self.process.id()).unwrap();
        // SAFETY: kill takes no pointers, and the process is a child that has not been waited for.
        unsafe { libc::kill(id, signal) };
    }

    /// Ends it as a user would, and checks that it exits successfully. Returns its error output.
    pub fn ends_by_sigterm(mut self) -> String {
        self.signal(libc::SIGTERM);
        wait_until("the server ends", || self.process.try_wait().unwrap().is_some());
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until a condition holds.
#[track_caller]
pub fn wait_until(what: &str, so: impl FnMut() -> bool) {
    let mut so = so;
    let end = Instant::now() + PATIENCE.unwrap();
    while !so() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
