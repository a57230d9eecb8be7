//! `cargo xtask powercut`: cuts the power of a file system while saves are written, and looks what survived.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::process::{self, Running};
use crate::summary::{Counts, Outcome};
use crate::workspace;

/// Bound for a run that hangs: per cut, far above what one takes, and for its beginning.
const PER_CUT: Duration = Duration::from_secs(5);
const BEGINNING: Duration = Duration::from_mins(2);
/// Cuts within which a control has to be caught.
const CONTROL_CUTS: u64 = 50;
/// Cuts of one run of all tests.
const STAGE_CUTS: u64 = 100;
/// Exit code of a machine that cannot do it.
const NOT_RUN: i32 = 3;

/// Options of `cargo xtask powercut`.
#[derive(Args)]
pub struct Options {
    /// How many cuts; for a control, how many at most
    #[arg(long)]
    cuts: Option<u64>,
    /// Decides the cuts
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Repeats this cut of the run instead of going through all
    #[arg(long)]
    only: Option<u64>,
    /// File systems at a time
    #[arg(long)]
    jobs: Option<u64>,
    /// Only cuts under these saves
    #[arg(long, value_enum)]
    subject: Option<Subject>,
    /// Activates a failpoint that has to be caught
    #[arg(long, value_enum)]
    control: Option<Control>,
    /// Does what `cargo xtask test` does: 100 cuts that lose nothing, and every control
    #[arg(long, conflicts_with_all = ["cuts", "only", "subject", "control"])]
    stage: bool,
}

/// A failpoint: a feature of the client crate.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Control {
    /// Commits are not synced to disk
    NoFsync,
    /// Saves are acknowledged before they are in the journal
    EarlyAck,
}

/// Whose saves are at stake.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Players' documents, in journals
    Players,
    /// Chunks, in the local copy of a world
    World,
}

impl Subject {
    const fn argument(self) -> &'static str {
        match self {
            Self::Players => "players",
            Self::World => "world",
        }
    }
}

impl Control {
    const fn feature(self) -> &'static str {
        match self {
            Self::NoFsync => "failpoint-no-fsync",
            Self::EarlyAck => "failpoint-early-ack",
        }
    }
}

/// Runs as told by the command line. A machine that cannot do it is a failure: this was asked for by name.
pub fn run(options: &Options) -> Result<ExitCode> {
    let outcome = if options.stage {
        stage()?
    } else {
        let cuts = options.cuts.unwrap_or(if options.control.is_some() { CONTROL_CUTS } else { STAGE_CUTS });
        let extra = [("--only", options.only), ("--jobs", options.jobs)];
        let extra: Vec<String> = extra
            .into_iter()
            .filter_map(|(name, value)| Some([name.to_owned(), value?.to_string()]))
            .flatten()
            .collect();
        cut(cuts, options.seed, options.subject, options.control, &extra)?
    };
    match outcome {
        Outcome::Ran(Counts { failed: 0, .. }) => Ok(ExitCode::SUCCESS),
        Outcome::Ran(_) => Ok(ExitCode::FAILURE),
        Outcome::NotRun(why) => bail!("power cuts were not made: {why}"),
    }
}

/// The stage of `cargo xtask test`: cuts that must lose nothing, and one test for each failpoint and what it spoils,
/// which must be caught.
pub fn stage() -> Result<Outcome> {
    let runs = [
        (None, None),
        (Some(Subject::Players), Some(Control::NoFsync)),
        (Some(Subject::World), Some(Control::NoFsync)),
        (Some(Subject::Players), Some(Control::EarlyAck)),
    ];
    let mut sum = Counts::default();
    for (subject, control) in runs {
        let cuts = if control.is_some() { CONTROL_CUTS } else { STAGE_CUTS };
        match cut(cuts, 1, subject, control, &[])? {
            Outcome::Ran(Counts { passed, failed }) => {
                sum = Counts { passed: sum.passed + passed, failed: sum.failed + failed };
            }
            not_run @ Outcome::NotRun(_) => return Ok(not_run),
        }
    }
    Ok(Outcome::Ran(sum))
}

fn cut(
    cuts: u64,
    seed: u64,
    subject: Option<Subject>,
    control: Option<Control>,
    extra: &[String],
) -> Result<Outcome> {
    let writer = build("powercut-writer", control)?;
    let mut command = Command::new(build("powercut", None)?);
    command.args(["--cuts", &cuts.to_string(), "--seed", &seed.to_string()]);
    command.arg("--writer").arg(writer).arg("--folder").arg(folder());
    if let Some(subject) = subject {
        command.args(["--subject", subject.argument()]);
    }
    if let Some(control) = control {
        command.args(["--control", control.feature()]);
    }
    command.args(extra);
    let mut run = Running::start_echoing("powercut", command, |_| true)?;
    let timeout = PER_CUT.saturating_mul(u32::try_from(cuts).unwrap_or(u32::MAX)) + BEGINNING;
    let status = run.wait(timeout).context("power cuts hang")?;
    match status.code() {
        Some(0) => Ok(Outcome::Ran(Counts { passed: 1, failed: 0 })),
        Some(1) => Ok(Outcome::Ran(Counts { passed: 0, failed: 1 })),
        Some(NOT_RUN) => {
            let lines = run.lines();
            let why = lines.iter().find_map(|line| line.strip_prefix("powercut: not run on this machine: "));
            Ok(Outcome::NotRun(why.unwrap_or("it did not say why").to_owned()))
        }
        _ => bail!("the harness of the power cuts broke ({status})"),
    }
}

/// Builds one of the two programs and puts it where no other variant of it goes.
fn build(program: &str, control: Option<Control>) -> Result<PathBuf> {
    let mut command = workspace::cargo();
    command.args(["build", "--quiet", "--package", "powercut", "--bin", program]);
    if let Some(control) = control {
        command.args(["--features", &format!("backend-client/{}", control.feature())]);
    }
    process::run(&format!("building {program}"), command)?;
    let bin = folder().join("bin");
    fs::create_dir_all(&bin)?;
    let built = workspace::target().join("debug").join(program);
    ensure!(built.is_file(), "{} was not built", built.display());
    let own = bin.join(control.map_or(program, |control| control.feature()));
    // Not in place: the one before may be running.
    let fresh = own.with_extension("new");
    fs::copy(&built, &fresh)?;
    fs::rename(&fresh, &own)?;
    Ok(own)
}

fn folder() -> PathBuf {
    workspace::provisions().join("powercut")
}
