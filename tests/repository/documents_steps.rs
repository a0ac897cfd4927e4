//! The scripts that run the blocks of the documents: no block is silently skipped, and a step that
//! fails or prints something else is detected.
//!
//! scripts/check-operations and scripts/check-readme check that the documents' own blocks pass.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A document taken apart.
struct Apart {
    folder: TempDir,
    said: Output,
}

fn apart(text: &str) -> Apart {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("document.md");
    fs::write(&document, text).unwrap();
    fs::create_dir(folder.path().join("steps")).unwrap();
    let mut blocks = Command::new("scripts/blocks");
    let said = blocks.current_dir(ROOT).arg(&document).arg(folder.path().join("steps")).output().unwrap();
    Apart { folder, said }
}

impl Apart {
    fn steps(&self) -> std::path::PathBuf {
        self.folder.path().join("steps")
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.steps()).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.steps().join(name)).unwrap()
    }

    fn run(&self) -> Output {
        assert!(self.said.status.success(), "{:?}", self.said);
        let script = Path::new(ROOT).join("scripts/run-steps");
        Command::new(script).arg(self.steps()).current_dir(self.folder.path()).output().unwrap()
    }
}

#[test]
fn each_block_goes_where_its_mark_says() {
    let apart = apart(
        "`/etc/unit.service`\n```sh\necho one\n```\nIt says:\n```output\none\n```\n\
         ```ini /etc/unit.service\n[Unit]\n```\n\
         ```sh by_test\nno\n```\n```sh byname\necho by name\n```\n```abnf not run: a grammar\na = b\n```\n",
    );
    assert!(!apart.said.status.success(), "a name has letters alone");
    let good = apart.folder.path().join("document.md");
    let text = fs::read_to_string(good).unwrap().replace("```sh by_test\nno\n```\n", "");
    let apart = self::apart(&text);
    assert!(apart.said.status.success(), "{:?}", apart.said);
    let names = ["0003.output", "0003.sh", "0010.file", "0010.path", "byname.named", "named"];
    assert_eq!(apart.names(), names);
    assert_eq!(apart.read("0003.sh"), "echo one\n");
    assert_eq!(apart.read("0003.output"), "one\n");
    assert_eq!(apart.read("0010.path"), "/etc/unit.service\n");
    assert_eq!(apart.read("named"), "13 byname\n");
    assert_eq!(apart.read("byname.named"), "echo by name\n");
}

#[test]
fn a_block_that_nothing_runs_is_an_error_at_its_line() {
    for (block, words) in [
        ("```\nrm\n```\n", "what is to become"),
        ("```bash\nrm\n```\n", "what is to become"),
        ("```SH\nrm\n```\n", "what is to become"),
        ("```sh not run:\nrm\n```\n", "what is to become"),
        ("  ```sh\n  rm\n  ```\n", "what is to become"),
        ("~~~sh\nrm\n~~~\n", "what is to become"),
        ("\n    rm\n", "indented"),
        ("\n\trm\n", "indented"),
        ("```sh\nrm\n", "without an end"),
        ("```output\nx\n```\n", "of nothing"),
        ("`a.file`\n```sh\ntrue\n```\n```text a.file\nx\n```\n```output\nx\n```\n", "of nothing"),
        ("a.file\n```text a.file\nx\n```\n", "where it goes"),
    ] {
        let apart = apart(&format!("text\n{block}"));
        let said = String::from_utf8_lossy(&apart.said.stderr).into_owned();
        assert!(!apart.said.status.success(), "{block}");
        assert!(said.contains("document.md:") && said.contains(words), "{block}: {said}");
    }
}

#[test]
fn a_step_passes_that_does_and_says_what_the_document_says() {
    let apart = apart(
        "`a/file`\n```text a/file\nsaved\n```\n```sh\ncat a/file\necho '[x] *' >&2\necho key=abc=\n```\n\
         ```output\nsaved\n[x] *\nkey=…=\n```\n```sh\n```\n",
    );
    let output = apart.run();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(apart.read("passed"), "3\n6\n16\n");
    assert!(apart.steps().join("all-passed").exists());
}

#[test]
fn a_step_that_fails_or_says_something_else_ends_them() {
    for step in [
        "```sh\nfalse\necho on\n```\n",
        "```sh\nfalse | cat\n```\n",
        "```sh\necho $unset\n```\n",
        "```sh\necho two\n```\n```output\none\n```\n",
        "```sh\necho one\necho two\n```\n```output\none\n```\n",
        "```sh\ntrue\n```\n```output\none\n```\n",
        "```sh\necho key=\n```\n```output\nkey=…\n```\n",
        "```sh\necho xx\n```\n```output\n[x]?\n```\n",
        "```text /proc/no/such\nx\n```\n",
    ] {
        let apart = apart(&format!("`/proc/no/such`\n```sh\ntrue\n```\n{step}```sh\ntouch after\n```\n"));
        let output = apart.run();
        assert!(!output.status.success(), "{step}");
        assert_eq!((&*apart.read("passed"), &*apart.read("step")), ("3\n", "6\n"), "{step}");
        assert!(!apart.steps().join("all-passed").exists());
        assert!(!apart.folder.path().join("after").exists());
    }
}
