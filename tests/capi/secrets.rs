//! Searches for the secrets of a C program from outside: in its memory at each step, and in its
//! core dump.

use crate::support::c::{build, linked, repository, succeed, workshop};
use crate::support::memory::{Needle, counts, counts_in};
use libsodium_sys as sodium;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const PASSPHRASE: &[u8] = b"a passphrase that nobody guesses";

/// The program of `tests/c/secrets.c`, with known random bytes.
struct Program {
    child: Child,
    out: BufReader<ChildStdout>,
    draws: PathBuf,
}

impl Program {
    fn start(folder: &Path) -> Program {
        let program = build("gcc", "secrets", folder, &[], &[&linked(folder)]);
        let known = folder.join("known_random.so");
        let mut compiler = Command::new("gcc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&known);
        succeed(compiler.arg(repository().join("tests/support/known_random.c")));
        let (draws, passphrase) = (folder.join("draws"), folder.join("passphrase"));
        fs::write(&passphrase, PASSPHRASE).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c unlimited && LD_PRELOAD=$1 exec \"$2\" \"$3\" \"$4\"", "sh"]);
        command.args([&known, &program]).arg(folder).arg(&passphrase).current_dir(folder);
        command.env("KNOWN_RANDOM", &draws);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Program { child, out, draws }
    }

    /// Lets it continue to the step of this name.
    fn go_on(&mut self, step: &str) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self.waits(step);
    }

    fn waits(&mut self, step: &str) {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), step);
    }

    /// Returns each key that it has drawn: those of the clock's thread, which are minute keys, or
    /// the others.
    fn keys(&self, of_clock: bool) -> Vec<Needle> {
        let text = fs::read_to_string(&self.draws).unwrap();
        let draws = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let keys = draws.filter(|draw| draw[3] == "32" && draw[1].starts_with("curve_tun-m") == of_clock);
        keys.map(|draw| Needle::take(&mut drawn(draw[2].parse().unwrap()))).collect()
    }

    fn counts(&self, needles: &[&Needle]) -> Vec<usize> {
        counts(self.child.id(), needles)
    }

    #[track_caller]
    fn has_none(&self, needles: &[Needle], when: &str) {
        let hits = self.counts(&needles.iter().collect::<Vec<_>>());
        let found: Vec<_> = hits.iter().enumerate().filter(|(_, hits)| **hits > 0).collect();
        assert!(found.is_empty(), "{when}: {found:?} of {}", needles.len());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the 32 bytes that `tests/support/known_random.c` gives for a draw.
fn drawn(draw: u64) -> [u8; 32] {
    let mix = |word: u64| {
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    std::array::from_fn(|i| mix((draw << 32) + i as u64 / 8 + 1).to_le_bytes()[i % 8])
}

fn public(secret: &Needle) -> [u8; 32] {
    let mut public = [0; 32];
    // SAFETY: both are 32 bytes.
    secret.with(|secret| unsafe { sodium::crypto_scalarmult_base(public.as_mut_ptr(), secret.as_ptr()) });
    public
}

/// Returns what two key pairs agree on: the raw X25519 secret, the box key made of it, and the keys
/// of the messages of each side.
fn agreed(secret: &Needle, public: &[u8; 32]) -> [Needle; 4] {
    let (mut raw, mut key, mut messages) = ([0; 32], [0; 32], [[0; 32]; 2]);
    // SAFETY: all are 32 bytes, the prefixes 16.
    secret.with(|secret| unsafe {
        assert_eq!(sodium::crypto_scalarmult(raw.as_mut_ptr(), secret.as_ptr(), public.as_ptr()), 0);
        assert_eq!(sodium::crypto_box_beforenm(key.as_mut_ptr(), public.as_ptr(), secret.as_ptr()), 0);
        for (key_of_side, prefix) in messages.iter_mut().zip([b"CurveCP-client-M", b"CurveCP-server-M"]) {
            let no_constant = std::ptr::null();
            sodium::crypto_core_hsalsa20(
                key_of_side.as_mut_ptr(),
                prefix.as_ptr(),
                key.as_ptr(),
                no_constant,
            );
        }
    });
    let [mut client, mut server] = messages;
    [Needle::take(&mut raw), Needle::take(&mut key), Needle::take(&mut client), Needle::take(&mut server)]
}

/// Returns the program's secrets that must not be in memory while there is no connection: all that
/// it drew after the first five, and all keys that any two of them all agree on, except the key
/// that both vaults keep.
fn gone(program: &Program) -> Vec<Needle> {
    let keys = program.keys(false);
    let publics: Vec<_> = keys.iter().map(public).collect();
    let mut gone = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        for (j, public) in publics.iter().enumerate().skip(i + 1) {
            let [raw, shared, client, server] = agreed(key, public);
            let kept = (i, j) == (SERVER, CLIENT);
            gone.extend([raw, client, server]);
            gone.extend((!kept).then_some(shared));
        }
    }
    gone.extend(keys.into_iter().skip(AT_FIRST));
    gone
}

/// The first draws: each vault's long-term key and nonce key, then the minute key.
const AT_FIRST: usize = 5;
const SERVER: usize = 0;
const CLIENT: usize = 2;
const MINUTE: usize = 4;

#[test]
fn no_secret_of_a_c_program_is_in_memory_after_its_time() {
    let folder = workshop("secrets");
    let mut program = Program::start(&folder);
    program.waits("server");
    let first = program.keys(false);
    let first: Vec<_> = first.iter().collect();
    assert_eq!(program.counts(&first), [1; AT_FIRST], "a guarded copy of each, and no other");
    let kept = agreed(first[CLIENT], &public(first[SERVER]));

    program.go_on("connected");
    let keys = program.keys(false);
    let [client_short, server_short] = &keys[AT_FIRST..] else { panic!("two short-term keys") };
    let hello = agreed(client_short, &public(first[SERVER]));
    let ephemeral = agreed(client_short, &public(server_short));
    let (shared, messages) = ephemeral.split_at(2);
    let over = [client_short, server_short, &hello[0], &hello[1], &shared[0], &shared[1], &kept[0]];
    assert_eq!(program.counts(&over), [0; 7], "once connected");
    assert_eq!(program.counts(&[&messages[0], &messages[1]]), [2; 2], "in use at both ends");
    assert_eq!(program.counts(&[&kept[1]]), [2], "both vaults keep what they agreed");
    assert_eq!(program.counts(&first), [1; AT_FIRST]);

    for step in ["closed", "aborted", "errors", "sockets"] {
        program.go_on(step);
        program.has_none(&gone(&program), step);
        assert_eq!(program.counts(&first[..MINUTE]), [1; MINUTE], "{step}");
    }

    let before = program.keys(false).len();
    program.go_on("sealed vault open");
    let passphrase = Needle::take(&mut PASSPHRASE.to_vec());
    let sealed_by = passphrase_key(&folder.join("sealed"));
    assert_eq!(program.counts(&[&passphrase, &sealed_by]), [0; 2], "while a sealed vault is open");
    let keys = program.keys(false);
    let [secret, nonce_key, refused @ ..] = &keys[before..] else { panic!("a new vault's keys") };
    assert_eq!(program.counts(&[secret, nonce_key]), [1; 2], "the open vault's");
    assert_eq!(program.counts(&refused.iter().collect::<Vec<_>>()), vec![0; refused.len()]);
    program.go_on("sealed vault freed");
    program.has_none(&gone(&program), "sealed vault freed");
    assert_eq!(program.counts(&[&passphrase, &sealed_by]), [0; 2], "sealed vault freed");

    program.go_on("minute");
    let end = Instant::now() + Duration::from_secs(600);
    // It is accepted for one more minute after its own, and there is no traffic.
    while program.counts(&first[MINUTE..]) != [0] {
        assert!(Instant::now() < end, "the minute key is still there");
        std::thread::sleep(Duration::from_millis(200));
    }
    let minutes = program.keys(true);
    assert!(!minutes.is_empty(), "the minute key was replaced");

    program.go_on("freed");
    program.has_none(&gone(&program), "freed");
    program.has_none(&program.keys(true), "freed: minute keys");
    let mut all = first.clone();
    all.push(&kept[1]);
    assert_eq!(program.counts(&all), vec![0; all.len()], "freed: vaults and what they kept");
}

/// Derives the key from the passphrase and the salt in the vault's file.
fn passphrase_key(vault: &Path) -> Needle {
    let file = fs::read(vault).unwrap();
    let mut key = [0; 32];
    // SAFETY: every pointer is valid for the length beside it; the salt has its 16 bytes at offset 40.
    let made = unsafe {
        sodium::crypto_pwhash(
            key.as_mut_ptr(),
            32,
            PASSPHRASE.as_ptr().cast(),
            PASSPHRASE.len() as u64,
            file[40..56].as_ptr(),
            1,
            1 << 20,
            sodium::crypto_pwhash_ALG_ARGON2ID13 as i32,
        )
    };
    assert_eq!(made, 0);
    Needle::take(&mut key)
}

#[test]
fn no_core_dump_has_a_long_term_or_minute_key() {
    let folder = workshop("core");
    let mut program = Program::start(&folder);
    program.waits("server");
    program.go_on("connected");
    let keys = program.keys(false);
    let [_, kept, ..] = agreed(&keys[CLIENT], &public(&keys[SERVER]));
    let [_, _, client, server] = agreed(&keys[AT_FIRST], &public(&keys[AT_FIRST + 1]));
    let guarded = [&keys[0], &keys[1], &keys[2], &keys[3], &keys[MINUTE], &kept];
    assert_eq!(program.counts(&guarded), [1, 1, 1, 1, 1, 2], "they are in memory");
    let core = core_of(&mut program, &folder);
    assert_eq!(counts_in(&core, &guarded), [0; 6], "guarded pages are left out");
    // A connection's keys are protected by their short life. Finding them here shows that the dump
    // includes the memory.
    assert_eq!(counts_in(&core, &[&client, &server]), [2; 2]);
}

/// Makes the kernel dump the program, which ends. Where the system passes dumps to a program of its
/// own, gdb makes one.
fn core_of(program: &mut Program, folder: &Path) -> Vec<u8> {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let (name, id) = (pattern.trim_end(), program.child.id());
    if name.contains(['|', '/']) {
        let mut gcore = Command::new("gcore");
        succeed(gcore.arg("-o").arg(folder.join("core")).arg(id.to_string()));
        return fs::read(folder.join(format!("core.{id}"))).unwrap();
    }
    let files = || fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let before: Vec<_> = files().collect();
    let pid = i32::try_from(id).unwrap();
    // SAFETY: kill takes no pointers, and the process is ours and not waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGABRT) }, 0);
    assert!(program.child.wait().unwrap().core_dumped(), "no core was dumped");
    fs::read(files().find(|file| !before.contains(file)).expect("a core in the folder")).unwrap()
}
