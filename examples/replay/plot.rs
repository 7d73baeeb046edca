//! The picture: hit rate and cost over the capture.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use plotters::prelude::*;

/// A stretch of the capture.
#[derive(Clone, Copy, Default)]
pub(crate) struct Window {
    packets: u32,
    hits: u32,
    cached: Duration,
    uncached: Duration,
}

impl Window {
    /// Stretches of a capture.
    pub(crate) const COUNT: usize = 100;

    pub(crate) fn add(&mut self, hit: bool, cached: Duration, uncached: Duration) {
        self.packets += 1;
        self.hits += u32::from(hit);
        self.cached += cached;
        self.uncached += uncached;
    }

    fn hit_rate(&self) -> f64 {
        100.0 * f64::from(self.hits) / f64::from(self.packets.max(1))
    }

    fn cost(&self, total: Duration) -> f64 {
        total.as_nanos() as f64 / f64::from(self.packets.max(1))
    }
}

/// Draws the stretches: hit rate above, cost below on a logarithmic scale.
pub(crate) fn draw(path: &Path, windows: &[Window]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (900, 600)).into_drawing_area();
    root.fill(&WHITE)?;
    let (upper, lower) = root.split_vertically(290);
    let last = windows.len() as f64;
    let points = |value: &dyn Fn(&Window) -> f64| -> Vec<(f64, f64)> {
        windows
            .iter()
            .enumerate()
            .map(|(at, window)| (at as f64, value(window)))
            .collect()
    };

    let mut chart = ChartBuilder::on(&upper)
        .caption("hits, per cent of packets", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(24)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..last, 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_desc("hundredths of the capture")
        .draw()?;
    chart.draw_series(
        AreaSeries::new(points(&Window::hit_rate), 0.0, BLUE.mix(0.2)).border_style(BLUE),
    )?;

    let cached = points(&|window| window.cost(window.cached).max(1.0));
    let uncached = points(&|window| window.cost(window.uncached).max(1.0));
    let top = cached
        .iter()
        .chain(&uncached)
        .fold(10.0_f64, |top, (_, cost)| top.max(*cost))
        * 1.5;
    let mut chart = ChartBuilder::on(&lower)
        .caption(
            "cost of a packet, ns: cached (blue), uncached (red)",
            ("sans-serif", 18),
        )
        .margin(12)
        .x_label_area_size(24)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..last, (10.0..top).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("hundredths of the capture")
        .draw()?;
    chart.draw_series(LineSeries::new(cached, &BLUE))?;
    chart.draw_series(LineSeries::new(uncached, &RED))?;
    root.present()?;
    Ok(())
}
