//! Builds the C programs in `tests/c` with each compiler and runs them, plainly and under valgrind.

use crate::support::agent;
use crate::support::agent::AgentProcess;
use crate::support::c::{
    COMPILERS, build, functions, header, installed, library, library_of_tests, linked, printed, repository,
    succeed, workshop, workshop_with,
};
use crate::support::knot;
use crate::support::softhsm;
use curve_tun::vault::{Cost, FileVault, Pkcs11Vault, Vault};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Makes valgrind exit with this status when it finds an error.
const FAULTY: &str = "--error-exitcode=99";

/// Builds and runs one program in each way; `leaks` is valgrind's option that says whether to look
/// for leaks.
fn run(name: &str, leaks: &str) {
    run_with(name, leaks, |_, _| {});
}

/// The same with arguments that `arguments` adds for each way.
fn run_with(name: &str, leaks: &str, arguments: impl Fn(&mut Command, &str)) {
    let folder = workshop(name);
    for compiler in COMPILERS {
        let mut program = Command::new(build(compiler, name, &folder, &[], &[&linked(&folder)]));
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
fn each_function_of_the_header_is_in_a_program_of_nulls() {
    let programs = ["nulls", "stream_nulls"]
        .map(|name| fs::read_to_string(repository().join("tests/c").join(name).with_extension("c")).unwrap());
    let nulls = programs.concat();
    let missing: Vec<_> =
        functions(&header()).into_iter().filter(|name| !nulls.contains(&format!("{name}("))).collect();
    assert!(missing.is_empty(), "not called with NULL: {missing:?}");
}

#[test]
fn each_function_of_streams_takes_null_for_each_pointer() {
    run("stream_nulls", "--leak-check=full");
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
fn a_vault_in_a_token() {
    let folder = workshop_with("token", &library_of_tests());
    let place = tempfile::tempdir().unwrap();
    let (vault, socket) = (place.path().join("agent.vault"), place.path().join("socket"));
    drop(FileVault::create(&vault, None, Cost::default()).unwrap());
    let _agent = AgentProcess::start(&vault, &socket);
    let hsm = softhsm::SoftHsm::get();
    let uri = hsm.uri("suite", "key");
    let key = Pkcs11Vault::generate(&uri, Some(softhsm::PIN)).unwrap().public_key();
    let mut tool = Command::new(installed("bin/curve-tun").unwrap_or_else(|| agent::TOOL.into()));
    tool.args(["public", "--pkcs11", &uri, "--passphrase-file"]).arg(hsm.pin_file());
    assert_eq!(printed(&mut tool).trim_end(), key.to_string());
    for compiler in COMPILERS {
        let mut program = Command::new(build(compiler, "kept", &folder, &[], &[&linked(&folder)]));
        let files = place.path().join(compiler);
        fs::create_dir(&files).unwrap();
        let pin = std::str::from_utf8(softhsm::PIN).unwrap();
        succeed(program.arg(files).arg(&socket).arg(&uri).arg(pin));
    }
}

#[test]
fn a_registry_in_dns() {
    let folder = workshop_with("dns", &library_of_tests());
    let place = tempfile::tempdir().unwrap();
    let [(server, server_key), (client, client_key)] = ["server", "client"].map(|name| {
        let path = place.path().join(name);
        let key = FileVault::create(&path, None, Cost::default()).unwrap().public_key();
        (path, key)
    });
    let text = format!(
        "1.0.0.127.in-addr TXT \"v=ct1; k={client_key}\"\n_curve_tun.1.0.0.127.in-addr TXT \"v=ct1; k={server_key}\"\n"
    );
    let knot = knot::Knot::start(&[knot::Zone { name: "test", text, signed: knot::Signed::Nsec }]);
    for compiler in COMPILERS {
        let mut program = Command::new(build(compiler, "dns", &folder, &[], &[&linked(&folder)]));
        program.arg(knot.address().to_string()).arg(knot.trust_anchors("test")).arg(&server).arg(&client);
        succeed(&mut program);
    }
}

#[test]
fn structs_of_older_and_of_later_programs() {
    let folder = tempfile::tempdir().unwrap();
    run_with("growth", "--leak-check=full", |program, way| {
        let folder = folder.path().join(way);
        fs::create_dir(&folder).unwrap();
        program.arg(folder);
    });
}

#[test]
fn loops() {
    run("loops", "--leak-check=full");
}

#[test]
fn queue() {
    run("queue", "--leak-check=full");
}

#[test]
fn slow_vault() {
    run("slow_vault", "--leak-check=full");
}

#[test]
fn minute_keys_rotate_for_whom_a_server_that_is_freed_has_left() {
    run("minute_keys", "--leak-check=full");
}

#[test]
fn misuse() {
    run("misuse", "--leak-check=full");
}

#[test]
fn observer() {
    run("observer", "--leak-check=full");
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
fn trust() {
    let folder = tempfile::tempdir().unwrap();
    run_with("trust", "--leak-check=full", |program, way| {
        let folder = folder.path().join(way);
        fs::create_dir(&folder).unwrap();
        program.arg(repository().join("tests/data/trust.txt")).arg(folder);
    });
}

#[test]
fn sockets() {
    run("sockets", "--leak-check=full");
}

/// On an interface in a separate network namespace, where the address is certainly free.
#[test]
fn sockets_with_a_link_local_address() {
    let folder = workshop("sockets-scoped");
    let script = "ip link add scoped0 type veth && ip link set scoped0 up && ip link set lo up &&
        ip -6 address add fe80::1/64 dev scoped0 nodad && exec \"$0\" fe80::1%scoped0";
    for compiler in COMPILERS {
        let program = build(compiler, "sockets", &folder, &[], &[&linked(&folder)]);
        let mut unshared = Command::new("unshare");
        succeed(unshared.args(["--net", "sh", "-c", script]).arg(program));
    }
}

#[test]
fn streams() {
    run("streams", "--leak-check=full");
}

#[test]
fn streams_whose_peer_does_not_do_its_part() {
    run("stream_waits", "--leak-check=full");
}

#[test]
fn streams_without_io() {
    run("stream_machines", "--leak-check=full");
}

#[test]
fn a_stream_without_io_against_one_that_blocks() {
    run("stream_driven", "--leak-check=full");
}

#[test]
fn times() {
    run("times", "--leak-check=full");
}

#[test]
fn threads() {
    run("threads", "--leak-check=full");
}

#[test]
fn signals() {
    run("signals", "--leak-check=full");
}

/// Only where the system itself refuses: valgrind manages memory in its own way.
fn run_plainly(name: &str, library: Option<&str>, argument: Option<&Path>) {
    let folder = workshop(name);
    let library = library.map_or_else(|| linked(&folder), str::to_owned);
    for compiler in COMPILERS {
        succeed(Command::new(build(compiler, name, &folder, &[], &[&library])).args(argument));
    }
}

#[test]
fn memory_that_is_not_locked() {
    run_plainly("locked", None, None);
}

#[test]
fn memory_that_runs_out() {
    let folder = tempfile::tempdir().unwrap();
    run_plainly("memory", None, Some(&folder.path().join("vault")));
}

#[test]
fn unloaded_and_loaded_again() {
    run_plainly("unload", Some("-ldl"), Some(&library().join("libcurve_tun.so")));
}

#[test]
fn fork() {
    // A child keeps memory of threads that it does not have.
    run("fork", "--leak-check=no");
}

#[test]
fn fork_with_streams() {
    run("stream_fork", "--leak-check=no");
}

#[test]
fn libsodium_may_be_initialised_already() {
    let folder = workshop("sodium_first");
    let archive = library().join("libcurve_tun.a");
    let libraries = [archive.to_str().unwrap(), "-lpthread", "-ldl", "-lm"];
    succeed(&mut Command::new(build("gcc", "threads", &folder, &["-DSODIUM_FIRST"], &libraries)));
}
