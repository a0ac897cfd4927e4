//! The programs of the tests: each file is part of one, and each that a document, a script or the
//! Makefile names is there, with the tests that it is asked for.

use crate::docs::{DOCUMENTS, quoted, read, root};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the Rust files in a folder of the tests and in its folders, with their module paths:
/// none for `main.rs`.
fn modules(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut all = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let within = modules(&path).into_iter();
            let joined = within.map(|(module, path)| {
                (if module == "mod" { name.clone() } else { format!("{name}::{module}") }, path)
            });
            all.extend(joined);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push((if name == "main" { String::new() } else { name }, path));
        }
    }
    all
}

/// Returns each program with its files, by module path: those of `tests/NAME/main.rs`, and those
/// that the manifest names.
fn programs() -> BTreeMap<String, Vec<(String, PathBuf)>> {
    let folders = fs::read_dir(root().join("tests")).unwrap().map(|entry| entry.unwrap().path());
    let mut programs: BTreeMap<_, _> = folders
        .filter(|folder| folder.join("main.rs").exists())
        .map(|folder| (folder.file_name().unwrap().to_str().unwrap().to_owned(), modules(&folder)))
        .collect();
    let manifest = read("Cargo.toml");
    for entry in manifest.split("[[test]]\n").skip(1) {
        let value = |key: &str| {
            let line = entry.lines().find_map(|line| line.strip_prefix(&format!("{key} = \""))).unwrap();
            line.trim_end_matches('"').to_owned()
        };
        programs.insert(value("name"), vec![(String::new(), root().join(value("path")))]);
    }
    programs
}

/// Returns the full names of the tests in these files.
fn tests(files: &[(String, PathBuf)]) -> Vec<String> {
    let mut names = Vec::new();
    for (module, path) in files {
        let text = fs::read_to_string(path).unwrap();
        for after in text.split("#[test]\n").skip(1) {
            let name = after.split_once("fn ").unwrap().1.split_once('(').unwrap().0;
            names.push(if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") });
        }
    }
    names
}

#[test]
fn each_file_is_part_of_a_program() {
    let programs = programs();
    assert!(programs.len() > 20, "{} programs were found", programs.len());
    for (program, files) in &programs {
        for (module, path) in files.iter().filter(|(module, _)| !module.is_empty()) {
            let (folder, name) = match module.rsplit_once("::") {
                Some((parent, name)) => {
                    (format!("tests/{program}/{}/mod.rs", parent.replace("::", "/")), name)
                }
                None => (format!("tests/{program}/main.rs"), &**module),
            };
            let declared = read(&folder).lines().any(|line| line == format!("mod {name};"));
            assert!(declared, "{folder} does not have {}", path.display());
        }
    }
    for (name, path) in modules(&root().join("tests/process")) {
        let is_it = |files: &Vec<(String, PathBuf)>| files[0].1 == path;
        assert!(programs.get(&name).is_some_and(is_it), "Cargo.toml does not have {}", path.display());
    }
}

/// Finds what is wrong with a command of cargo: a `--test` that is no program, or a word after it
/// that is part of no test's name in the programs it names.
fn fault(command: &str, programs: &BTreeMap<String, Vec<(String, PathBuf)>>) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().map(|word| word.trim_end_matches(')')).collect();
    let is_name =
        |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || b"_:0123456789".contains(&byte));
    let (mut all, mut filters, mut named) = (Vec::new(), Vec::new(), false);
    for (at, word) in words.iter().enumerate().filter(|(_, word)| is_name(word)) {
        if at > 0 && words[at - 1] == "--test" {
            match programs.get(*word) {
                Some(files) => all.extend(tests(files)),
                None => return Some(format!("there is no program {word}")),
            }
            named = true;
        } else if named {
            filters.push(word);
        }
    }
    let missing = filters.into_iter().find(|filter| !all.iter().any(|test| test.contains(**filter)));
    missing.map(|filter| format!("no test has {filter} in its name"))
}

#[test]
fn each_test_that_is_named_is_there() {
    let programs = programs();
    let mut commands = Vec::new();
    for document in DOCUMENTS {
        let (names, _) = quoted(&read(document));
        commands.extend(names.into_iter().map(|command| (document.to_owned(), command)));
    }
    let scripts = fs::read_dir(root().join("scripts")).unwrap();
    let scripts = scripts.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let scripts = scripts.map(|path| format!("scripts/{}", path.file_name().unwrap().to_str().unwrap()));
    for file in scripts.chain(["Makefile".to_owned()]) {
        let text = read(&file).replace("\\\n", "");
        commands.extend(text.lines().map(|line| (file.clone(), line.to_owned())));
    }
    commands.retain(|(_, command)| command.contains("--test "));
    for (file, command) in &commands {
        assert_eq!(fault(command, &programs), None, "{file}: {command}");
    }
    assert!(commands.len() > 15, "{} commands were found", commands.len());
}

#[test]
fn a_wrong_name_is_found() {
    let programs = programs();
    let fault = |command| fault(command, &programs);
    assert_eq!(fault("cargo test --test repository programs::a_wrong_name"), None);
    assert_eq!(fault("cargo test --test nothing"), Some("there is no program nothing".to_owned()));
    for command in
        ["--test repository nothing::", "--test core -- programs:: --exact", "--test core no_such_test"]
    {
        assert!(fault(command).is_some(), "{command}");
    }
}
