//! The picture: throughput against the size of messages.

use super::Figures;
use plotters::prelude::*;
use std::error::Error;

/// System, metric, name and colour of each line: the fastest way to send in one direction.
const LINES: [(&str, &str, &str, RGBColor); 8] = [
    ("curve_tun", "batched", "curve_tun", RGBColor(200, 30, 30)),
    ("tcp", "batched", "TCP", RGBColor(120, 120, 120)),
    ("libsodium", "batched", "libsodium over TCP", RGBColor(30, 90, 200)),
    ("tls", "batched", "OpenSSL TLS 1.3", RGBColor(20, 140, 70)),
    ("zmq", "single", "libzmq CURVE", RGBColor(220, 130, 20)),
    ("spiped", "batched", "spiped", RGBColor(0, 150, 160)),
    ("gen_tcp", "single", "Erlang gen_tcp", RGBColor(150, 80, 170)),
    ("ssl", "single", "Erlang ssl", RGBColor(90, 60, 40)),
];

/// Megabytes of messages per second at each size.
fn points(figures: &Figures, system: &str, metric: &str) -> Vec<(f64, f64)> {
    let at = |size: usize| {
        let rate = figures.median(system, metric, size)?;
        Some((size as f64, rate * size as f64 / 1e6))
    };
    figures.sizes(&[system], metric).into_iter().filter_map(at).collect()
}

pub fn write(figures: &Figures, path: &str) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (900, 560)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("One connection over loopback, one way", ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(46)
        .y_label_area_size(64)
        .build_cartesian_2d((50f64..80_000f64).log_scale(), (1f64..10_000f64).log_scale())?;
    let label = |value: &f64| format!("{value:.0}");
    chart
        .configure_mesh()
        .x_desc("bytes in a message")
        .y_desc("megabytes of messages per second")
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .label_style(("sans-serif", 14))
        .light_line_style(RGBColor(238, 238, 238))
        .draw()?;
    for (system, metric, name, color) in LINES {
        let points = points(figures, system, metric);
        if points.is_empty() {
            continue;
        }
        let width = if system == "curve_tun" { 3 } else { 2 };
        let style = color.stroke_width(width);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(RGBColor(200, 200, 200))
        .label_font(("sans-serif", 14))
        .draw()?;
    root.present()?;
    Ok(())
}
