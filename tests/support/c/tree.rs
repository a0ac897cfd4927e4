//! A tree with this repository's Makefile, scripts and build.rs, and a crate that builds in a
//! second.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A program that prints its library's version and features.
pub const PROGRAM: &str = "
#include <curve_tun.h>
#include <stdio.h>
int main(void) { return puts(curve_tun_version()) < 0; }
";

/// Both parts of the crate print their version, their features, and `@SAYS@`.
const CRATE: &str = r#"
pub fn said() -> String {
    let features = [
        cfg!(feature = "capi").then_some("capi"), cfg!(feature = "forward").then_some("forward"),
        cfg!(feature = "dns").then_some("dns"), cfg!(feature = "nif").then_some("nif"),
        cfg!(feature = "pkcs11").then_some("pkcs11"),
    ];
    let features: Vec<_> = features.into_iter().flatten().collect();
    format!("{} {} @SAYS@", env!("CARGO_PKG_VERSION"), features.join(","))
}
#[unsafe(no_mangle)]
pub extern "C" fn curve_tun_version() -> *const std::ffi::c_char {
    std::ffi::CString::new(said()).unwrap().into_raw()
}
"#;

const MANIFEST: &str = r#"
[package]
name = "curve_tun"
version = "0.1.0"
edition = "2024"
[[bin]]
name = "curve-tun"
path = "src/main.rs"
required-features = ["forward"]
[features]
default = ["net"]
capi = ["net"]
forward = []
dns = []
net = []
nif = ["dns"]
pkcs11 = []
system-sodium = []
"#;

/// Environment variables that would redirect cargo or make.
const OTHERS: [&str; 12] = [
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
    "DESTDIR",
    "PREFIX",
    "LIBDIR",
    "INCLUDEDIR",
    "BINDIR",
    "FEATURES",
    "LD_LIBRARY_PATH",
];

pub struct Tree {
    pub folder: TempDir,
    pub root: PathBuf,
}

impl Tree {
    /// Makes a tree in a folder of this name.
    pub fn new(name: &str) -> Tree {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join(name);
        let tree = Tree { folder, root };
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        for made in ["scripts/systemd", "src", "include", "erlang", "c-examples", ".cargo"] {
            fs::create_dir_all(tree.root.join(made)).unwrap();
        }
        let scripts = [
            "build",
            "cargo-build",
            "install",
            "version.sh",
            "curve_tun.pc.in",
            "curve_tun-config.cmake.in",
            "curve_tun-config-version.cmake.in",
            "systemd/curve-tun-serve@.service",
            "systemd/curve-tun-connect@.service",
        ]
        .map(|name| format!("scripts/{name}"));
        let others = ["Makefile", "build.rs", "erlang/build_nif.sh", "c-examples/Makefile"];
        for taken in scripts.iter().map(String::as_str).chain(others) {
            fs::copy(here.join(taken), tree.root.join(taken)).unwrap();
        }
        tree.write("Cargo.toml", MANIFEST);
        tree.write("include/curve_tun.h", "const char *curve_tun_version(void);\n");
        tree.write("src/main.rs", r#"fn main() { println!("{}", curve_tun::said()) }"#);
        tree.say("first");
        tree
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.root.join(path), text).unwrap();
    }

    /// Changes the sources: sets what library and tool print from here on.
    pub fn say(&self, word: &str) {
        self.write("src/lib.rs", &CRATE.replace("@SAYS@", word));
    }

    pub fn set_version(&self, version: &str) {
        self.write("Cargo.toml", &MANIFEST.replace("0.1.0", version));
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for name in OTHERS {
            command.env_remove(name);
        }
        command.current_dir(&self.root).env("CARGO", env!("CARGO")).env("CARGO_NET_OFFLINE", "true");
        command
    }

    /// Returns the folder it is installed in.
    pub fn prefix(&self) -> PathBuf {
        self.folder.path().join("pre fix")
    }

    pub fn install(&self, features: &str) -> Command {
        let mut make = self.command("make");
        make.args(["install", &format!("FEATURES={features}")]);
        make.arg(format!("PREFIX={}", self.prefix().display()));
        make
    }

    /// Returns the output of a program built with the library that pkg-config finds.
    pub fn library_says(&self) -> String {
        let prefix = self.prefix();
        let program = self.folder.path().join("program");
        fs::write(program.with_extension("c"), PROGRAM).unwrap();
        let line = "eval \"cc -o '$1' '$1.c' $(pkg-config --cflags --libs curve_tun)\"";
        let mut build = self.command("sh");
        build.args(["-euc", line, "sh"]).arg(&program);
        succeed(build.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")));
        printed(self.command(program.to_str().unwrap()).env("LD_LIBRARY_PATH", prefix.join("lib")))
    }

    pub fn tool_says(&self) -> String {
        printed(&mut self.command(self.prefix().join("bin/curve-tun").to_str().unwrap()))
    }

    /// Checks the output of the installed programs: this version, the library's features besides
    /// `capi`, and the word in its sources.
    #[track_caller]
    pub fn assert_says(&self, version: &str, features: &str, word: &str) {
        let features = [&["capi"][..], &features.split(',').collect::<Vec<_>>()].concat().join(",");
        assert_eq!(self.library_says(), format!("{version} {} {word}", features.trim_end_matches(',')));
        assert_eq!(self.tool_says(), format!("{version} forward,dns,pkcs11 {word}"));
        let named = self.prefix().join(format!("lib/libcurve_tun.so.{version}"));
        assert!(named.exists(), "{}", named.display());
    }
}

#[track_caller]
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[track_caller]
pub fn printed(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap().trim_end().to_owned()
}

/// Returns the error output of a command that must fail.
#[track_caller]
pub fn complaint(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}
