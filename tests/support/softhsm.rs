//! Tokens of SoftHSM, in a folder of the test's own.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Whether there is a SoftHSM to ask.
pub fn is_installed() -> bool {
    module().is_some()
}

/// One for each test that needs one: SoftHSM sees those alone that are there when it is loaded, and one that several
/// processes change at once may miss a key for a moment.
const TOKENS: [&str; 11] = [
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
];

/// SoftHSM with its tokens in a temporary folder.
pub struct SoftHsm {
    folder: TempDir,
    pub module: PathBuf,
}

impl SoftHsm {
    /// The one of this test process; its tokens are each test's own.
    pub fn get() -> &'static SoftHsm {
        static HSM: OnceLock<SoftHsm> = OnceLock::new();
        HSM.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("tokens")).unwrap();
            let conf = folder.path().join("softhsm2.conf");
            let tokens = folder.path().join("tokens");
            let text = format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
            std::fs::write(&conf, text).unwrap();
            // SAFETY: every test of the process comes here first, and waits; nobody reads the environment meanwhile.
            unsafe { std::env::set_var("SOFTHSM2_CONF", &conf) };
            let hsm = SoftHsm { folder, module: module().expect("SoftHSM 2, from the package softhsm2") };
            let pin_file = hsm.folder().join("pin-of-all");
            std::fs::write(&pin_file, PIN).unwrap();
            TOKENS.iter().for_each(|token| hsm.init_token(token, &pin_file));
            hsm
        })
    }

    pub fn conf(&self) -> PathBuf {
        self.folder.path().join("softhsm2.conf")
    }

    /// A folder for the states of counters.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One more token, before the first use of the module in this process. Its PIN is in a file, and is not read here.
    pub fn init_token(&self, label: &str, pin_file: &Path) {
        let mut shell = Command::new("sh");
        let init =
            "exec softhsm2-util --init-token --free --label \"$1\" --so-pin so-5678 --pin \"$(cat \"$2\")\"";
        shell.args(["-c", init, "sh", label]).arg(pin_file).env("SOFTHSM2_CONF", self.conf());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Builds a module that stands in front of this one, `tests/support/SOURCE.c`, with these definitions.
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

    /// The same by another module, which stands in front of this one.
    pub fn uri_by(&self, module: &Path, token: &str, object: &str) -> String {
        let state = self.folder.path().join(format!("{token}-{object}"));
        let (module, state) = (module.display(), state.display());
        format!("pkcs11:token={token};object={object}?module-path={module}&x-curve-tun-state={state}")
    }
}
