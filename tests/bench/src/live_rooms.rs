//! Rooms as players meet them: a change reaches everybody who follows, hundreds of servers are pinged, a long list loads and changes
//! while the game goes on, and a room is created.

mod changes;
mod creation;
mod followers;

use anyhow::Result;
use serde_json::Value;

use crate::Options;
use crate::bare_server::BareServer;
use crate::engine::{Figures, Project};
use crate::machine::Machine;
use crate::results::Report;

const BACKEND: &str = "backend";
const ADDON: &str = "addon";

/// Measures, tells, and says whether all goals are reached.
pub fn run(options: &Options) -> Result<bool> {
    let project = Project::with(&options.library)?;
    let mut report = Report::new("live_rooms", Machine::this()?);
    report.explain(
        "A frame's cost is the processor time of the main thread beyond that of an idle frame. `warm` is a room on a spare server, \
         `cold` one whose server is started; its server is a shell script that registers.",
    );
    for round in 1..=options.rounds {
        test_harness::print_line!("round {round} of {}", options.rounds);
        followers::measure(&mut report, options.quick)?;
        pings(&project, &mut report, options.quick)?;
        changes::measure(&project, &mut report, options.quick)?;
        creation::measure(&mut report, options.quick)?;
    }
    let rounds = |report: &Report, scenario: &str, measure: &str, way: &str| {
        report.rounds(scenario, measure, way).to_vec()
    };
    for (what, scenario, measure, way, goal) in [
        ("a change reaches all followers (ms, p99)", "followers", "p99_ms", BACKEND, 500.0),
        ("all servers pinged (s)", "pings", "seconds", ADDON, 2.0),
        ("longest frame while pinging (us)", "pings", "longest_frame_us", ADDON, 200.0),
        ("longest frame while a list loads (us)", "list", "longest_frame_loading_us", ADDON, 1_000.0),
        ("longest frame while it is followed (us)", "list", "longest_frame_followed_us", ADDON, 1_000.0),
        ("warm: beyond a round trip (ms)", "creation", "warm_beyond_round_trip_ms", BACKEND, 17.0),
        ("cold: beyond the server's own start (ms)", "creation", "cold_beyond_start_ms", BACKEND, 500.0),
    ] {
        report.judge(what, rounds(&report, scenario, measure, way), true, goal);
    }
    report.publish(&options.folder)?;
    Ok(options.quick || report.is_met())
}

/// Servers that answer, pinged by a game at once.
fn pings(project: &Project, report: &mut Report, quick: bool) -> Result<()> {
    let server = BareServer::start()?;
    let size = if quick { 20 } else { 500 };
    let found = project.run_scene("pings", server.url(), &[format!("--size={size}")])?;
    take(report, "pings", &found);
    Ok(())
}

fn take(report: &mut Report, scenario: &str, found: &[Figures]) {
    for (measure, value) in found.iter().flatten() {
        if let (true, Some(value)) = (measure != "failed", Value::as_f64(value)) {
            report.add(scenario, measure, ADDON, value);
        }
    }
}
