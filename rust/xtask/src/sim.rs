//! `cargo xtask sim`: the client's state machines over simulated time, network, disks and processes, one run per seed.
//! The runs are a test of the simulation crate; this builds it, says how many, and shows what came of it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::Running;
use crate::summary::Counts;
use crate::workspace;

/// The test that plays what the environment says.
const TEST: &str = "every_seed_keeps_the_promises_and_is_repeatable";
/// The tests that the failpoints are noticed.
const CONTROLS: [&str; 3] = [
    "an_early_acknowledgement_is_noticed",
    "a_repetition_under_a_fresh_number_is_noticed",
    "a_database_that_went_back_for_good_is_noticed",
];
/// Seeds of one run of all tests.
const STAGE_SEEDS: u64 = 6_000;
/// Bounds for a build and for a run that hang.
const BUILD: Duration = Duration::from_mins(40);
const PER_SEED: Duration = Duration::from_millis(200);

/// Options of `cargo xtask sim`.
#[derive(Args)]
pub struct Options {
    /// How many seeds
    #[arg(long, default_value_t = STAGE_SEEDS)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Seeds at a time; the number of cores if not given
    #[arg(long)]
    jobs: Option<u64>,
    /// Prints everything that happens; for one seed
    #[arg(long)]
    trace: bool,
    /// Without optimisation: builds quickly, runs slowly
    #[arg(long)]
    debug: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut build: Vec<&str> = vec!["--package", "backend-simulation"];
    if !options.debug {
        build.extend(["--profile", "measured"]);
    }
    Ok(if play(options, &build, &[])?.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The stage of `cargo xtask test`: with the programs that the Rust tests have built, for their dependencies take longer to
/// build than the seeds to play.
pub fn stage() -> Result<Counts> {
    let options = Options { seeds: STAGE_SEEDS, seed: 0, jobs: None, trace: false, debug: true };
    play(&options, &workspace::without_processes(), &CONTROLS)
}

fn play(options: &Options, build: &[&str], more: &[&str]) -> Result<Counts> {
    let mut command = workspace::cargo();
    command.args(["test", "--quiet", "--color=never", "--test", "seeds"]).args(build);
    command.args(["--", "--nocapture", "--exact", TEST]).args(more);
    command.env("SIM_SEEDS", options.seeds.to_string()).env("SIM_SEED", options.seed.to_string());
    if let Some(jobs) = options.jobs {
        command.env("SIM_JOBS", jobs.to_string());
    }
    if options.trace {
        command.env("SIM_TRACE", "1");
    }
    let aloud = options.trace;
    let shown = move |line: &str| aloud || !line.trim().is_empty() && !line.starts_with("running 0 tests");
    let mut running = Running::start_echoing("sim", command, shown)?;
    let seeds = u32::try_from(options.seeds).unwrap_or(u32::MAX);
    let status = running.wait(BUILD + PER_SEED.saturating_mul(seeds)).context("the simulation hangs")?;
    let lines = running.lines();
    // The runner's dots may stand before it.
    let said = |line: &String| line.trim_start_matches('.').starts_with("sim: ");
    if !lines.iter().any(said) {
        bail!("the simulation did not come to a verdict ({status})\n{}", running.tail());
    }
    Ok(Counts::of_cargo(&lines))
}
