//! SIGTERM to a headless Godot server: it is asked for its players' state, writes it to the journal, sends it to the backend,
//! lets the players go and ends. Everything that it was asked for has to be there afterwards.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::process::Signal;
use test_harness::WAIT_TIMEOUT;
use test_harness::process::Process;

use super::stage::Stage;
use crate::engine::{self, Project};
use crate::results::{Report, ratios};

/// How its scenarios begin.
pub const SCENARIO: &str = "SIGTERM";
const SERVER: &str = "Godot server";
const LOST: &str = "documents_lost";
/// What the scene says once all players are loaded.
const READY: &str = "READY";
/// Time between two looks whether the process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Ends one server.
pub fn measure(
    stage: &Stage,
    project: &Project,
    count: usize,
    round: usize,
    report: &mut Report,
) -> Result<()> {
    let number = (round * 1_000_000) as i64;
    let mut arguments = stage.arguments("sigterm", count)?;
    arguments.push(format!("--number={number}"));
    let mut command = project.scene("res://scenes/termination.tscn", &arguments)?;
    command.env("BACKEND_URL", stage.url());
    let mut process = Process::start("termination", command)?;
    process.log().wait_for(READY)?;
    let begin = Instant::now();
    process.signal(Signal::TERM)?;
    while process.is_running()? {
        if begin.elapsed() > WAIT_TIMEOUT {
            bail!("the server does not end\n{}", process.log().tail());
        }
        thread::sleep(POLL_INTERVAL);
    }
    let gone = begin.elapsed();
    process.wait_for_exit(0)?;
    process.log().check_clean(&[])?;
    // There is no game behind the port, and the folder is the benchmark's own.
    let expected = ["nothing listens on port", "was open to other users"];
    let is_expected = |line: &String| expected.iter().any(|words| line.contains(words));
    let warned = process.log().lines().iter().any(|line| line.contains("WARNING") && !is_expected(line));
    ensure!(!warned, "it did not end in good order\n{}", process.log().tail());
    let scenario = format!("{SCENARIO} {count}");
    let found = engine::figures_of(process.log())?;
    ensure!(found.len() == 1, "the server told nothing\n{}", process.log().tail());
    for (measure, value) in found.iter().flatten() {
        if let (true, Some(value)) = (measure != "failed", value.as_f64()) {
            report.add(&scenario, measure, SERVER, value);
        }
    }
    report.add(&scenario, "process_gone_ms", SERVER, gone.as_secs_f64() * 1e3);
    report.add(&scenario, LOST, SERVER, stage.missing(count, number)? as f64);
    Ok(())
}

/// Everything lost counts; how long it took is held against bare reqwest, which took `raw` in each round.
pub fn judge(report: &mut Report, sizes: &[(usize, Vec<f64>)]) {
    let mut lost = 0.0;
    for (size, raw) in sizes {
        let scenario = format!("{SCENARIO} {size}");
        lost += report.rounds(&scenario, LOST, SERVER).iter().sum::<f64>();
        for name in ["committed", "process_gone"] {
            let took = ratios(report.rounds(&scenario, &format!("{name}_ms"), SERVER), raw);
            for times in took {
                report.add(&scenario, &format!("{name}_times_raw_reqwest"), SERVER, times);
            }
        }
    }
    report.judge("SIGTERM to a Godot server: documents lost", vec![lost], true, 0.0);
}
