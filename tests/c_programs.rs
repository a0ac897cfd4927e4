//! Builds the C programs in `tests/c` with each compiler and runs them, plainly and under valgrind.
#![cfg(all(feature = "capi", target_os = "linux"))]

#[path = "support/agent.rs"]
mod agent;
mod c_support;

use agent::AgentProcess;
use c_support::{C99, COMPILERS, functions, header, library, repository, succeed, workshop};
use curve_tun::vault::{Cost, FileVault};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What valgrind says when it found an error.
const FAULTY: &str = "--error-exitcode=99";

fn build(compiler: &str, name: &str, to: &Path, extra: &[&str], libraries: &[&str]) -> PathBuf {
    let program = to.join(format!("{name}-{compiler}"));
    let mut command = Command::new(compiler);
    command.args(C99).args(extra).arg("-I").arg(repository().join("include"));
    command.arg(repository().join("tests/c").join(name).with_extension("c"));
    command.arg("-o").arg(&program).arg("-L").arg(library()).args(libraries).arg("-pthread");
    succeed(command.arg(format!("-Wl,-rpath,{}", to.display())));
    program
}

/// Builds and runs one program each way; `leaks` is valgrind's word for whether they are looked for.
fn run(name: &str, leaks: &str) {
    run_with(name, leaks, |_, _| {});
}

/// Runs it with the arguments that `arguments` adds for each of the ways.
fn run_with(name: &str, leaks: &str, arguments: impl Fn(&mut Command, &str)) {
    let folder = workshop(name);
    for compiler in COMPILERS {
        let mut program = Command::new(build(compiler, name, &folder, &[], &["-lcurve_tun"]));
        arguments(&mut program, compiler);
        succeed(&mut program);
    }
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["-q", leaks, FAULTY]);
    valgrind.arg(format!("--suppressions={}", repository().join("tests/c/valgrind.supp").display()));
    valgrind.arg(folder.join(format!("{name}-gcc")));
    arguments(&mut valgrind, "valgrind");
    succeed(&mut valgrind);
}

#[test]
fn keys() {
    run("keys", "--leak-check=full");
}

#[test]
fn each_function_takes_null_for_each_pointer() {
    run("nulls", "--leak-check=full");
}

#[test]
fn each_function_of_the_header_is_in_the_program_of_nulls() {
    let nulls = fs::read_to_string(repository().join("tests/c/nulls.c")).unwrap();
    let missing: Vec<_> =
        functions(&header()).into_iter().filter(|name| !nulls.contains(&format!("{name}("))).collect();
    assert!(missing.is_empty(), "not called with NULL: {missing:?}");
}

#[test]
fn kept() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, socket) = (folder.path().join("agent.vault"), folder.path().join("socket"));
    drop(FileVault::create(&vault, None, Cost::default()).unwrap());
    let _agent = AgentProcess::start(&vault, &socket);
    run_with("kept", "--leak-check=full", |program, way| {
        let folder = folder.path().join(way);
        fs::create_dir(&folder).unwrap();
        program.arg(folder).arg(&socket);
    });
}

#[test]
fn misuse() {
    run("misuse", "--leak-check=full");
}

#[test]
fn pair() {
    run("pair", "--leak-check=full");
}

#[test]
fn registries() {
    let folder = tempfile::tempdir().unwrap();
    run_with("registries", "--leak-check=full", |program, way| {
        let folder = folder.path().join(way);
        fs::create_dir(&folder).unwrap();
        program.arg(folder);
    });
}

#[test]
fn sockets() {
    run("sockets", "--leak-check=full");
}

#[test]
fn threads() {
    run("threads", "--leak-check=full");
}

#[test]
fn signals() {
    run("signals", "--leak-check=full");
}

/// Only where the system itself refuses: valgrind has its own way with memory.
fn run_plainly(name: &str, libraries: &[&str], argument: Option<&Path>) {
    let folder = workshop(name);
    for compiler in COMPILERS {
        succeed(Command::new(build(compiler, name, &folder, &[], libraries)).args(argument));
    }
}

#[test]
fn memory_that_is_not_locked() {
    run_plainly("locked", &["-lcurve_tun"], None);
}

#[test]
fn memory_that_runs_out() {
    let folder = tempfile::tempdir().unwrap();
    run_plainly("memory", &["-lcurve_tun"], Some(&folder.path().join("vault")));
}

#[test]
fn unloaded_and_loaded_again() {
    run_plainly("unload", &["-ldl"], Some(&library().join("libcurve_tun.so")));
}

#[test]
fn fork() {
    // A child keeps what belonged to threads that it has not.
    run("fork", "--leak-check=no");
}

#[test]
fn libsodium_may_be_initialised_already() {
    let folder = workshop("sodium_first");
    let archive = library().join("libcurve_tun.a");
    let libraries = [archive.to_str().unwrap(), "-lpthread", "-ldl", "-lm"];
    succeed(&mut Command::new(build("gcc", "threads", &folder, &["-DSODIUM_FIRST"], &libraries)));
}
