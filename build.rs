//! Refuses features that exclude each other. There is nothing to generate: the C header is written by `make header`, and
//! who builds the C library names it (scripts/build, cargo-c).

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let has = |feature: &str| env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    if has("CAPI") && has("NIF") {
        println!(
            "cargo::error=the features `capi` and `nif` are two builds: together they make a library that needs the \
             BEAM's symbols and exports those of C"
        );
    }
}
