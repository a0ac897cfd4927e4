//! The server's memory and descriptors, from outside.

use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, fs};

pub struct Watch {
    process: u32,
    started: Instant,
}

pub struct Sample {
    minutes: f64,
    resident_kib: f64,
    descriptors: f64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sample { minutes, resident_kib, descriptors } = self;
        write!(
            f,
            "at rest after {minutes:.1} minutes: {resident_kib} KiB resident, {descriptors} descriptors"
        )
    }
}

impl Watch {
    pub fn new(process: u32) -> Watch {
        Watch { process, started: Instant::now() }
    }

    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process)).expect("the server runs").count()
    }

    fn resident_kib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process)).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub fn sample(&self) -> Sample {
        Sample {
            minutes: self.started.elapsed().as_secs_f64() / 60.0,
            resident_kib: self.resident_kib(),
            descriptors: self.descriptors() as f64,
        }
    }

    /// Waits a while until no more than `before` are open; returns how many there are.
    pub fn wait_for_descriptors(&self, before: usize) -> usize {
        let end = Instant::now() + Duration::from_secs(30);
        while self.descriptors() > before && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
        }
        self.descriptors()
    }
}

/// Returns the mean of some values, and their rise per minute (least squares).
fn mean_and_slope(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> (f64, f64) {
    let n = samples.len() as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(&|s| s.minutes), mean(&value));
    let covariance = mean(&|s| (s.minutes - x) * (value(s) - y));
    let variance = mean(&|s| (s.minutes - x).powi(2));
    (y, covariance / variance)
}

/// Prints how memory and descriptors at rest developed after the first fifth of the time. Returns
/// whether they are flat: in all that time they rise by less than a twentieth.
pub fn report(samples: &[Sample]) -> bool {
    let rest = &samples[samples.len() / 5..];
    let minutes = rest[rest.len() - 1].minutes - rest[0].minutes;
    let flat = |name: &str, value: &dyn Fn(&Sample) -> f64| {
        let (mean, slope) = mean_and_slope(rest, value);
        println!("{name}: {mean:.0} on average, slope {slope:+.1} a minute over {minutes:.1} minutes");
        slope * minutes < mean / 20.0
    };
    let memory = flat("resident KiB", &|s| s.resident_kib);
    flat("descriptors", &|s| s.descriptors) && memory
}
