//! Writes the C header and gives the shared library its SONAME; nothing without the feature `capi`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "capi")]
    capi::build();
}

#[cfg(feature = "capi")]
#[path = "src/error/table.rs"]
mod table;

#[cfg(feature = "capi")]
mod capi {
    use super::results;
    use cbindgen::{Builder, Config};
    use std::path::{Path, PathBuf};
    use std::{env, fs};

    /// The header's sections in their order, which are files of `src/capi`: each uses types of those before it.
    const SECTIONS: &[&str] = &[
        "result",
        "keys",
        "options",
        "vault",
        "kept",
        "registry",
        "registry_kept",
        "server",
        "request",
        "connection",
        "traffic",
        "socket",
        "known",
    ];

    /// What cbindgen puts around the functions of each section; the header has it once, around all of them.
    const OPEN: &str = "#ifdef __cplusplus\nextern \"C\" {\n#endif // __cplusplus\n";
    const CLOSE: &str = "#ifdef __cplusplus\n}  // extern \"C\"\n#endif  // __cplusplus\n";

    pub fn build() {
        println!("cargo::rerun-if-changed=cbindgen.toml");
        println!("cargo::rerun-if-changed=src/capi");
        println!("cargo::rerun-if-changed=src/error/table.rs");
        let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
        let header = header(&root);
        let out = PathBuf::from(variable("OUT_DIR")).join("curve_tun.h");
        fs::write(out, &header).expect("OUT_DIR can be written");
        keep_current(&root, &header);
        name_library();
    }

    fn variable(name: &str) -> String {
        env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
    }

    /// Brings `include/curve_tun.h` up to date, in a checkout of the repository alone: a package has the header of its
    /// sources, and its folder is not ours to write to.
    fn keep_current(root: &Path, header: &str) {
        let path = root.join("include/curve_tun.h");
        let current = fs::read_to_string(&path).is_ok_and(|there| there == header);
        if current || !root.join(".git").exists() {
            return;
        }
        let written = fs::create_dir_all(root.join("include")).and_then(|()| fs::write(&path, header));
        if let Err(error) = written {
            println!("cargo::warning=include/curve_tun.h is not current and cannot be written: {error}");
        }
    }

    /// The shared library is found by a name with the major version, which is that of its interface.
    fn name_library() {
        let major = variable("CARGO_PKG_VERSION_MAJOR");
        match variable("CARGO_CFG_TARGET_OS").as_str() {
            "macos" => {
                println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libcurve_tun.{major}.dylib")
            }
            "linux" | "freebsd" | "netbsd" | "openbsd" | "android" => {
                println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcurve_tun.so.{major}");
            }
            _ => {}
        }
    }

    fn header(root: &Path) -> String {
        let config = Config::from_root_or_default(root);
        let sections = root.join("src/capi");
        let mut header = comment(&sections.join("mod.rs"));
        header += "\n#ifndef CURVE_TUN_H\n#define CURVE_TUN_H\n\n";
        header += "#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n\n";
        header += &versions();
        header += "// Warns of a result that is not looked at.\n\
                   #if defined(__GNUC__) || defined(__clang__)\n\
                   #define CURVE_TUN_MUST_USE __attribute__((warn_unused_result))\n\
                   #else\n\
                   #define CURVE_TUN_MUST_USE\n\
                   #endif\n\n";
        header += OPEN;
        for section in SECTIONS {
            let path = sections.join(section).with_extension("rs");
            header += "\n";
            header += &comment(&path);
            header += "\n";
            let builder = Builder::new().with_config(config.clone());
            header += &match *section {
                "result" => {
                    let results = PathBuf::from(variable("OUT_DIR")).join("results.rs");
                    fs::write(&results, results::SOURCE).expect("OUT_DIR can be written");
                    declarations(builder.with_src(results).with_src(path))
                }
                _ => declarations(builder.with_src(path)),
            };
        }
        header += "\n";
        header += CLOSE;
        header += "\n#endif  // CURVE_TUN_H\n";
        header
    }

    /// The `//!` lines that a file begins with, as a comment of C.
    fn comment(path: &Path) -> String {
        let source = fs::read_to_string(path).expect("src/capi can be read");
        let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
        lines.map(|line| format!("//{line}\n")).collect()
    }

    fn declarations(builder: Builder) -> String {
        let mut declarations = Vec::new();
        builder.generate().expect("cbindgen reads src/capi").write(&mut declarations);
        let declarations = String::from_utf8(declarations).expect("the sources are UTF-8");
        assert!(
            declarations.contains(OPEN) && declarations.contains(CLOSE),
            "cbindgen writes these otherwise"
        );
        declarations.replace(OPEN, "").replace(CLOSE, "").replace("\n\n\n", "\n\n").trim().to_owned() + "\n"
    }

    fn versions() -> String {
        let version = variable("CARGO_PKG_VERSION");
        let part = |name| variable(&format!("CARGO_PKG_VERSION_{name}"));
        format!(
            "// The version of this header; `curve_tun_version` tells that of the library in use.\n\
             #define CURVE_TUN_VERSION \"{version}\"\n\
             #define CURVE_TUN_VERSION_MAJOR {}\n\
             #define CURVE_TUN_VERSION_MINOR {}\n\
             #define CURVE_TUN_VERSION_PATCH {}\n\n",
            part("MAJOR"),
            part("MINOR"),
            part("PATCH"),
        )
    }
}

/// The results as cbindgen reads them: it does not expand the macro that makes them of the table of
/// errors.
#[cfg(feature = "capi")]
mod results {
    use super::table::each_error;

    macro_rules! output {
        ($($item:tt)*) => {
            stringify!($($item)*)
        };
    }

    include!("src/capi/results.rs");

    pub const SOURCE: &str = each_error!(results);
}
