//! The picture: one row of bars for each thing that was spread.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

/// Draws rows of bars, one bar a queue.
pub(crate) fn draw(path: &Path, rows: &[(&str, Vec<u64>)]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (900, 220 * rows.len() as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for ((title, counts), area) in rows.iter().zip(root.split_evenly((rows.len(), 1))) {
        let top = counts.iter().max().copied().unwrap_or(1).max(1) as f64 * 1.1;
        let even = counts.iter().sum::<u64>() as f64 / counts.len().max(1) as f64;
        let last = counts.len() as f64;
        let mut chart = ChartBuilder::on(&area)
            .caption(*title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(24)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..last, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .x_desc("queues; the line is an even spread")
            .draw()?;
        let bars = counts.iter().enumerate().map(|(queue, count)| {
            let left = queue as f64;
            Rectangle::new(
                [(left + 0.1, 0.0), (left + 0.9, *count as f64)],
                BLUE.mix(0.5).filled(),
            )
        });
        chart.draw_series(bars)?;
        chart.draw_series(LineSeries::new([(0.0, even), (last, even)], &RED))?;
    }
    root.present()?;
    Ok(())
}
