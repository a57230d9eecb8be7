//! What the addon costs a game that does nothing with it, and a server that only waits for players.

use anyhow::{Context as _, Result};
use serde_json::Value;
use test_harness::backend::Backend;
use test_harness::process::Process;

use crate::Options;
use crate::engine::{self, Project};
use crate::machine::Machine;
use crate::results::Report;

const WITHOUT: &str = "without the addon";
const ADDON: &str = "addon";
const NODES: &str = "addon, every node";
const SERVER: &str = "addon, registered server";
const FRAMES: &str = "a frame, unlimited";
const SECONDS: &str = "60 Hz";
/// Measure of [`FRAMES`].
const COST: &str = "main_thread_us";

/// Measures, tells, and says whether all goals are reached.
pub fn run(options: &Options) -> Result<bool> {
    let (frames, seconds) = if options.quick { (500, 1) } else { (100_000, 5) };
    let (with, without) = (Project::with(&options.library)?, Project::without()?);
    let backend = Backend::start()?;
    let mut report = Report::new("idle", Machine::this()?);
    for round in 1..=options.rounds {
        test_harness::print_line!("round {round} of {}", options.rounds);
        for (way, project, nodes) in [
            (WITHOUT, &without, "none"),
            (ADDON, &with, "none"),
            (NODES, &with, "every"),
            (SERVER, &with, "server"),
        ] {
            let arguments =
                [format!("--nodes={nodes}"), format!("--frames={frames}"), format!("--seconds={seconds}")];
            let mut command = project.scene("res://idle.tscn", &arguments)?;
            command.env("BACKEND_URL", backend.url());
            command.env("BACKEND_SERVER_KEY_FILE", backend.server_key_file());
            let mut process = Process::start(nodes, command)?;
            process.wait_for_exit(0).with_context(|| way.to_owned())?;
            process.log().check_clean(&[])?;
            let figures = engine::figures_of(process.log())?.pop().context("it told no figures")?;
            let figure =
                |name: &str| figures.get(name).and_then(Value::as_f64).context("a figure is missing");
            report.add(FRAMES, COST, way, figure("frame_us")?);
            report.add(SECONDS, "processor_percent", way, figure("processor_percent")?);
            report.add(SECONDS, "resident_mib", way, figure("resident_mib")?);
        }
    }
    for way in [ADDON, NODES, SERVER] {
        let pairs = report.rounds(FRAMES, COST, way).iter().zip(report.rounds(FRAMES, COST, WITHOUT));
        let added = pairs.map(|(with, without)| with - without).collect();
        report.judge(&format!("{way}: added to a frame, main thread (us)"), added, true, 2.0);
    }
    let each_frame = "Main thread per frame of an idle game, µs";
    report.plot(&options.folder, "frame", FRAMES, COST, each_frame)?;
    let resident = "Resident memory of an idle process, MiB";
    report.plot(&options.folder, "resident", SECONDS, "resident_mib", resident)?;
    report.publish(&options.folder)?;
    Ok(options.quick || report.is_met())
}
