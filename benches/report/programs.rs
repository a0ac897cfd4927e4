//! The programs, and how to run them.

use super::Figures;
use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, str::FromStr};

/// Where `benches/Makefile` puts its programs.
const BUILD: &str = "build/bench";
const CERTIFICATES: &str = "build/bench/certificates";
/// The Erlang application, if it has been built.
const ERLANG: &str = "erlang/_build/default/lib/curve_tun/ebin";

/// How much is measured.
pub struct Extent {
    pub runs: usize,
    pub seconds: f64,
    pub echoes: usize,
    pub setups: usize,
}

impl Extent {
    pub fn from_environment() -> Result<Extent, Box<dyn Error>> {
        Ok(Extent {
            runs: number("RUNS", 5)?,
            seconds: number("STREAM_SECONDS", 0.4)?,
            echoes: number("ECHOES", 3000)?,
            setups: number("SETUPS", 1000)?,
        })
    }

    fn arguments(&self) -> [String; 3] {
        [self.seconds.to_string(), self.echoes.to_string(), self.setups.to_string()]
    }
}

fn number<T: FromStr>(name: &str, default: T) -> Result<T, Box<dyn Error>> {
    match env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name} is not a number: {text}").into()),
        Err(_) => Ok(default),
    }
}

/// Runs all of them, with the compared ones in turns.
pub fn run_all(extent: &Extent, figures: &mut Figures) -> Result<(), Box<dyn Error>> {
    run(Command::new("benches/reference/certificates.sh").arg(CERTIFICATES), figures)?;
    for run_number in 1..=extent.runs {
        eprintln!("run {run_number} of {}", extent.runs);
        for mut command in compared(extent)? {
            run(&mut command, figures)?;
        }
    }
    eprintln!("idle connections in Erlang");
    for mode in erlang_systems() {
        run(erlang().args(["idle", IDLE]).args(mode), figures)?;
    }
    // These take turns internally.
    eprintln!("the core");
    run(&mut bench("core")?, figures)?;
    run(bench("channel")?.arg("--rows"), figures)
}

/// How many pairs of idle connections an Erlang node holds.
const IDLE: &str = "1000";

fn erlang() -> Command {
    Command::new("benches/erlang.escript")
}

/// Returns the arguments of `erlang.escript` for the systems that are available.
fn erlang_systems() -> Vec<Vec<&'static str>> {
    let mut systems = vec![vec!["gen_tcp"], vec!["ssl", CERTIFICATES]];
    if Path::new(ERLANG).exists() {
        systems.push(vec!["curve_tun", ERLANG]);
    }
    systems
}

/// Returns another bench of this package, as last built; it is beside this one. Running cargo from
/// here would build it again, since build scripts see the variables that cargo sets for this
/// program.
fn bench(name: &str) -> Result<Command, Box<dyn Error>> {
    let folder = env::current_exe()?.parent().ok_or("no folder of benches")?.to_owned();
    let mut found = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        let file_name = entry.file_name().into_string().unwrap_or_default();
        let hash = file_name.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        if hash.is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    let (_, path) =
        found.into_iter().max().ok_or_else(|| format!("run `cargo bench --no-run --bench {name}`"))?;
    let mut command = Command::new(path);
    command.arg("--bench");
    Ok(command)
}

/// Returns the programs of one run, in order.
fn compared(extent: &Extent) -> Result<Vec<Command>, Box<dyn Error>> {
    let program = |name: &str| {
        let mut command = Command::new(format!("{BUILD}/{name}"));
        command.args(extent.arguments());
        command
    };
    let mut tls = program("tls");
    tls.arg(CERTIFICATES);
    let mut idle = Command::new(format!("{BUILD}/tunnel"));
    idle.args(["idle", &extent.setups.to_string(), "0", "1000", "9000"]);
    let alone = |name: &str, arguments: &[&str]| {
        let mut command = Command::new(format!("{BUILD}/{name}"));
        command.args(arguments).arg((extent.seconds / 4.0).to_string());
        command
    };
    let mut all = vec![
        alone("tunnel", &["seal"]),
        alone("sodium", &[]),
        program("tunnel"),
        program("plain"),
        program("box"),
        tls,
        program("zmq"),
        idle,
    ];
    if is_installed("spiped") {
        let mut spiped = program("plain");
        spiped.arg(BUILD);
        all.push(spiped);
    }
    for mode in erlang_systems() {
        let mut command = erlang();
        command.args(mode).args(extent.arguments());
        all.push(command);
    }
    all.push(bench("vaults")?);
    Ok(all)
}

fn is_installed(program: &str) -> bool {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(program).is_file())
}

/// Runs one program and reads its rows.
fn run(command: &mut Command, figures: &mut Figures) -> Result<(), Box<dyn Error>> {
    let name = format!("{command:?}");
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("{name}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}", output.status).into());
    }
    figures.read(&String::from_utf8(output.stdout)?)
}
