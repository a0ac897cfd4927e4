//! docs/PERFORMANCE.md: the table goes between two marks; the text around it is kept.

use super::programs::Extent;
use std::error::Error;
use std::fs;
use std::process::Command;
use std::time::Duration;

const PATH: &str = "docs/PERFORMANCE.md";
const BEGIN: &str = "<!-- made by `make bench`: begin -->\n";
const END: &str = "<!-- made by `make bench`: end -->\n";

/// A machine that is busier than this before the bench begins is doing other work, too.
const QUIET: f64 = 0.1;

/// Returns the share of the processors' time in use, over two seconds.
pub fn busy_share() -> Option<f64> {
    let before = processor_times()?;
    std::thread::sleep(Duration::from_secs(2));
    let (idle, all) = processor_times()?;
    Some(1.0 - (idle - before.0) / (all - before.1))
}

/// Returns the time that the processors were idle or waited for disks, and their total time
/// (/proc/stat).
fn processor_times() -> Option<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let times: Vec<f64> =
        stat.lines().next()?.split_whitespace().filter_map(|time| time.parse().ok()).collect();
    Some((times.get(3)? + times.get(4)?, times.iter().take(8).sum()))
}

pub fn write(table: &str, extent: &Extent, busy: Option<f64>) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(PATH)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("no place for the table in docs/PERFORMANCE.md")?;
    let (_, after) = rest.split_once(END).ok_or("no end of the table in docs/PERFORMANCE.md")?;
    let made = format!("{}\n{table}", circumstances(extent, busy));
    fs::write(PATH, format!("{before}{BEGIN}\n{made}\n{END}{after}"))?;
    Ok(())
}

/// Describes machine, versions and command.
fn circumstances(extent: &Extent, busy: Option<f64>) -> String {
    let Extent { runs, seconds, echoes, setups } = extent;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let versions = [("rustc", "--version"), ("cc", "--version"), ("openssl", "version")]
        .map(|(program, argument)| first_line(program, &[argument]));
    let packages = ["libsodium", "libzmq"].map(|name| format!("{name} {}", package(name)));
    let otp =
        first_line("erl", &["-noinput", "-eval", "io:put_chars(erlang:system_info(otp_release)), halt()."]);
    let busy = match busy {
        Some(busy) if busy > QUIET => format!(
            "{:.0} % busy before it: **it did other work meanwhile, and these figures are to be taken again**",
            100.0 * busy
        ),
        Some(_) => "idle before it".to_owned(),
        None => "how busy it was before is not known".to_owned(),
    };
    [
        format!("- Machine: {}, {cores} cores, {}", processor(), first_line("uname", &["-sr"])),
        format!("- Versions: curve_tun {}, {}, {}, Erlang/OTP {otp}", env!("CARGO_PKG_VERSION"), versions.join(", "), packages.join(", ")),
        format!("- Command: `make bench RUNS={runs} STREAM_SECONDS={seconds} ECHOES={echoes} SETUPS={setups}`; the machine: {busy}"),
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
