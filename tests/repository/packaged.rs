//! The contents of the crate's package, and what a dependent crate gets: a Rust library that builds
//! quickly.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A crate that depends on the package, built as the release of this crate, so that both share
/// cargo's output.
const DEPENDENT: &str = r#"
[package]
name = "dependent"
version = "0.0.0"
edition = "2024"
[dependencies]
curve_tun = { path = "../curve_tun-@VERSION@" }
[workspace]
[profile.release]
lto = true
codegen-units = 1
strip = "debuginfo"
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns what cargo prints, run in this folder.
#[track_caller]
fn cargo(folder: &Path, arguments: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(arguments).arg("--offline").current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{cargo:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_package_has_what_a_build_needs_and_no_more() {
    let list = cargo(root(), &["package", "--list", "--allow-dirty"]);
    let files: BTreeSet<_> = list.lines().filter(|path| !path.starts_with("src/")).collect();
    let expected = [
        ".cargo_vcs_info.json",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "Cargo.toml.orig",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "SECURITY.md",
        "build.rs",
        "include/curve_tun.h",
    ];
    let missing: Vec<_> = expected.iter().filter(|path| !files.contains(*path)).collect();
    // Without a repository there is no file with its commit.
    assert!(missing.iter().all(|path| **path == ".cargo_vcs_info.json"), "{missing:?}");
    assert_eq!(files.into_iter().filter(|path| !expected.contains(path)).collect::<Vec<_>>(), [""; 0]);
    assert!(list.contains("src/lib.rs\n") && list.contains("src/bin/curve-tun/main.rs\n"), "{list}");
}

#[test]
fn who_depends_on_the_crate_gets_a_rust_library_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let made = folder.path().join("made");
    cargo(root(), &["package", "--no-verify", "--allow-dirty", "--target-dir", made.to_str().unwrap()]);
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(made.join(format!("package/curve_tun-{version}.crate"))).arg("-C").arg(folder.path());
    assert!(tar.status().unwrap().success());
    let package = folder.path().join(format!("curve_tun-{version}"));

    // One program can be installed from it, with a feature that is not on by default.
    let described: Value =
        serde_json::from_str(&cargo(&package, &["metadata", "--no-deps", "--format-version=1"])).unwrap();
    let targets = described["packages"][0]["targets"].as_array().unwrap();
    let names: BTreeSet<_> =
        targets.iter().map(|target| (target["kind"].to_string(), target["name"].as_str().unwrap())).collect();
    let expected = [
        ("[\"bin\"]", "curve-tun"),
        ("[\"custom-build\"]", "build-script-build"),
        ("[\"lib\"]", "curve_tun"),
    ];
    assert_eq!(names, expected.map(|(kind, name)| (kind.to_owned(), name)).into());

    let dependent = folder.path().join("dependent");
    fs::create_dir_all(dependent.join("src")).unwrap();
    fs::write(dependent.join("Cargo.toml"), DEPENDENT.replace("@VERSION@", version)).unwrap();
    fs::write(dependent.join("src/lib.rs"), "pub use curve_tun::net::Socket;\n").unwrap();
    fs::copy(root().join("Cargo.lock"), dependent.join("Cargo.lock")).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_str().unwrap();
    let said = cargo(&dependent, &["build", "--release", "--message-format=json", "--target-dir", target]);
    let messages = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let artefacts: Vec<_> = messages.filter(|message| message["reason"] == "compiler-artifact").collect();
    let mut files = BTreeSet::new();
    for artefact in &artefacts {
        let package = artefact["package_id"].as_str().unwrap();
        // Dependencies that only the tool, the tests or other features need.
        for other in ["cbindgen", "clap", "tokio", "hickory-resolver", "rustler", "cryptoki-sys"] {
            assert!(!package.contains(&format!("#{other}@")), "{package}");
        }
        if artefact["target"]["name"] == "curve_tun" {
            files.extend(artefact["filenames"].as_array().unwrap().iter().map(|file| {
                Path::new(file.as_str().unwrap()).extension().unwrap().to_str().unwrap().to_owned()
            }));
        }
    }
    assert_eq!(files, ["rlib", "rmeta"].map(str::to_owned).into());
}
