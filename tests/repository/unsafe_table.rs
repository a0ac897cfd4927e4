//! docs/UNSAFE.md lists every unsafe block of src with its contract, as in the source.
//!
//! `CURVE_TUN_WRITE=1 cargo test --test repository unsafe_table` regenerates the list.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const TABLE: &str = "docs/UNSAFE.md";
const HEAD: &str = "| where | function | blocks | contract |\n| --- | --- | --- | --- |\n";
/// Where unsafe code is allowed: code that calls C, and code that C calls.
const ALLOWED: [&str; 6] = [
    "src/crypto/",
    "src/sys/fork.rs",
    "src/capi/",
    "src/vault/pkcs11/",
    "src/nif/",
    "src/bin/curve-tun/forward/descriptor.rs",
];

struct Block {
    file: String,
    function: String,
    contract: String,
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Returns the part of a line before a comment or a string.
fn code(line: &str) -> &str {
    let end = line.find("//").into_iter().chain(line.find('"')).min();
    &line[..end.unwrap_or(line.len())]
}

fn is_block(line: &str) -> bool {
    let code = code(line);
    code.contains("unsafe {") || code.trim_start().starts_with("unsafe impl")
}

/// The name of the function or type that a line begins.
fn name(line: &str) -> Option<String> {
    let line = line.trim_start();
    if line.starts_with("//") {
        return None;
    }
    let after = line.split_once("fn ").or_else(|| line.strip_prefix("unsafe impl").map(|rest| ("", rest)))?.1;
    let word = after.trim_start_matches(|c: char| c == '<' || c.is_whitespace());
    let end = word.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(word.len());
    (end > 0).then(|| word[..end].to_owned())
}

/// The contract in the comment above line `at`, or above the statement that it is part of.
fn contract(lines: &[&str], at: usize) -> Option<String> {
    let start =
        (at.saturating_sub(6)..at).rev().find(|line| lines[*line].trim_start().starts_with("// SAFETY: "))?;
    if lines[start..at].iter().any(|line| is_block(line)) {
        return None;
    }
    let comment =
        lines[start..at].iter().map(|line| line.trim_start()).take_while(|line| line.starts_with("//"));
    let text = comment.map(|line| line.trim_start_matches('/').trim()).collect::<Vec<_>>().join(" ");
    text.strip_prefix("SAFETY: ").map(str::to_owned)
}

fn blocks() -> Vec<Block> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    files.sort();
    let mut blocks = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_block(line)) {
            let contract = contract(&lines, at);
            let contract = contract.unwrap_or_else(|| panic!("{file}:{}: no SAFETY comment: {line}", at + 1));
            let function = (0..=at).rev().find_map(|line| name(lines[line])).unwrap_or_default();
            blocks.push(Block { file: file.clone(), function, contract });
        }
    }
    blocks
}

fn table(blocks: &[Block]) -> String {
    let mut table = HEAD.to_owned();
    for same in
        blocks.chunk_by(|a, b| (&a.file, &a.function, &a.contract) == (&b.file, &b.function, &b.contract))
    {
        let Block { file, function, contract } = &same[0];
        let contract = contract.replace('|', "\\|");
        writeln!(table, "| `{file}` | `{function}` | {} | {contract} |", same.len()).unwrap();
    }
    table
}

#[test]
fn the_table_of_unsafe_blocks_is_the_sources() {
    let blocks = blocks();
    assert!(blocks.len() > 50, "the search for unsafe blocks found too few");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    let document = fs::read_to_string(&path).unwrap();
    let (before, listed) = document.split_at(document.find(HEAD).expect("the table's head"));
    let expected = table(&blocks);
    if std::env::var_os("CURVE_TUN_WRITE").is_some() {
        fs::write(&path, format!("{before}{expected}")).unwrap();
        return;
    }
    for (listed, expected) in listed.lines().zip(expected.lines()) {
        assert_eq!(
            listed, expected,
            "{TABLE} is stale: CURVE_TUN_WRITE=1 cargo test --test repository unsafe_table"
        );
    }
    assert_eq!(listed.lines().count(), expected.lines().count(), "{TABLE} is stale");
}

#[test]
fn unsafe_code_stays_where_it_is_allowed() {
    for block in blocks() {
        assert!(ALLOWED.iter().any(|folder| block.file.starts_with(folder)), "{}", block.file);
    }
}
