//! `bench-saves`: how fast saves are safe. One run measures the product and what it is held against in turns on the same
//! disk, because ratios carry over to other machines and milliseconds do not.

mod acknowledgement;
mod figures;
mod game;
mod game_server;
mod outage;
mod termination;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use end_to_end::backend::Backend;

use figures::Report;

#[derive(Parser)]
#[command(name = "bench-saves", about = "How fast saves are safe")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures
    Measure(Options),
    /// What is measured, in a process of its own
    GameServer(game_server::Options),
}

#[derive(Args)]
struct Options {
    /// A few rounds of everything: shows that it works, not how fast
    #[arg(long)]
    quick: bool,
    /// Only this part; may be repeated
    #[arg(long)]
    only: Vec<Part>,
    /// Where the journals go: the disk that is measured
    #[arg(long)]
    folder: PathBuf,
    /// How the programs were built, for the record
    #[arg(long)]
    build: String,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Local acknowledgements against a bare fdatasync
    Acknowledgement,
    /// A thousand players at SIGTERM, with and without backend
    Termination,
    /// The backend goes away and comes back
    Outage,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Measure(options) => run(&options),
        Command::GameServer(options) => game_server::run(&options),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench-saves: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    fs::create_dir_all(&options.folder)?;
    let scratch = tempfile::Builder::new().prefix("saves-").tempdir_in(&options.folder)?;
    let wants = |part| options.only.is_empty() || options.only.contains(&part);
    let mut report = Report::new(&options.build, options.quick);
    if wants(Part::Acknowledgement) {
        let backend = Backend::start()?;
        let rounds = if options.quick { 2 } else { 40 };
        let folder = scratch.path().join("acknowledgement");
        runtime.block_on(acknowledgement::measure(&backend, &folder, rounds, &mut report))?;
    }
    if wants(Part::Termination) {
        let mut backend = Backend::start()?;
        let size = if options.quick { termination::Size::QUICK } else { termination::Size::FULL };
        termination::measure(&mut backend, &runtime, &scratch.path().join("termination"), size, &mut report)?;
    }
    if wants(Part::Outage) {
        let mut backend = Backend::start()?;
        let size = if options.quick { outage::Size::QUICK } else { outage::Size::FULL };
        outage::measure(&mut backend, &runtime, &scratch.path().join("outage"), size, &mut report)?;
    }
    println!("{}", report.table());
    let path = options.folder.join("saves.json");
    fs::write(&path, report.json()?).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(if report.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
