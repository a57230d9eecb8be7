//! `cargo xtask soak`: saves small documents for a long time, and looks how much of the disk the journal takes.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use crate::{process, workspace};

/// Options of `cargo xtask soak`.
#[derive(Args)]
pub struct Options {
    /// Saves a second, one or several
    #[arg(long, default_value = "10,60,500")]
    rate: String,
    /// How long
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Also plots the sizes to this SVG file
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// Prints the sizes as CSV. Fails when a journal takes more than it may, or a save is not acknowledged or delivered.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut build = workspace::cargo();
    build.args(["build", "--quiet", "--package", "soak", "--bin", "soak"]);
    process::run("building soak", build)?;
    let folder = workspace::provisions().join("soak").join(std::process::id().to_string());
    let mut command = Command::new(workspace::target().join("debug/soak"));
    command.args(["--rate", &options.rate, "--minutes", &options.minutes.to_string()]);
    command.arg("--folder").arg(&folder);
    if let Some(plot) = &options.plot {
        command.arg("--plot").arg(plot);
    }
    process::run("soak", command)?;
    std::fs::remove_dir_all(&folder)?;
    Ok(ExitCode::SUCCESS)
}
