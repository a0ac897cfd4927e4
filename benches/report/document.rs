//! docs/PERFORMANCE.md: the table goes between two marks, the words around it stay as they are written there.

use super::programs::Extent;
use std::error::Error;
use std::fs;
use std::process::Command;

const PATH: &str = "docs/PERFORMANCE.md";
const BEGIN: &str = "<!-- made by `make bench`: begin -->\n";
const END: &str = "<!-- made by `make bench`: end -->\n";

pub fn write(table: &str, extent: &Extent) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(PATH)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("no place for the table in docs/PERFORMANCE.md")?;
    let (_, after) = rest.split_once(END).ok_or("no end of the table in docs/PERFORMANCE.md")?;
    let made = format!("{}\n{table}", circumstances(extent));
    fs::write(PATH, format!("{before}{BEGIN}\n{made}\n{END}{after}"))?;
    Ok(())
}

/// Machine, versions, command.
fn circumstances(extent: &Extent) -> String {
    let Extent { runs, seconds, echoes, setups } = extent;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let versions = [("rustc", "--version"), ("cc", "--version"), ("openssl", "version")]
        .map(|(program, argument)| first_line(program, &[argument]));
    let packages = ["libsodium", "libzmq"].map(|name| format!("{name} {}", package(name)));
    let otp =
        first_line("erl", &["-noinput", "-eval", "io:put_chars(erlang:system_info(otp_release)), halt()."]);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    [
        format!("- Machine: {}, {cores} cores, {}", processor(), first_line("uname", &["-sr"])),
        format!("- Versions: curve_tun {}, {}, {}, Erlang/OTP {otp}", env!("CARGO_PKG_VERSION"), versions.join(", "), packages.join(", ")),
        format!("- Command: `make bench RUNS={runs} STREAM_SECONDS={seconds} ECHOES={echoes} SETUPS={setups}`; load average at its end {load}"),
    ]
    .join("\n")
        + "\n"
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or(std::env::consts::ARCH, |(_, name)| name).to_owned()
}

fn package(name: &str) -> String {
    first_line("pkg-config", &["--modversion", name])
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}
