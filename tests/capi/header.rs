//! The C header, and the libraries that it describes.

#[path = "../support/c/header.rs"]
#[allow(dead_code, reason = "the program that writes it is `make header`")]
mod made;

use crate::support::c::{
    C99, COMPILERS, functions, header, library, printed, repository, soname, succeed, workshop,
};
use curve_tun::Error;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

#[test]
fn the_header_is_that_of_the_sources() {
    assert!(
        header() == made::header(repository()),
        "include/curve_tun.h is not current: run `make header`, and commit it"
    );
}

#[test]
fn it_compiles_alone_and_twice_as_c99_and_as_cpp17() {
    let folder = workshop("header");
    let source = folder.join("header.c");
    fs::write(&source, "#include \"curve_tun.h\"\n#include \"curve_tun.h\"\nint main(void) { return 0; }\n")
        .unwrap();
    let include = repository().join("include");
    for compiler in COMPILERS {
        let mut c = Command::new(compiler);
        succeed(c.args(C99).arg("-I").arg(&include).arg("-fsyntax-only").arg(&source));
        let mut cpp = Command::new(compiler);
        cpp.args([
            "-x",
            "c++",
            "-std=c++17",
            "-Wall",
            "-Wextra",
            "-pedantic",
            "-Werror",
            "-fsyntax-only",
            "-I",
        ]);
        succeed(cpp.arg(&include).arg(&source));
    }
}

#[test]
fn the_shared_library_exports_exactly_its_functions() {
    let symbols =
        printed(Command::new("nm").args(["-D", "--defined-only"]).arg(library().join("libcurve_tun.so")));
    let exported: BTreeSet<_> = symbols.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    let functions = functions(&header());
    let declared: BTreeSet<_> = functions.iter().map(String::as_str).collect();
    assert!(!declared.is_empty());
    assert_eq!(exported, declared);
    assert_eq!(declared.len(), functions.len(), "each is declared once");
}

#[test]
fn the_soname_has_the_version_of_the_interface() {
    let dynamic = printed(Command::new("readelf").arg("-d").arg(library().join("libcurve_tun.so")));
    assert!(dynamic.contains(&format!("soname: [{}]", soname())), "{dynamic}");
}

#[test]
fn the_version_macros_are_those_of_the_manifest() {
    let header = header();
    for (name, value) in [
        ("", concat!('"', env!("CARGO_PKG_VERSION"), '"')),
        ("_MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("_MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("_PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ] {
        let line = format!("\n#define CURVE_TUN_VERSION{name} {value}\n");
        assert!(header.contains(&line), "{line}");
    }
    // The binary interface has the version of the SONAME.
    let interface = soname().strip_prefix("libcurve_tun.so.").unwrap().to_owned();
    let abi = interface.strip_prefix("0.").map_or_else(|| format!("({interface} << 16)"), str::to_owned);
    assert!(header.contains(&format!("\n#define CURVE_TUN_ABI_VERSION {abi}\n")), "{abi}");
}

#[test]
fn its_results_are_the_table_of_errors() {
    let header = header();
    let results: Vec<_> = header
        .lines()
        .filter_map(|line| line.trim().strip_prefix("CURVE_TUN_ERR_")?.strip_suffix(',')?.split_once(" = "))
        .map(|(name, code)| (format!("CURVE_TUN_ERR_{name}"), code.parse::<i32>().unwrap()))
        .collect();
    let errors: Vec<_> = Error::ALL.iter().map(|error| (error.name().to_owned(), error.code())).collect();
    assert_eq!(results, errors);
}

#[test]
fn every_function_has_a_comment_that_speaks_of_threads() {
    let header = header();
    let lines: Vec<_> = header.lines().collect();
    for name in functions(&header) {
        let call = format!("{name}(");
        let mut at = lines.iter().position(|line| !line.starts_with("//") && line.contains(&call)).unwrap();
        if lines[at - 1] == "CURVE_TUN_MUST_USE" {
            at -= 1;
        }
        let comment: Vec<_> = lines[..at].iter().rev().take_while(|line| line.starts_with("//")).collect();
        assert!(!comment.is_empty(), "{name} has no comment");
        assert!(comment.iter().any(|line| line.contains("Threads:")), "{name} says nothing of threads");
    }
}

/// The header's conventions say how to link; a program is built with exactly that.
#[test]
fn the_static_library_links_as_the_header_says() {
    let header = header();
    let line = header.split('`').find(|code| code.starts_with("cc program.c libcurve_tun.a")).unwrap();
    let folder = workshop("static");
    let (program, archive) = (folder.join("program"), library().join("libcurve_tun.a"));
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.arg("-I").arg(repository().join("include")).arg("-o").arg(&program);
    for word in words {
        match word {
            "program.c" => command.arg(repository().join("tests/c/keys.c")),
            "libcurve_tun.a" => command.arg(&archive),
            flag => command.arg(flag),
        };
    }
    succeed(&mut command);
    succeed(&mut Command::new(program));
}
