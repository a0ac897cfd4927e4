//! Shared by the tests of the C face: the library as shipped, compilers, and folders for build
//! results.
pub mod examples;
pub mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The C compilers that must accept the header and the programs.
pub const COMPILERS: [&str; 2] = ["gcc", "clang"];
/// Without any warning.
pub const C99: [&str; 6] = ["-std=c99", "-g", "-Wall", "-Wextra", "-pedantic", "-Werror"];

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the folder of the release build's libraries, which is built or brought up to date first.
///
/// It is built without the features that only tests use.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let mut build = Command::new(repository().join("scripts/build"));
        build
            .arg("paths")
            .env("CARGO", env!("CARGO"))
            .env("CARGO_TARGET_DIR", target())
            .env_remove("FEATURES");
        let paths = printed(&mut build);
        Path::new(paths.lines().next().unwrap()).parent().unwrap().to_owned()
    })
}

/// Returns a path of the installation, if `scripts/check-install` runs these tests on one.
pub fn installed(path: &str) -> Option<PathBuf> {
    std::env::var_os("CURVE_TUN_INSTALLED").map(|prefix| Path::new(&prefix).join(path))
}

/// Returns a shared library with the features `dns` and `pkcs11`: the installed one, or that of an
/// example of the crate, built or brought up to date first, unoptimised. It has no SONAME, and is
/// found by its file name.
pub fn library_of_tests() -> PathBuf {
    if let Some(library) = installed("lib/libcurve_tun.so") {
        return library;
    }
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", "curve_tun", "--target-dir"]).arg(target());
    succeed(build.current_dir(repository()));
    let test = std::env::current_exe().unwrap();
    let library = test.parent().unwrap().with_file_name("examples/libcurve_tun.so");
    assert!(library.exists(), "{} is what cargo has built", library.display());
    library
}

/// Returns cargo's target folder, in which this test was built.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// Returns the SONAME of the shared library, whose version is that of the C interface: `0.1` until
/// 1.0, `1` from then on.
pub fn soname() -> String {
    match (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR")) {
        ("0", minor) => format!("libcurve_tun.so.0.{minor}"),
        (major, _) => format!("libcurve_tun.so.{major}"),
    }
}

/// Makes a new folder of this name for a test's files, with the shared library in it, also under
/// its SONAME.
pub fn workshop(name: &str) -> PathBuf {
    workshop_with(name, &library().join("libcurve_tun.so"))
}

/// The same, with the given library.
pub fn workshop_with(name: &str, library: &Path) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for name in [&soname(), "libcurve_tun.so"] {
        std::os::unix::fs::symlink(library, folder.join(name)).unwrap();
    }
    folder
}

/// Builds a program of `tests/c` in `folder`, where it finds its shared library.
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

/// Returns the library in a workshop, for the linker.
pub fn linked(folder: &Path) -> String {
    folder.join(soname()).to_str().unwrap().to_owned()
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

/// Returns the output of a command that must succeed.
pub fn printed(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

/// Returns the committed header.
pub fn header() -> String {
    fs::read_to_string(repository().join("include/curve_tun.h")).unwrap()
}

/// Returns the functions of the header, in its order.
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
