//! `make lib`, `make tool`, `make install` and the build of the NIF, wherever cargo puts its
//! output, and whatever has changed since.

use crate::support::c;
use crate::support::c::tree::{PROGRAM, Tree, complaint, printed, succeed};
use crate::support::needs;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// The system that everything here is built for.
fn host() -> String {
    let said = printed(Command::new("rustc").arg("-vV"));
    said.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

/// Prepares an old library in cargo's default place, and then another version with other features,
/// which cargo puts elsewhere.
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

#[test]
fn examples_and_programs_that_measure_in_paths_with_spaces() {
    let folder = tempfile::tempdir().unwrap();
    let (library, built) = (folder.path().join("a library"), folder.path().join("what is built"));
    fs::create_dir(&library).unwrap();
    for file in ["libcurve_tun.so", "libcurve_tun.a"] {
        fs::copy(c::library().join(file), library.join(file)).unwrap();
    }
    for (sources, program) in [("c-examples", "keygen"), ("benches", "counts")] {
        let program = built.join(program);
        let mut make = Command::new("make");
        make.arg("-C").arg(c::repository().join(sources)).env_remove("MAKEFLAGS").arg(&program);
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
        // Without a SONAME, the program looks for this very path.
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
    // A compiler error ends it, and leaves nothing that a later install would consider current.
    succeed(&mut tree.install(""));
    tree.write("src/lib.rs", "what is this");
    assert!(complaint(&mut tree.install("")).contains("error: "));
    // Programs in place of cargo, which print what cargo may print.
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
