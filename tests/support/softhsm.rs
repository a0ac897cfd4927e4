//! SoftHSM's tokens, in a separate folder for the test.

use curve_tun::vault::{Pkcs11Vault, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const PIN: &[u8] = b"1234-user";
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
];

fn module() -> Option<PathBuf> {
    MODULES.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Says whether SoftHSM is installed.
pub fn is_installed() -> bool {
    module().is_some()
}

/// One for each test that needs one: SoftHSM only sees those that exist when it is loaded, and a
/// token that several processes change at once may miss a key for a moment.
const TOKENS: [&str; 16] = [
    "suite",
    "again",
    "secret",
    "fits",
    "pins",
    "state",
    "lost",
    "gone",
    "newer",
    "newer-tool",
    "newer-shown",
    "proxy",
    "spy",
    "unusable",
    "place",
    "restarts",
];

/// SoftHSM with its tokens in a temporary folder.
pub struct SoftHsm {
    folder: TempDir,
    pub module: PathBuf,
}

impl SoftHsm {
    /// Returns the instance of this test process; each test has its own tokens.
    pub fn get() -> &'static SoftHsm {
        static HSM: OnceLock<SoftHsm> = OnceLock::new();
        HSM.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("tokens")).unwrap();
            let conf = folder.path().join("softhsm2.conf");
            let tokens = folder.path().join("tokens");
            let text = format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
            std::fs::write(&conf, text).unwrap();
            // SAFETY: every test of the process comes here first, and waits; nothing reads the
            // environment meanwhile.
            unsafe { std::env::set_var("SOFTHSM2_CONF", &conf) };
            let hsm = SoftHsm { folder, module: module().expect("SoftHSM 2, from the package softhsm2") };
            let pin_file = hsm.pin_file();
            std::fs::write(&pin_file, PIN).unwrap();
            std::fs::set_permissions(&pin_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            TOKENS.iter().for_each(|token| hsm.init_token(token, &pin_file));
            hsm
        })
    }

    pub fn conf(&self) -> PathBuf {
        self.folder.path().join("softhsm2.conf")
    }

    /// The folder in which SoftHSM keeps its tokens.
    pub fn tokens(&self) -> PathBuf {
        self.folder.path().join("tokens")
    }

    /// The PIN of all tokens, in a file.
    pub fn pin_file(&self) -> PathBuf {
        self.folder.path().join("pin-of-all")
    }

    /// Returns the kinds and labels of the keys in a token, as another program sees them.
    pub fn keys(&self, token: &str) -> Vec<(String, String)> {
        let mut list = Command::new("pkcs11-tool");
        list.arg("--module").arg(&self.module).args(["--token-label", token, "--login", "--pin"]);
        list.arg(std::str::from_utf8(PIN).unwrap()).arg("--list-objects").env("SOFTHSM2_CONF", self.conf());
        let output = list.output().expect("pkcs11-tool, from the package opensc");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let mut keys = Vec::new();
        for line in text.lines() {
            if let Some((kind, _)) = line.split_once(" Key Object;") {
                keys.push((kind.to_owned(), String::new()));
            } else if let (Some(label), Some(key)) = (line.trim().strip_prefix("label:"), keys.last_mut()) {
                key.1 = label.trim().to_owned();
            }
        }
        keys
    }

    /// A folder for the states of counters.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a token, before the first use of the module in this process. Its PIN is in a file, and
    /// is not read here.
    pub fn init_token(&self, label: &str, pin_file: &Path) {
        let mut shell = Command::new("sh");
        let init =
            "exec softhsm2-util --init-token --free --label \"$1\" --so-pin so-5678 --pin \"$(cat \"$2\")\"";
        shell.args(["-c", init, "sh", label]).arg(pin_file).env("SOFTHSM2_CONF", self.conf());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Builds a module in front of this one, `tests/support/SOURCE.c`, with these definitions.
    pub fn front(&self, source: &str, definitions: &[String]) -> PathBuf {
        static BUILT: AtomicUsize = AtomicUsize::new(0);
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        let front = self.folder.path().join(format!("{source}-{number}.so"));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&front);
        compiler.arg(format!("-DMODULE=\"{}\"", self.module.display()));
        compiler.args(definitions.iter().map(|definition| format!("-D{definition}")));
        compiler.arg(format!("{}/tests/support/{source}.c", env!("CARGO_MANIFEST_DIR"))).arg("-ldl");
        assert!(compiler.status().unwrap().success());
        front
    }

    /// The URI of a key in a token.
    pub fn uri(&self, token: &str, object: &str) -> String {
        self.uri_by(&self.module, token, object)
    }

    /// The same with another module, which is in front of this one.
    pub fn uri_by(&self, module: &Path, token: &str, object: &str) -> String {
        let state = self.folder.path().join(format!("{token}-{object}"));
        let (module, state) = (module.display(), state.display());
        format!("pkcs11:token={token};object={object}?module-path={module}&x-curve-tun-state={state}")
    }
    /// The same with the default module, by a URI that names none.
    pub fn uri_by_default(&self, token: &str, object: &str) -> String {
        let state = self.folder.path().join(format!("{token}-{object}"));
        format!("pkcs11:token={token};object={object}?x-curve-tun-state={}", state.display())
    }
}

/// A module in front of SoftHSM whose tokens can be removed, and whose PINs can be refused.
pub struct Removable {
    pub module: PathBuf,
    name: String,
}

impl Removable {
    /// A forgetful module finds them again only after it is initialised again. Names have to differ
    /// within a process.
    pub fn new(name: &str, forgetful: bool) -> Removable {
        let hsm = SoftHsm::get();
        let define = |what: &str| format!("{what}=\"{}\"", file(name, what).display());
        let mut definitions = ["AWAY", "WRONG_PIN", "LOCKED", "LOGINS", "STARTS"].map(define).to_vec();
        definitions.extend(forgetful.then(|| "FORGETFUL".to_owned()));
        Removable { module: hsm.front("removable", &definitions), name: name.to_owned() }
    }

    pub fn take_away(&self) {
        std::fs::write(file(&self.name, "AWAY"), b"").unwrap();
    }

    pub fn bring_back(&self) {
        std::fs::remove_file(file(&self.name, "AWAY")).unwrap();
    }

    /// Makes it refuse each PIN, with this error; or none.
    pub fn refuse(&self, error: Option<Error>) {
        for (what, its) in [("WRONG_PIN", Error::WrongPassphrase), ("LOCKED", Error::PinLocked)] {
            let path = file(&self.name, what);
            if error == Some(its) {
                std::fs::write(path, b"").unwrap();
            } else if path.exists() {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    /// Returns how often it was logged in to.
    pub fn logins(&self) -> u64 {
        std::fs::metadata(file(&self.name, "LOGINS")).map_or(0, |file| file.len())
    }

    /// Returns how often it was initialised.
    pub fn starts(&self) -> u64 {
        std::fs::metadata(file(&self.name, "STARTS")).map_or(0, |file| file.len())
    }
}

fn file(name: &str, what: &str) -> PathBuf {
    SoftHsm::get().folder().join(format!("{name}-{what}"))
}

/// Seals a box with the key; returns the counter in its nonce.
pub fn counter(vault: &Pkcs11Vault) -> Result<u64, Error> {
    let nonce = vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16])?;
    Ok(vault.counter_in(&nonce))
}

/// Returns the first result that is not this error; or this error, if nothing else came for long.
pub fn until_not(error: Error, mut call: impl FnMut() -> Result<u64, Error>) -> Result<u64, Error> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let result = call();
        if result != Err(error) || Instant::now() > end {
            return result;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
