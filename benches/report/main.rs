//! `make bench`: runs every benchmark program, those of curve_tun and the references, in turns;
//! prints one table of medians; writes it to docs/PERFORMANCE.md, and a chart of throughput to
//! docs/throughput.svg.
//!
//! The programs print rows `SYSTEM,METRIC,SIZE,VALUE,UNIT`. Environment: RUNS (5) of each, STREAM_SECONDS (0.4) of each
//! stream, ECHOES (3000), SETUPS (1000).

mod document;
mod goals;
mod picture;
mod programs;
mod table;

use std::collections::BTreeMap;
use std::error::Error;

/// The key of a measurement: system, metric, size.
type What = (String, String, usize);

/// All values of each measurement, in the order of the runs.
#[derive(Default)]
pub struct Figures(BTreeMap<What, Vec<f64>>);

impl Figures {
    /// Reads the rows that a program printed.
    fn read(&mut self, rows: &str) -> Result<(), Box<dyn Error>> {
        for row in rows.lines() {
            let [system, metric, size, value, _unit] = row.split(',').collect::<Vec<_>>()[..] else {
                return Err(format!("not a row: {row}").into());
            };
            let what = (system.to_owned(), metric.to_owned(), size.parse()?);
            self.0.entry(what).or_default().push(value.parse()?);
        }
        Ok(())
    }

    /// Returns the median of a measurement.
    pub fn median(&self, system: &str, metric: &str, size: usize) -> Option<f64> {
        let mut values = self.0.get(&(system.to_owned(), metric.to_owned(), size))?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// Adds the throughput of one connection in one direction, in megabytes per second, and under
    /// size 0 that of sealing alone.
    fn add_stream(&mut self) {
        const SIZE: usize = 65503;
        let rates = ["single", "batched"].map(|metric| self.median("curve_tun", metric, SIZE));
        let best = rates.into_iter().flatten().reduce(f64::max);
        let (Some(best), Some(seal)) = (best, self.median("curve_tun", "seal", SIZE)) else { return };
        for (size, rate) in [(0, 1e9 / seal), (SIZE, best)] {
            let what = ("curve_tun".to_owned(), "stream".to_owned(), size);
            self.0.insert(what, vec![rate * SIZE as f64 / 1e6]);
        }
    }

    /// Adds libzmq's single sends to the queued ones, since it gathers messages by itself.
    fn add_queued(&mut self) {
        let of_zmq = |((system, metric, size), values): (&What, &Vec<f64>)| {
            (system == "zmq" && metric == "single")
                .then(|| ((system.clone(), "queued".to_owned(), *size), values.clone()))
        };
        let queued: Vec<_> = self.0.iter().filter_map(of_zmq).collect();
        self.0.extend(queued);
    }

    /// Adds the core's memory for an idle connection, which the BEAM does not count, to the memory
    /// that the BEAM counts.
    fn add_native_memory(&mut self) {
        const METRIC: &str = "idle_connection";
        let Some(native) = self.median("curve_tun", METRIC, 0) else { return };
        let beam = self.0.entry(("curve_tun_erlang".to_owned(), METRIC.to_owned(), 0));
        beam.and_modify(|values| values.iter_mut().for_each(|value| *value += native));
    }

    /// Returns the sizes at which any of `systems` was measured.
    pub fn sizes(&self, systems: &[&str], metric: &str) -> Vec<usize> {
        let of = |what: &&What| systems.contains(&what.0.as_str()) && what.1 == metric;
        let mut sizes: Vec<usize> = self.0.keys().filter(of).map(|what| what.2).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    if !std::env::args().any(|arg| arg == "--bench") {
        // `cargo test` runs benches too; this one measures nothing itself.
        return Ok(());
    }
    let mut figures = Figures::default();
    let busy = document::busy_share();
    let extent = programs::Extent::from_environment()?;
    programs::run_all(&extent, &mut figures)?;
    figures.add_stream();
    figures.add_queued();
    figures.add_native_memory();
    let table = table::markdown(&figures);
    println!("{table}");
    document::write(&table, &extent, busy)?;
    picture::write(&figures, "docs/throughput.svg")?;
    Ok(())
}
