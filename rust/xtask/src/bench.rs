//! `cargo xtask bench`: figures of the product and of what it is held against, from one run on this machine.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use crate::godot::{self, Engine};
use crate::process::{self, Running};
use crate::summary::Counts;
use crate::{library, workspace};

/// Bound for a benchmark that hangs.
const BENCH: Duration = Duration::from_mins(30);
/// The profile of the workspace that is as fast as a release, and quick to build.
const PROFILE: &str = "measured";

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Calls to the backend against bare reqwest and the engine's own ways; figures and plots go to `docs/benchmarks/`
    Calls(Comparison),
    /// A token judged on the game server against the bare check of its signature
    Validation(Comparison),
    /// How fast saves are safe: acknowledgement, SIGTERM, outage
    Saves {
        /// A few rounds in a debug build: shows that it works, not how fast
        #[arg(long)]
        quick: bool,
        /// Only one part: acknowledgement, termination or outage; may be repeated
        #[arg(long)]
        only: Vec<String>,
    },
    /// What a world of 1 GiB takes: time, memory, bytes on the wire
    World {
        /// A small world in a debug build: shows that it works, not how fast
        #[arg(long)]
        quick: bool,
    },
}

/// Options of what is compared in rounds.
#[derive(Args)]
struct Comparison {
    /// Two rounds of little in a debug build: shows that it works, not how fast; figures go to `target/bench/`
    #[arg(long)]
    quick: bool,
    /// Rounds that the contestants take turns in
    #[arg(long)]
    rounds: Option<usize>,
}

/// Runs as told; fails where a goal is missed.
pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.what {
        What::Calls(comparison) => compare("calls", comparison),
        What::Validation(comparison) => compare("validation", comparison),
        What::Saves { quick, only } => {
            let profile = if *quick { "dev" } else { PROFILE };
            let mut command = built("bench-saves", profile)?;
            command.arg("measure").arg("--folder").arg(folder());
            command.args(["--build", &format!("profile {profile}, backend on SQLite")]);
            command.args(quick.then_some("--quick"));
            for part in only {
                command.args(["--only", part]);
            }
            measure("bench-saves", command)
        }
        What::World { quick } => {
            let mut command = built("bench-world", if *quick { "dev" } else { PROFILE })?;
            command.arg("--folder").arg(folder());
            if *quick {
                command.args(["--chunks", "64"]);
            }
            measure("bench-world", command)
        }
    }
}

/// That each comparison works, and that what it counts is within its guard: the stage of `cargo xtask test`.
pub fn stage(engine: &Engine) -> Result<Counts> {
    let quick = Comparison { quick: true, rounds: Some(1) };
    let mut counts = Counts::default();
    for what in ["calls", "validation"] {
        if compare_with(engine, what, &quick)? == ExitCode::SUCCESS {
            counts.passed += 1;
        } else {
            println!("FAIL bench {what}");
            counts.failed += 1;
        }
    }
    Ok(counts)
}

/// What is shipped against what it could be: in a release build, like the library itself.
fn compare(what: &str, comparison: &Comparison) -> Result<ExitCode> {
    compare_with(&godot::provide()?, what, comparison)
}

fn compare_with(engine: &Engine, what: &str, comparison: &Comparison) -> Result<ExitCode> {
    let profile = if comparison.quick { library::Profile::Debug } else { library::Profile::Release };
    let library = library::build(profile)?;
    let mut command = built("bench", if comparison.quick { "dev" } else { "release" })?;
    command.arg(what).arg("--library").arg(library.path).env("GODOT4_BIN", &engine.binary);
    if comparison.quick {
        command.arg("--quick").arg("--folder").arg(folder());
    } else {
        command.arg("--folder").arg(workspace::root().join("docs/benchmarks"));
    }
    let rounds = comparison.rounds.unwrap_or(if comparison.quick { 2 } else { 5 });
    command.args(["--rounds", &rounds.to_string()]);
    measure(&format!("bench-{what}"), command)
}

/// Where what is not kept goes.
fn folder() -> PathBuf {
    workspace::provisions().join("bench")
}

/// A command that runs `program`, built with `profile` beside the backend.
fn built(program: &str, profile: &str) -> Result<Command> {
    let folder = workspace::target().join(if profile == "dev" { "debug" } else { profile });
    let path = |program: &str| folder.join(format!("{program}{}", std::env::consts::EXE_SUFFIX));
    for (package, program) in [("backend-server", "backend-server"), ("end-to-end", program)] {
        println!("building {program} with profile {profile}");
        let mut command = workspace::cargo();
        command.args(["build", "--package", package, "--bin", program, "--profile", profile]);
        process::run(&format!("building {program}"), command)?;
        ensure!(path(program).is_file(), "{} was not built", path(program).display());
    }
    let mut command = Command::new(path(program));
    command.env("BACKEND_SERVER_BIN", path("backend-server"));
    Ok(command)
}

fn measure(name: &str, command: Command) -> Result<ExitCode> {
    let mut run = Running::start_echoing(name, command, |_| true)?;
    let status = run.wait(BENCH).context("the benchmark hangs")?;
    ensure!(matches!(status.code(), Some(0 | 1)), "the benchmark broke ({status})");
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
