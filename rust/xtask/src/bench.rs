//! `cargo xtask bench`: figures of the product and of what it is held against, from one run on this machine.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use crate::process::{self, Running};
use crate::workspace;

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

/// Runs as told; fails where a goal is missed.
pub fn run(options: &Options) -> Result<ExitCode> {
    let (quick, program) = match &options.what {
        What::Saves { quick, .. } => (*quick, "bench-saves"),
        What::World { quick } => (*quick, "bench-world"),
    };
    let profile = if quick { "dev" } else { PROFILE };
    let built = |program: &str| {
        let folder = workspace::target().join(if quick { "debug" } else { PROFILE });
        folder.join(format!("{program}{}", std::env::consts::EXE_SUFFIX))
    };
    for (package, program) in [("backend-server", "backend-server"), ("end-to-end", program)] {
        println!("building {program} with profile {profile}");
        let mut command = workspace::cargo();
        command.args(["build", "--package", package, "--bin", program, "--profile", profile]);
        process::run(&format!("building {program}"), command)?;
        ensure!(built(program).is_file(), "{} was not built", built(program).display());
    }
    let mut command = Command::new(built(program));
    command.env("BACKEND_SERVER_BIN", built("backend-server"));
    if matches!(options.what, What::Saves { .. }) {
        command.arg("measure");
    }
    command.arg("--folder").arg(workspace::provisions().join("bench"));
    match &options.what {
        What::Saves { only, .. } => {
            command.args(["--build", &format!("profile {profile}, backend on SQLite")]);
            if quick {
                command.arg("--quick");
            }
            for part in only {
                command.args(["--only", part]);
            }
        }
        What::World { .. } => {
            if quick {
                command.args(["--chunks", "64"]);
            }
        }
    }
    let mut run = Running::start_echoing(program, command, |_| true)?;
    let status = run.wait(BENCH).context("the benchmark hangs")?;
    ensure!(matches!(status.code(), Some(0 | 1)), "the benchmark broke ({status})");
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
