//! The commands of docs/VAULTS.md, "In a container", exactly as written, with secrets mounted
//! read-only.

use curve_tun::vault::{FileVault, Vault};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const TOOL: &str = env!("CARGO_BIN_EXE_curve-tun");

/// Returns the block of the document: the setup commands, and the commands of each start, numbered.
fn steps() -> (String, Vec<String>) {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/VAULTS.md")).unwrap();
    let block = document.split_once("```sh containers\n").unwrap().1.split_once("```").unwrap().0;
    let (once, starts) = block.split_once("# At each start").unwrap();
    let starts: Vec<_> =
        starts.lines().filter_map(|line| line.strip_prefix(": ")).map(|line| line[3..].to_owned()).collect();
    assert_eq!(starts.len(), 3);
    (once.to_owned(), starts)
}

fn shell(folder: &Path, script: &str) -> Output {
    let path = format!("{}:{}", Path::new(TOOL).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).current_dir(folder).env("PATH", path);
    shell.output().unwrap()
}

fn printed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Runs it in a separate mount namespace, in which the secrets are read-only.
fn contained(folder: &Path, script: &str) -> Output {
    let user = if nix::unistd::geteuid().is_root() { "" } else { "--user --map-root-user" };
    fs::write(folder.join("start"), script).unwrap();
    let mounts = "mount --bind secrets secrets; mount -o remount,bind,ro secrets
        ! touch secrets/new 2>/dev/null || exit 99
        exec sh -eu start";
    fs::write(folder.join("mounts"), mounts).unwrap();
    shell(folder, &format!("exec unshare --mount {user} sh -eu mounts"))
}

#[test]
fn the_documented_ways_work_at_each_start() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ["secrets", "run", "volume"].iter().for_each(|name| fs::create_dir(folder.join(name)).unwrap());
    let (once, [by_key, by_file, by_passphrase]) = {
        let (once, starts) = steps();
        (once, <[String; 3]>::try_from(starts).unwrap())
    };
    printed(&shell(folder, &once));
    let public = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    // Starts an agent, asks it once it is ready, and ends it.
    let agent = |start: &str| {
        // What an agent said before must not pass for what this one says.
        let script = "rm -f run/said; {start} >run/said & trap 'kill $!; wait $!' EXIT
            until grep -q listening run/said; do kill -0 $!; sleep 0.1; done
            curve-tun public --agent run/agent.sock";
        let output = contained(folder, &script.replace("{start}", start));
        assert!(!folder.join("run/agent.sock").exists());
        output
    };
    for _ in 0..2 {
        assert_eq!(printed(&agent(&by_key)), public("key.public"));
        assert_eq!(printed(&agent(&by_passphrase)), public("vault.public"));
        assert_eq!(printed(&contained(folder, &by_file)), public("key.public"));
        let vault = FileVault::open(&folder.join("run/vault"), None).unwrap();
        assert_eq!(format!("{}\n", vault.public_key()), public("key.public"));
    }
}

#[test]
fn a_vault_that_is_mounted_read_only_is_refused_with_what_to_do_instead() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ["secrets", "run", "volume"].iter().for_each(|name| fs::create_dir(folder.join(name)).unwrap());
    printed(&shell(folder, "curve-tun keygen --vault secrets/vault; ln -s vault secrets/link"));
    for (name, words) in [("vault", "agent --secret FILE"), ("link", "symbolic link")] {
        let output =
            contained(folder, &format!("exec curve-tun agent --vault secrets/{name} --socket run/s"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{said}");
    }
}
