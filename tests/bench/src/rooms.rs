//! A long list of rooms in the game: what it takes of the main thread until it is there, until its first rows are shown,
//! and until it is ordered and filtered.

use anyhow::Result;

use crate::Options;
use crate::bare_server::BareServer;
use crate::engine::{Figures, Project};
use crate::machine::Machine;
use crate::results::{Report, ratios};

const SIZES: [usize; 3] = [50, 1_000, 10_000];
const LARGEST: &str = "rooms 10000";
const ADDON: &str = "addon";
const REQUEST: &str = "HTTPRequest";

/// Measures, tells, and says whether all goals are reached.
pub fn run(options: &Options) -> Result<bool> {
    let project = Project::with(&options.library)?;
    let server = BareServer::start()?;
    let mut report = Report::new("rooms", Machine::this()?);
    for round in 1..=options.rounds {
        test_harness::print_line!("round {round} of {}", options.rounds);
        for size in SIZES {
            for way in [ADDON, REQUEST] {
                let lists = if options.quick { 1 } else { 4 };
                let arguments = [
                    format!("--way={way}"),
                    format!("--url={}", server.url()),
                    format!("--size={size}"),
                    format!("--lists={lists}"),
                ];
                let found = project.run_scene("rooms", server.url(), &arguments)?;
                take(&mut report, &format!("rooms {size}"), way, &found);
            }
        }
    }
    judge(&mut report);
    report.publish(&options.folder)?;
    plots(&report, options)?;
    Ok(options.quick || report.is_met())
}

fn take(report: &mut Report, scenario: &str, way: &str, found: &[Figures]) {
    for (measure, value) in found.iter().flatten() {
        if let (true, Some(value)) = (measure != "failed", value.as_f64()) {
            report.add(scenario, measure, way, value);
        }
    }
}

fn judge(report: &mut Report) {
    let of = |report: &Report, measure: &str, way: &str| report.rounds(LARGEST, measure, way).to_vec();
    // One of many that are ordered, filtered and handed over at once: a single one is too quick for the clock.
    let hand_over = of(report, "order_and_filter_us", ADDON);
    let parsing = of(report, "parse_us", REQUEST);
    report.judge("10,000 rooms ordered, filtered and handed over (us)", hand_over.clone(), true, 100.0);
    report.judge("first 50 rows more (us)", of(report, "first_50_rows_us", ADDON), true, 300.0);
    report.judge("times less than JSON.parse_string", ratios(&parsing, &hand_over), false, 200.0);
}

fn plots(report: &Report, options: &Options) -> Result<()> {
    for (file, measure, title) in [
        (
            "whole",
            "main_thread_us",
            "From the call to the list in the game: main thread in µs, by number of rooms",
        ),
        (
            "order",
            "order_and_filter_us",
            "A list ordered and filtered: main thread in µs, by number of rooms",
        ),
    ] {
        report.lines(&options.folder, file, "rooms", measure, title, ("rooms", "µs"))?;
    }
    Ok(())
}
