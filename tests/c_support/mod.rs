//! What the tests of the C face share: the library as it ships, compilers, and places for what they make.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod examples;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The compilers of C that the header and the programs must please.
pub const COMPILERS: [&str; 2] = ["gcc", "clang"];
/// Without a warning.
pub const C99: [&str; 6] = ["-std=c99", "-g", "-Wall", "-Wextra", "-pedantic", "-Werror"];

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of the release build's libraries, which is made or brought up to date here.
///
/// It is built without the features that only tests use.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let mut build = Command::new(repository().join("scripts/cargo-build"));
        build.args(["libcurve_tun.so", "--", "--release", "--lib", "--target-dir"]).arg(target());
        let path = printed(build.env("CARGO", env!("CARGO")).current_dir(repository()));
        Path::new(path.trim_end_matches('\n')).parent().unwrap().to_owned()
    })
}

/// What `make install` has installed, if `scripts/check-install` has these tests use that.
pub fn installed(path: &str) -> Option<PathBuf> {
    std::env::var_os("CURVE_TUN_INSTALLED").map(|prefix| Path::new(&prefix).join(path))
}

/// A shared library with the features `dns` and `pkcs11`: the installed one, or the one that Cargo built with this test,
/// unoptimised.
pub fn library_of_tests() -> PathBuf {
    if let Some(library) = installed("lib/libcurve_tun.so") {
        return library;
    }
    let test = std::env::current_exe().unwrap();
    let library = test.with_file_name("libcurve_tun.so");
    assert!(library.exists(), "{} is built with every test", library.display());
    library
}

/// Cargo's target folder, in which this test was built.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// A new folder of this name for what a test makes, with the shared library in it under its SONAME.
pub fn workshop(name: &str) -> PathBuf {
    workshop_with(name, &library().join("libcurve_tun.so"))
}

/// The same, with this library.
pub fn workshop_with(name: &str, library: &Path) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let major = env!("CARGO_PKG_VERSION_MAJOR");
    std::os::unix::fs::symlink(library, folder.join(format!("libcurve_tun.so.{major}"))).unwrap();
    folder
}

/// Builds a program of `tests/c` into `folder`, where it finds its shared library.
pub fn build(compiler: &str, name: &str, folder: &Path, extra: &[&str], libraries: &[&str]) -> PathBuf {
    let program = folder.join(format!("{name}-{compiler}"));
    let mut command = Command::new(compiler);
    let include = installed("include").unwrap_or_else(|| repository().join("include"));
    command.args(C99).args(extra).arg("-I").arg(include);
    command.arg(repository().join("tests/c").join(name).with_extension("c"));
    command.arg("-o").arg(&program).args(libraries).arg("-pthread");
    succeed(command.arg(format!("-Wl,-rpath,{}", folder.display())));
    program
}

/// The library in a workshop, for the linker.
pub fn linked(folder: &Path) -> String {
    folder.join(format!("libcurve_tun.so.{}", env!("CARGO_PKG_VERSION_MAJOR"))).to_str().unwrap().to_owned()
}

/// Runs a command that must succeed.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output
}

/// What a command that must succeed prints.
pub fn printed(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

/// The committed header.
pub fn header() -> String {
    fs::read_to_string(repository().join("include/curve_tun.h")).unwrap()
}

/// The functions of the header, in its order.
pub fn functions(header: &str) -> Vec<String> {
    let code = header.lines().filter(|line| !line.trim_start().starts_with("//"));
    let names = code.flat_map(|line| {
        line.match_indices("curve_tun_").filter_map(|(start, _)| {
            let rest = &line[start..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            rest[end..].starts_with('(').then(|| rest[..end].to_owned())
        })
    });
    names.collect()
}
