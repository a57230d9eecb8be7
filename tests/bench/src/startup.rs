//! How much longer a game takes to its first frame with the addon: in the project, and with all of its nodes in the first
//! scene.

use std::time::Instant;

use anyhow::{Context as _, Result};
use test_harness::process::Process;

use crate::Options;
use crate::engine::{self, Project};
use crate::machine::Machine;
use crate::results::{Report, median};

const WITHOUT: &str = "without the addon";
const ADDON: &str = "addon";
const NODES: &str = "addon, every node";
/// Starts of each contestant in a round.
const STARTS: usize = 10;
const SCENARIO: &str = "start";
const WALL: &str = "first_frame_ms";
const PROCESSOR: &str = "main_thread_ms";

/// One start.
struct Start {
    first_frame: f64,
    main_thread: f64,
    end: f64,
}

/// Measures, tells, and says whether all goals are reached.
pub fn run(options: &Options) -> Result<bool> {
    let starts = if options.quick { 1 } else { STARTS };
    let (with, without) = (Project::with(&options.library)?, Project::without()?);
    let contestants = [(WITHOUT, &without, "none"), (ADDON, &with, "none"), (NODES, &with, "every")];
    let mut report = Report::new("startup", Machine::this()?);
    for round in 1..=options.rounds {
        test_harness::print_line!("round {round} of {}", options.rounds);
        let mut seen: [Vec<Start>; 3] = Default::default();
        for turn in 0..starts {
            // Nobody always comes after the same one.
            for place in 0..contestants.len() {
                let index = (place + turn) % contestants.len();
                let (way, project, nodes) = contestants[index];
                seen[index].push(start(project, nodes).with_context(|| way.to_owned())?);
            }
        }
        for ((way, ..), starts) in contestants.iter().zip(&seen) {
            let of = |figure: fn(&Start) -> f64| median(&starts.iter().map(figure).collect::<Vec<_>>());
            report.add(SCENARIO, WALL, way, of(|start| start.first_frame));
            report.add(SCENARIO, PROCESSOR, way, of(|start| start.main_thread));
            report.add(SCENARIO, "whole_run_ms", way, of(|start| start.end));
        }
    }
    for way in [ADDON, NODES] {
        let added = |measure| {
            let pairs =
                report.rounds(SCENARIO, measure, way).iter().zip(report.rounds(SCENARIO, measure, WITHOUT));
            pairs.map(|(with, without)| with - without).collect()
        };
        let (wall, processor) = (added(WALL), added(PROCESSOR));
        report.judge(&format!("{way}: added to the first frame (ms)"), wall, true, 30.0);
        report.judge(&format!("{way}: added, processor time of the main thread (ms)"), processor, true, 30.0);
    }
    report.plot(
        &options.folder,
        "first-frame",
        SCENARIO,
        WALL,
        "From the process's start to its first frame, ms",
    )?;
    report.publish(&options.folder)?;
    Ok(options.quick || report.is_met())
}

fn start(project: &Project, nodes: &str) -> Result<Start> {
    let command = project.scene("res://idle.tscn", &[format!("--nodes={nodes}")])?;
    let begun = Instant::now();
    let ms = || begun.elapsed().as_secs_f64() * 1e3;
    let mut process = Process::start(nodes, command)?;
    process.log().wait_for("FIRST FRAME")?;
    let first_frame = ms();
    process.wait_for_exit(0)?;
    let end = ms();
    process.log().check_clean(&[])?;
    let figures = engine::figures_of(process.log())?;
    let main_thread = figures.first().and_then(|figures| figures.get("start_main_thread_ms"));
    let main_thread = main_thread.and_then(serde_json::Value::as_f64).context("it told no figures")?;
    Ok(Start { first_frame, main_thread, end })
}
