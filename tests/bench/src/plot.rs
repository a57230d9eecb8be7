//! Plots in SVG: a bar per contestant with the spread over the rounds, or a line per contestant as something grows.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{IntoSegmentedCoord as _, SegmentValue};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// One bar.
pub struct Bar {
    /// The contestant.
    pub label: String,
    /// The bar's length.
    pub median: f64,
    /// Where its spread begins.
    pub least: f64,
    /// Where its spread ends.
    pub most: f64,
}

/// One line.
pub struct Line {
    /// The contestant.
    pub label: String,
    /// Where it goes through.
    pub points: Vec<(f64, f64)>,
}

/// Title, and a line about the machine below it.
pub struct Heading<'a> {
    /// What is plotted, with its unit.
    pub title: &'a str,
    /// Where it was measured.
    pub machine: String,
}

const WIDTH: u32 = 760;
const ROW: u32 = 34;
const FONT: &str = "sans-serif";
const OURS: RGBColor = RGBColor(47, 125, 79);
const THEIRS: RGBColor = RGBColor(138, 164, 200);
const GRID: RGBColor = RGBColor(221, 221, 221);
const LINES: [RGBColor; 6] = [
    OURS,
    RGBColor(62, 99, 163),
    RGBColor(201, 117, 38),
    RGBColor(145, 74, 150),
    RGBColor(180, 58, 58),
    RGBColor(94, 94, 94),
];

/// Bars from the top on a logarithmic scale of whole decades.
pub fn bars(path: &Path, heading: &Heading<'_>, bars: &[Bar]) -> Result<()> {
    let height = 100 + ROW * bars.len() as u32;
    let values = bars.iter().flat_map(|bar| [bar.least, bar.most]);
    let (low, high) = decades(values).ok_or_else(|| anyhow!("nothing to plot: {}", heading.title))?;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    let area = headed(&root, heading)?;
    let labels: Vec<String> = bars.iter().rev().map(|bar| bar.label.clone()).collect();
    let mut chart = ChartBuilder::on(&area)
        .margin_right(70)
        .x_label_area_size(26)
        .y_label_area_size(170)
        .build_cartesian_2d((low..high).log_scale(), (0..bars.len() - 1).into_segmented())
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|place| match place {
            SegmentValue::CenterOf(index) => labels.get(*index).cloned().unwrap_or_default(),
            SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
        })
        .y_labels(bars.len() + 1)
        .label_style((FONT, 13))
        .draw()
        .map_err(drawing)?;
    let text = TextStyle::from((FONT, 13).into_font()).pos(Pos::new(HPos::Left, VPos::Center));
    for (index, bar) in bars.iter().rev().enumerate() {
        let colour = if bar.label.starts_with("addon") { OURS } else { THEIRS };
        let edges = [(low, SegmentValue::Exact(index)), (bar.median, SegmentValue::Exact(index + 1))];
        let mut body = Rectangle::new(edges, colour.filled());
        body.set_margin(5, 5, 0, 0);
        let at = |value: f64| (value, SegmentValue::CenterOf(index));
        let spread = PathElement::new([at(bar.least), at(bar.most)], BLACK.stroke_width(2));
        let end =
            EmptyElement::at(at(bar.most.max(bar.median))) + Text::new(number(bar.median), (6, 0), &text);
        chart.draw_series([body]).map_err(drawing)?;
        chart.draw_series([spread]).map_err(drawing)?;
        chart.draw_series([end]).map_err(drawing)?;
    }
    root.present().map_err(drawing)
}

/// Lines on logarithmic scales of whole decades; `axes` names what grows and what is measured.
pub fn lines(path: &Path, heading: &Heading<'_>, axes: (&str, &str), lines: &[Line]) -> Result<()> {
    let of =
        |number: fn(&(f64, f64)) -> f64| lines.iter().flat_map(move |line| line.points.iter().map(number));
    let nothing = || anyhow!("nothing to plot: {}", heading.title);
    let ((left, right), (low, high)) = (
        decades(of(|point| point.0)).ok_or_else(nothing)?,
        decades(of(|point| point.1)).ok_or_else(nothing)?,
    );
    let root = SVGBackend::new(path, (WIDTH, 420)).into_drawing_area();
    let area = headed(&root, heading)?;
    let mut chart = ChartBuilder::on(&area)
        .margin_right(20)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d((left..right).log_scale(), (low..high).log_scale())
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_desc(axes.0)
        .y_desc(axes.1)
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .label_style((FONT, 13))
        .draw()
        .map_err(drawing)?;
    for (line, colour) in lines.iter().zip(LINES.into_iter().cycle()) {
        let drawn = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)).point_size(3);
        chart
            .draw_series(drawn)
            .map_err(drawing)?
            .label(&line.label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font((FONT, 13))
        .background_style(WHITE.mix(0.8))
        .draw()
        .map_err(drawing)?;
    root.present().map_err(drawing)
}

/// What is left below the heading.
fn headed<'a>(
    root: &DrawingArea<SVGBackend<'a>, Shift>,
    heading: &Heading<'_>,
) -> Result<DrawingArea<SVGBackend<'a>, Shift>> {
    root.fill(&WHITE).map_err(drawing)?;
    let grey = RGBColor(102, 102, 102);
    root.draw(&Text::new(heading.title, (12, 8), (FONT, 17))).map_err(drawing)?;
    root.draw(&Text::new(heading.machine.as_str(), (12, 32), (FONT, 10).into_font().color(&grey)))
        .map_err(drawing)?;
    Ok(root.margin(52, 6, 6, 6))
}

/// The decades that hold all of `values`, none of which can be shown unless it is above zero.
fn decades(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values
        .filter(|value| value.is_finite() && *value > 0.0)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return None;
    }
    // The least bar has a length, too.
    let from = (low.log10() - 0.3).floor();
    Some((10_f64.powf(from), 10_f64.powf(high.log10().ceil().max(from + 1.0))))
}

fn number(value: f64) -> String {
    match value {
        value if value >= 1_000.0 => {
            let digits = format!("{value:.0}");
            let groups: Vec<&str> = digits
                .as_bytes()
                .rchunks(3)
                .rev()
                .filter_map(|group| std::str::from_utf8(group).ok())
                .collect();
            groups.join(",")
        }
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}").trim_end_matches(".0").to_owned(),
        value => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

/// The library's errors borrow from the drawing.
fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}
