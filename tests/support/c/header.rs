//! Writes include/curve_tun.h from the sources of the C face: `make header`. The tests generate it,
//! too, and compare.

#[path = "../../../src/error/table.rs"]
mod table;

use cbindgen::{Builder, Config};
use std::fs;
use std::path::Path;

/// The header's sections in order, which are files of `src/capi`: each uses types of the previous
/// ones.
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
    "listener",
    "known",
    "stream_options",
    "stream",
    "stream_machine",
];

/// The text that cbindgen puts around the functions of each section; the header has it once, around
/// all of them.
const OPEN: &str = "#ifdef __cplusplus\nextern \"C\" {\n#endif // __cplusplus\n";
const CLOSE: &str = "#ifdef __cplusplus\n}  // extern \"C\"\n#endif  // __cplusplus\n";

/// Brings the header up to date; a current file keeps its modification time.
fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (path, made) = (root.join("include/curve_tun.h"), header(root));
    if fs::read_to_string(&path).is_ok_and(|there| there == made) {
        return println!("include/curve_tun.h is current");
    }
    fs::write(&path, made).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    println!("include/curve_tun.h is written anew");
}

/// Returns the header that these sources make.
pub fn header(root: &Path) -> String {
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
                let results = tempfile::NamedTempFile::with_suffix(".rs").expect("a file for the results");
                fs::write(results.path(), results::SOURCE).expect("it can be written");
                declarations(builder.with_src(results.path()).with_src(path))
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
    let declarations = declarations.replace(OPEN, "").replace(CLOSE, "").replace("\n\n\n", "\n\n");
    assert!(!declarations.contains("extern"), "cbindgen writes these otherwise");
    with_initialisers(&format!("{}\n", declarations.trim()))
}

/// Adds, after each struct that a program fills or has filled, the macro that sets its `size` and
/// nothing else. The macro names every field, since compilers may warn of missing ones.
fn with_initialisers(declarations: &str) -> String {
    let mut out = String::new();
    for line in declarations.split_inclusive('\n') {
        out += line;
        let Some(name) = line.trim_end().strip_prefix("} ").and_then(|line| line.strip_suffix(';')) else {
            continue;
        };
        let body = &out[out.rfind("typedef struct {\n").expect("it began") + "typedef struct {\n".len()..];
        if !body.starts_with(&format!("    // `sizeof({name})`.\n")) {
            continue;
        }
        let fields: String = body.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let fields = fields.split_once('}').expect("it ended").0.split_terminator(';').skip(1);
        let values: Vec<_> = fields.map(nothing).collect();
        out += &format!(
            "\n// A `{name}` with `size` set, and all else 0.\n\
             #define {}_INIT \\\n    {{sizeof({name}), {}}}\n",
            name.to_uppercase(),
            values.join(", "),
        );
    }
    out
}

/// Returns the empty value of a field.
fn nothing(field: &str) -> &'static str {
    match field.trim() {
        field if field.contains("(*") => "NULL",
        field if field.contains('[') => "{0}",
        field if field.contains('*') => "NULL",
        field if field.starts_with("curve_tun_result ") => "CURVE_TUN_OK",
        _ => "0",
    }
}

fn versions() -> String {
    format!(
        "// The version of this header; `curve_tun_version` tells that of the library in use.\n\
         #define CURVE_TUN_VERSION \"{}\"\n\
         #define CURVE_TUN_VERSION_MAJOR {}\n\
         #define CURVE_TUN_VERSION_MINOR {}\n\
         #define CURVE_TUN_VERSION_PATCH {}\n\n\
         // The binary interface of this header: the major version in the high 16 bits, and until 1.0 the\n\
         // minor one in the low 16; `curve_tun_abi_version` tells that of the library in use.\n\
         #define CURVE_TUN_ABI_VERSION {}\n\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
        if env!("CARGO_PKG_VERSION_MAJOR") == "0" {
            env!("CARGO_PKG_VERSION_MINOR").to_owned()
        } else {
            format!("({} << 16)", env!("CARGO_PKG_VERSION_MAJOR"))
        },
    )
}

/// The results as cbindgen reads them: it does not expand the macro that makes them from the table
/// of errors.
mod results {
    use super::table::each_error;

    macro_rules! output {
        ($($item:tt)*) => {
            stringify!($($item)*)
        };
    }

    include!("../../../src/capi/results.rs");

    pub const SOURCE: &str = each_error!(results);
}
