//! Where `make install` puts its files, that CMake and programs find them there, and that
//! `make uninstall` removes all of them.

use crate::support::c;
use crate::support::c::tree::{PROGRAM, Tree, complaint, printed, succeed};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A CMake project with two of these programs, and `VERSION` of the library.
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

/// Returns each file and link below a folder, in order.
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

    // An earlier library of this interface is removed, too; one of another interface stays, as do
    // other packages' files.
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

/// Returns the output of the programs of `CMAKE`, which finds this version of the library in
/// `libdir`.
fn programs_of_cmake(tree: &Tree, libdir: &Path, version: &str) -> [String; 2] {
    let (mut configure, built) = cmake(tree, libdir, version);
    succeed(&mut configure);
    succeed(tree.command("cmake").arg("--build").arg(&built));
    ["curve_tun", "static"].map(|program| printed(&mut tree.command(built.join(program).to_str().unwrap())))
}

/// Returns CMake's command that configures a new build folder.
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
    // The whole library, as installed by `scripts/check-install`.
    if let Some(libdir) = c::installed("lib") {
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
    // It finds its library even after both have been moved.
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
