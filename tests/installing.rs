//! `make lib`, `make tool`, `make install`, `make uninstall` and the NIF's build, wherever cargo puts what it builds, and
//! whatever has changed since: in a tree that has this one's Makefile, scripts and build.rs, and a crate that is built in
//! a second.
#![cfg(all(feature = "capi", target_os = "linux"))]

mod c_support;
#[path = "support/needs.rs"]
mod needs;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A program that says what its library says: its version and features.
const PROGRAM: &str = "
#include <curve_tun.h>
#include <stdio.h>
int main(void) { return puts(curve_tun_version()) < 0; }
";

/// Both parts of the crate say their version, their features, and `@SAYS@`.
const CRATE: &str = r#"
pub fn said() -> String {
    let features = [
        cfg!(feature = "capi").then_some("capi"), cfg!(feature = "cli").then_some("cli"),
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
required-features = ["cli"]
[features]
default = ["net"]
capi = ["net"]
cli = []
dns = []
net = []
nif = ["dns"]
pkcs11 = []
system-sodium = []
"#;

/// A project of CMake with two of these programs, and `VERSION` of the library.
const CMAKE: &str = r#"
cmake_minimum_required(VERSION 3.13)
project(ours C)
find_package(curve_tun ${VERSION} REQUIRED CONFIG)
message(STATUS "features: ${curve_tun_FEATURES}")
foreach(kind curve_tun static)
    add_executable(${kind} program.c)
    target_link_libraries(${kind} PRIVATE curve_tun::${kind})
endforeach()
"#;

/// Of the environment, what would lead cargo or make elsewhere.
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

struct Tree {
    folder: TempDir,
    root: PathBuf,
}

impl Tree {
    /// In a folder of this name.
    fn new(name: &str) -> Tree {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join(name);
        let tree = Tree { folder, root };
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        for made in ["scripts", "src", "include", "erlang", "c-examples", ".cargo"] {
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

    fn write(&self, path: &str, text: &str) {
        fs::write(self.root.join(path), text).unwrap();
    }

    /// A change of the sources: what library and tool say from here on.
    fn say(&self, word: &str) {
        self.write("src/lib.rs", &CRATE.replace("@SAYS@", word));
    }

    fn set_version(&self, version: &str) {
        self.write("Cargo.toml", &MANIFEST.replace("0.1.0", version));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for name in OTHERS {
            command.env_remove(name);
        }
        command.current_dir(&self.root).env("CARGO", env!("CARGO")).env("CARGO_NET_OFFLINE", "true");
        command
    }

    /// Where it is installed.
    fn prefix(&self) -> PathBuf {
        self.folder.path().join("pre fix")
    }

    fn install(&self, features: &str) -> Command {
        let mut make = self.command("make");
        make.args(["install", &format!("FEATURES={features}")]);
        make.arg(format!("PREFIX={}", self.prefix().display()));
        make
    }

    /// What a program says that pkg-config has found the library for.
    fn library_says(&self) -> String {
        let prefix = self.prefix();
        let program = self.folder.path().join("program");
        fs::write(program.with_extension("c"), PROGRAM).unwrap();
        let line = "eval \"cc -o '$1' '$1.c' $(pkg-config --cflags --libs curve_tun)\"";
        let mut build = self.command("sh");
        build.args(["-euc", line, "sh"]).arg(&program);
        succeed(build.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")));
        printed(self.command(program.to_str().unwrap()).env("LD_LIBRARY_PATH", prefix.join("lib")))
    }

    fn tool_says(&self) -> String {
        printed(&mut self.command(self.prefix().join("bin/curve-tun").to_str().unwrap()))
    }

    /// What is installed must say this: its version, the library's features beside `capi`, and the word of its sources.
    #[track_caller]
    fn assert_says(&self, version: &str, features: &str, word: &str) {
        let features = [&["capi"][..], &features.split(',').collect::<Vec<_>>()].concat().join(",");
        assert_eq!(self.library_says(), format!("{version} {} {word}", features.trim_end_matches(',')));
        assert_eq!(self.tool_says(), format!("{version} cli,dns,pkcs11 {word}"));
        let named = self.prefix().join(format!("lib/libcurve_tun.so.{version}"));
        assert!(named.exists(), "{}", named.display());
    }
}

#[track_caller]
fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[track_caller]
fn printed(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap().trim_end().to_owned()
}

/// What a command that must fail complains of.
#[track_caller]
fn complaint(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

/// The system that all of this is built for.
fn host() -> String {
    let said = printed(Command::new("rustc").arg("-vV"));
    said.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

/// One old library in the place where cargo puts it if nothing is said; then another version with other features, which
/// cargo puts elsewhere.
fn is_current_with(set: impl for<'c> Fn(&Tree, &'c mut Command) -> &'c mut Command) {
    let tree = Tree::new("tree");
    succeed(&mut tree.install(""));
    tree.assert_says("0.1.0", "", "first");
    tree.set_version("0.1.1");
    tree.say("second");
    let mut install = tree.install("dns");
    succeed(set(&tree, &mut install));
    tree.assert_says("0.1.1", "dns", "second");
}

#[test]
fn a_target_in_the_environment() {
    is_current_with(|_, make| make.env("CARGO_BUILD_TARGET", host()));
}

#[test]
fn a_target_in_cargos_configuration() {
    is_current_with(|tree, make| {
        tree.write(".cargo/config.toml", &format!("build.target = '{}'", host()));
        make
    });
}

#[test]
fn a_target_folder_in_the_environment() {
    is_current_with(|_, make| make.env("CARGO_TARGET_DIR", "else where"));
    is_current_with(|tree, make| make.env("CARGO_TARGET_DIR", tree.folder.path().join("elsewhere")));
    is_current_with(|_, make| make.env("CARGO_BUILD_TARGET_DIR", "elsewhere"));
}

#[test]
fn a_target_folder_in_cargos_configuration() {
    is_current_with(|tree, make| {
        tree.write(".cargo/config.toml", "build.target-dir = 'else/where'");
        make
    });
}

#[test]
fn an_install_takes_nothing_old() {
    let tree = Tree::new("tree");
    succeed(&mut tree.install(""));
    for (version, features, word) in [
        ("0.1.0", "", "second"),
        ("0.1.0", "pkcs11", "second"),
        ("0.1.0", "dns,pkcs11", "second"),
        ("0.1.1", "dns,pkcs11", "second"),
        ("0.1.0", "", "second"),
        ("0.1.0", "", "first"),
    ] {
        tree.set_version(version);
        tree.say(word);
        succeed(&mut tree.install(features));
        tree.assert_says(version, features, word);
        let pc = fs::read_to_string(tree.prefix().join("lib/pkgconfig/curve_tun.pc")).unwrap();
        assert!(
            pc.contains(&format!("\nVersion: {version}\n"))
                && pc.contains(&format!("\nfeatures={features}\n"))
        );
        let built: Vec<_> = fs::read_dir(tree.root.join("build/lib")).unwrap().flatten().collect();
        let shared = built.iter().filter(|entry| entry.file_type().unwrap().is_file());
        let shared: Vec<_> = shared.map(|entry| entry.file_name().into_string().unwrap()).collect();
        assert!(
            shared.iter().filter(|name| name.contains(".so")).eq([&format!("libcurve_tun.so.{version}")])
        );
    }
}

#[test]
fn what_has_not_changed_is_not_written_anew() {
    let tree = Tree::new("tree");
    let built = ["build/lib/libcurve_tun.so.0.1.0", "build/lib/libcurve_tun.a", "build/bin/curve-tun"];
    let times = || built.map(|path| fs::metadata(tree.root.join(path)).unwrap().modified().unwrap());
    succeed(&mut tree.install(""));
    let before = times();
    succeed(tree.install("").arg("-j8"));
    assert_eq!(times(), before);
}

#[test]
fn paths_with_spaces_and_more() {
    let tree = Tree::new("a tree with 'quotes' & \"more\", \\ and $HOME");
    succeed(&mut tree.install("dns"));
    tree.assert_says("0.1.0", "dns", "first");
    let stage = tree.folder.path().join("the 'stage' & |");
    let mut make = tree.command("make");
    make.arg("install").arg(format!("DESTDIR={}", stage.display())).arg("PREFIX=/op t/a & b|c");
    succeed(&mut make);
    let prefix = stage.join("op t/a & b|c");
    for file in ["include/curve_tun.h", "lib/libcurve_tun.a", "lib/libcurve_tun.so.0.1.0", "bin/curve-tun"] {
        assert!(prefix.join(file).is_file(), "{file}");
    }
    for link in ["lib/libcurve_tun.so.0.1", "lib/libcurve_tun.so"] {
        assert_eq!(fs::canonicalize(prefix.join(link)).unwrap(), prefix.join("lib/libcurve_tun.so.0.1.0"));
    }
    let pc = fs::read_to_string(prefix.join("lib/pkgconfig/curve_tun.pc")).unwrap();
    assert!(pc.starts_with("prefix=/op t/a & b|c\n"), "{pc}");
}

/// Each file and link below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

#[test]
fn folders_of_ones_own_and_nothing_is_left_there() {
    let tree = Tree::new("tree");
    let prefix = tree.prefix();
    let [libdir, includedir] = ["lib/x86_64-linux-gnu", "include/curve tun"].map(|path| prefix.join(path));
    let bindir = tree.folder.path().join("pre fixed/s bin");
    let make = |target: &str, stage: &str| {
        let mut make = tree.command("make");
        make.args([target, &format!("DESTDIR={stage}"), &format!("PREFIX={}", prefix.display())]);
        make.arg(format!("LIBDIR={}", libdir.display())).arg(format!("BINDIR={}", bindir.display()));
        make.arg(format!("INCLUDEDIR={}", includedir.display()));
        make
    };
    let stage = tree.folder.path().join("stage");
    let stage = stage.to_str().unwrap();
    succeed(&mut make("install", ""));
    succeed(&mut make("install", stage));
    let pc = fs::read_to_string(libdir.join("pkgconfig/curve_tun.pc")).unwrap();
    let folders = "\nincludedir=${prefix}/include/curve tun\nlibdir=${prefix}/lib/x86_64-linux-gnu\n";
    assert!(pc.contains(folders), "{pc}");
    let installed = ["include/curve tun/curve_tun.h", "lib/x86_64-linux-gnu/libcurve_tun.a"]
        .map(|path| prefix.join(path));
    assert!(installed.iter().all(|path| path.is_file()) && bindir.join("curve-tun").is_file());
    let staged = files(Path::new(stage));
    assert_eq!(staged.len(), files(&prefix).len() + files(&bindir).len());
    assert_eq!(programs_of_cmake(&tree, &libdir, "0.1"), ["0.1.0 capi first"; 2]);

    // An earlier library of this interface goes, too; one of another, and what is not ours, stays.
    let not_ours = ["libcurve_tun.so.9", "libcurve_tun.so.9.1.0", "pkgconfig/other.pc"];
    for path in not_ours.into_iter().chain(["libcurve_tun.so.0.1.3"]) {
        fs::write(libdir.join(path), "").unwrap();
    }
    succeed(&mut make("uninstall", ""));
    assert_eq!(files(&prefix), not_ours.map(|path| libdir.join(path)));
    assert_eq!(files(&bindir), [] as [PathBuf; 0]);
    assert_eq!(files(Path::new(stage)), staged);
    // Also where nothing is installed.
    succeed(&mut make("uninstall", stage));
    succeed(&mut make("uninstall", stage));
    assert_eq!(files(Path::new(stage)), [] as [PathBuf; 0]);
}

/// What the programs of `CMAKE` say, which finds this version of the library in `libdir`.
fn programs_of_cmake(tree: &Tree, libdir: &Path, version: &str) -> [String; 2] {
    let (mut configure, built) = cmake(tree, libdir, version);
    succeed(&mut configure);
    succeed(tree.command("cmake").arg("--build").arg(&built));
    ["curve_tun", "static"].map(|program| printed(&mut tree.command(built.join(program).to_str().unwrap())))
}

/// CMake, to make a new folder ready to build in.
fn cmake(tree: &Tree, libdir: &Path, version: &str) -> (Command, PathBuf) {
    let (ours, built) = (tree.folder.path().join("ours"), tree.folder.path().join("ours built"));
    let _ = fs::remove_dir_all(&built);
    fs::create_dir_all(&ours).unwrap();
    fs::write(ours.join("CMakeLists.txt"), CMAKE).unwrap();
    fs::write(ours.join("program.c"), PROGRAM).unwrap();
    let mut cmake = tree.command("cmake");
    cmake.arg("-S").arg(ours).arg("-B").arg(&built).arg(format!("-DVERSION={version}"));
    cmake.arg(format!("-Dcurve_tun_DIR={}", libdir.join("cmake/curve_tun").display()));
    (cmake, built)
}

#[test]
fn cmake_finds_what_is_installed() {
    let tree = Tree::new("tree");
    // The whole library, where `scripts/check-install` has installed it.
    if let Some(libdir) = c_support::installed("lib") {
        assert_eq!(programs_of_cmake(&tree, &libdir, "0.1"), [env!("CARGO_PKG_VERSION"); 2]);
        return;
    }
    let libdir = tree.prefix().join("lib");
    for (version, asked, others) in [
        ("0.1.2", &["", "0.1", "0.1.0", "0.1.2"][..], &["0.1.3", "0.2", "0.0.9", "1.0"][..]),
        ("2.3.0", &["", "2", "2.0", "2.3.0"], &["2.4", "3", "1", "0.1"]),
    ] {
        tree.set_version(version);
        succeed(&mut tree.install("dns,pkcs11"));
        for asked in asked {
            succeed(&mut cmake(&tree, &libdir, asked).0);
        }
        for other in others {
            let said = complaint(&mut cmake(&tree, &libdir, other).0);
            assert!(said.contains("compatible with requested version"), "{said}");
        }
    }
    // It finds its library wherever that has been moved to.
    let moved = tree.folder.path().join("moved");
    fs::rename(tree.prefix(), &moved).unwrap();
    assert_eq!(programs_of_cmake(&tree, &moved.join("lib"), ""), ["2.3.0 capi,dns,pkcs11 first"; 2]);
}

#[test]
fn the_soname_is_that_of_the_interface() {
    let tree = Tree::new("tree");
    for (version, interface) in
        [("0.1.0", "0.1"), ("0.1.12", "0.1"), ("0.10.0", "0.10"), ("1.0.0", "1"), ("12.3.4", "12")]
    {
        tree.set_version(version);
        tree.write("include/curve_tun.h", &format!("#define CURVE_TUN_VERSION \"{version}\"\n"));
        succeed(tree.command("make").arg("lib"));
        let soname = format!("libcurve_tun.so.{interface}");
        let built = tree.root.join("build/lib");
        let dynamic = printed(Command::new("readelf").arg("-d").arg(built.join("libcurve_tun.so")));
        assert!(dynamic.contains(&format!("soname: [{soname}]")), "{version}: {dynamic}");
        let link = fs::canonicalize(built.join(&soname)).unwrap();
        assert_eq!(link, built.join(format!("libcurve_tun.so.{version}")));
        assert_eq!(
            fs::read_dir(&built).unwrap().count(),
            5,
            "what was built for {version}, and nothing else"
        );
        // It is the name that the examples look for.
        let example = printed(tree.command("make").args(["-C", "c-examples", "-n", "clean"]));
        assert!(example.contains(&soname), "{example}");
    }
}

#[test]
fn examples_and_programs_that_measure_in_paths_with_spaces() {
    let folder = tempfile::tempdir().unwrap();
    let (library, built) = (folder.path().join("a library"), folder.path().join("what is built"));
    fs::create_dir(&library).unwrap();
    for file in ["libcurve_tun.so", "libcurve_tun.a"] {
        fs::copy(c_support::library().join(file), library.join(file)).unwrap();
    }
    for (sources, program) in [("c-examples", "keygen"), ("benches", "counts")] {
        let program = built.join(program);
        let mut make = Command::new("make");
        make.arg("-C").arg(c_support::repository().join(sources)).env_remove("MAKEFLAGS").arg(&program);
        make.arg(format!("LIBDIR={}", library.display())).arg(format!("BUILD={}", built.display()));
        succeed(&mut make);
        assert!(program.is_file());
    }
    // It finds its library.
    assert!(printed(&mut Command::new(built.join("keygen"))).starts_with("public "));
}

#[test]
fn the_nif_is_the_one_just_built() {
    let tree = Tree::new("a tree");
    succeed(&mut tree.install(""));
    for (name, value) in [("CARGO_BUILD_TARGET", host()), ("CARGO_TARGET_DIR", "else where".to_owned())] {
        tree.say(name);
        succeed(tree.command("sh").args(["erlang/build_nif.sh", "pr iv"]).env(name, value));
        let program = tree.folder.path().join("program");
        fs::write(program.with_extension("c"), PROGRAM).unwrap();
        let mut build = tree.command("cc");
        build.arg("-o").arg(&program).arg(program.with_extension("c")).arg("-Iinclude");
        // Without a SONAME, it is what the program looks for.
        succeed(build.arg(tree.root.join("pr iv/curve_tun_nif.so")));
        assert_eq!(
            printed(&mut tree.command(program.to_str().unwrap())),
            format!("0.1.0 dns,nif,pkcs11 {name}")
        );
    }
}

#[test]
fn what_cannot_be_built_is_said() {
    let tree = Tree::new("tree");
    for features in ["nif", "inject", "dns,nosuch"] {
        let wrong = features.rsplit(',').next().unwrap();
        let said = complaint(&mut tree.install(features));
        assert!(said.contains("FEATURES: there are dns, pkcs11 and system-sodium"), "{said}");
        assert!(said.contains(wrong), "{said}");
    }
    for (variable, path, expected) in [
        ("PREFIX", "/a\"b", "PREFIX: not with any of"),
        ("LIBDIR", "/a;b", "LIBDIR: not with any of"),
        ("PREFIX", "usr", "PREFIX: not an absolute path: usr"),
        ("INCLUDEDIR", "./here", "INCLUDEDIR: not an absolute path: ./here"),
        ("BINDIR", "/a\\b", "BINDIR: not with any of"),
    ] {
        for target in ["install", "uninstall"] {
            let said = complaint(tree.command("make").args([target, &format!("{variable}={path}")]));
            assert!(said.contains(expected), "{said}");
        }
    }
    // A compiler's error ends it, and leaves nothing that a later install takes for current.
    succeed(&mut tree.install(""));
    tree.write("src/lib.rs", "what is this");
    assert!(complaint(&mut tree.install("")).contains("error: "));
    // Instead of cargo, programs that say what it may say.
    let cargo = tree.folder.path().join("cargo");
    for (said, expected) in [
        (r#""/one/libcurve_tun.so","/two/libcurve_tun.so""#, "cargo has built more than one libcurve_tun.so"),
        (r#""/one/libcurve_tun.rlib""#, "cargo has built no libcurve_tun.so"),
        (r#""/one/a\u0007/libcurve_tun.so""#, "a path with a control character in it"),
    ] {
        let message = format!(r#"{{"reason":"compiler-artifact","filenames":[{said}],"fresh":true}}"#);
        fs::write(&cargo, format!("#!/bin/sh\ncat <<'END'\n{message}\nEND\n")).unwrap();
        fs::set_permissions(&cargo, PermissionsExt::from_mode(0o700)).unwrap();
        let mut build = tree.command("scripts/cargo-build");
        let said = complaint(build.args(["libcurve_tun.so", "--", "--lib"]).env("CARGO", &cargo));
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn who_has_no_cargo_installs_what_the_owner_has_built_if_it_is_current() {
    if !needs::root() {
        return;
    }
    let tree = Tree::new("tree");
    succeed(tree.command("make").args(["lib", "tool", "FEATURES=dns"]));
    succeed(tree.command("chown").args(["-R", "65534", "build"]));
    let without_cargo = |features| {
        let mut make = tree.install(features);
        make.env("CARGO", "/nowhere/cargo");
        make
    };
    succeed(&mut without_cargo("dns"));
    tree.assert_says("0.1.0", "dns", "first");
    let said = complaint(&mut without_cargo("pkcs11"));
    assert!(said.contains("make lib FEATURES=pkcs11"), "{said}");
    tree.say("second");
    let said = complaint(&mut without_cargo("dns"));
    assert!(said.contains("build/lib is not built, or of other sources or features"), "{said}");
    tree.assert_says("0.1.0", "dns", "first");
}
