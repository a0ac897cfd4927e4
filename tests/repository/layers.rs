//! The table of layers in docs/ARCHITECTURE.md lists every module of the crate, and each module
//! uses only those above it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules in the order of the table.
fn table() -> Vec<String> {
    let document = fs::read_to_string("docs/ARCHITECTURE.md").unwrap();
    let section = document.split("\n## Layers\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(module, _)| module.to_owned()).collect()
}

/// The modules of the crate, each with its files.
fn modules() -> Vec<(String, Vec<PathBuf>)> {
    let entries = fs::read_dir("src").unwrap().map(|entry| entry.unwrap().path());
    let modules = entries.filter_map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_module = name != "lib" && name != "bin";
        is_module.then(|| (name, files(&path)))
    });
    modules.collect()
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        return entries.flat_map(|entry| files(&entry.unwrap().path())).collect();
    }
    vec![path.to_owned()]
}

/// Returns the modules that a source names: `crate::NAME`, and `crate::{NAME, NAME}`, outside of
/// comments.
fn used(source: &str) -> BTreeSet<String> {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code: Vec<&str> = source.lines().filter(is_code).collect();
    let code = code.join("\n");
    let word = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        text[..end].to_owned()
    };
    let after = code.split("crate::").skip(1);
    let names = after.flat_map(|text| match text.strip_prefix('{') {
        Some(list) => list[..list.find('}').unwrap()].split(',').map(|name| word(name.trim())).collect(),
        None => vec![word(text)],
    });
    names.collect()
}

#[test]
fn the_table_has_every_module() {
    let modules: BTreeSet<String> = modules().into_iter().map(|(name, _)| name).collect();
    assert_eq!(table().into_iter().collect::<BTreeSet<_>>(), modules);
}

#[test]
fn each_module_uses_those_above_it_alone() {
    let table = table();
    let place = |name: &str| table.iter().position(|module| module == name);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (module, files) in modules() {
        for file in files {
            for name in used(&fs::read_to_string(&file).unwrap()) {
                // Other names are items of the crate root, such as a macro.
                let Some(of_name) = place(&name) else { continue };
                seen += 1;
                if of_name > place(&module).unwrap() {
                    wrong.push(format!("{} uses {name}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 100, "{seen} uses were found");
}

#[test]
fn uses_are_found_in_each_form() {
    let source = "use crate::error::{Error, Result};\n// crate::net\nuse crate::{crypto::wipe, vault};\n";
    let all = ["crypto", "error", "vault"].map(str::to_owned);
    assert_eq!(used(source), all.into_iter().collect());
    assert_eq!(used("fn f() -> crate::Result<()> { crate::sys::spawn() }").len(), 2);
}
