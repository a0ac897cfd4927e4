//! Compares the instructions of sealing, opening and a handshake with those of
//! benches/instructions.txt.
//!
//! Unlike times, counts are the same on a busy machine. They are of the release library, through
//! the C ABI, with random keys: constant-time code takes as many instructions for one key as for
//! another.

use crate::support::needs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How much a count may grow: the differences between compilers are smaller, and a regression is
/// larger.
const GROWTH: f64 = 0.03;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the processor that the counts are of, and each operation with its count.
fn parse(text: &str) -> (&str, Vec<(&str, f64)>) {
    let (processor, counts) = text.split_once('\n').expect("a line about the processor");
    let count = |line| {
        let (operation, count) = str::rsplit_once(line, ' ').expect("an operation and its count");
        (operation, count.parse().expect("a count"))
    };
    (processor, counts.lines().map(count).collect())
}

fn count() -> String {
    let mut script = Command::new(repository().join("scripts/count-instructions"));
    let output = script.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "scripts/count-instructions: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn no_count_has_grown() {
    let baseline = std::fs::read_to_string(repository().join("benches/instructions.txt")).unwrap();
    let (processor, baseline) = parse(&baseline);
    let counted = count();
    let (here, counts) = parse(&counted);
    print!("{counted}");
    assert_eq!(
        counts.iter().map(|(operation, _)| operation).collect::<Vec<_>>(),
        baseline.iter().map(|(operation, _)| operation).collect::<Vec<_>>(),
    );
    // On another processor libsodium runs other code.
    if !needs::baseline(here == processor) {
        // It can still be checked that counts do not depend on keys.
        assert_eq!(parse(&count()).1, counts, "counts of one processor are the same each time");
        return;
    }
    for ((operation, count), (_, before)) in counts.iter().zip(&baseline) {
        assert!(
            *count <= before * (1.0 + GROWTH),
            "{operation}: {count} instructions, {before} before; if that is meant, run `make baseline`"
        );
    }
}
