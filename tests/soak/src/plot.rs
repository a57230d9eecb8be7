//! The sizes over time, as a line per rate.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::Outcome;

const SIZE: (u32, u32) = (760, 320);
const FONT: &str = "sans-serif";
const LINES: [RGBColor; 4] =
    [RGBColor(47, 125, 79), RGBColor(62, 99, 163), RGBColor(201, 117, 38), RGBColor(145, 74, 150)];

/// Draws an SVG file.
pub fn draw(path: &Path, outcomes: &[Outcome], max_bytes: u64) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", path.display());
    let minutes =
        outcomes.iter().filter_map(|outcome| outcome.points.last()).map(|point| point.0).fold(0.1, f64::max);
    let bound = max_bytes as f64 / (1024.0 * 1024.0);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Disk space of a journal under small saves, MiB", (FONT, 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..minutes, 0.0..bound * 1.1)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("minutes")
        .x_label_formatter(&|minutes| format!("{minutes:.0}"))
        .y_label_formatter(&|size| format!("{size:.0}"))
        .label_style((FONT, 12))
        .draw()
        .map_err(|error| failed(&error))?;
    let limit = LineSeries::new([(0.0, bound), (minutes, bound)], RGBColor(180, 58, 58).stroke_width(1));
    chart
        .draw_series(limit)
        .map_err(|error| failed(&error))?
        .label("bound")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], RGBColor(180, 58, 58)));
    for (outcome, color) in outcomes.iter().zip(LINES.into_iter().cycle()) {
        chart
            .draw_series(LineSeries::new(outcome.points.iter().copied(), color.stroke_width(2)))
            .map_err(|error| failed(&error))?
            .label(format!("{} saves/s", outcome.rate))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(221, 221, 221))
        .label_font((FONT, 12))
        .position(SeriesLabelPosition::LowerRight)
        .draw()
        .map_err(|error| failed(&error))?;
    root.present().map_err(|error| failed(&error))
}
