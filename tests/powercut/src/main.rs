//! `powercut`: cuts the power of a file system while the product saves into it, and looks what is left.
//!
//! Killing a process proves nothing about durability, because the kernel keeps what was never synced. Here the file system
//! is cut off from its disk at a random moment, mounted again from what the disk has, and opened by the product: every
//! save acknowledged before the cut has to be there, to the bit, or covered by a later one.
//!
//! Exit code 0: nothing was lost (or the control was caught), 1: something was, 2: the harness broke, 3: this machine
//! cannot do it.

#[cfg(target_os = "linux")]
mod cut;
#[cfg(target_os = "linux")]
mod fake_backend;
#[cfg(target_os = "linux")]
mod fake_worlds;
#[cfg(target_os = "linux")]
mod inspection;
#[cfg(target_os = "linux")]
mod model;
#[cfg(target_os = "linux")]
mod plan;
#[cfg(target_os = "linux")]
mod protocol;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod volume;
#[cfg(target_os = "linux")]
mod writer_process;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Exit code when the harness broke.
const BROKEN: u8 = 2;
/// Exit code when this machine cannot do it.
const NOT_RUN: u8 = 3;

#[derive(Parser)]
#[command(name = "powercut", about = "Power cuts while saves are written")]
struct Options {
    /// How many cuts; for a control, how many at most
    #[arg(long, default_value_t = 100)]
    cuts: u64,
    /// Decides the cuts
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this cut of the run
    #[arg(long)]
    only: Option<u64>,
    /// Only cuts under these saves
    #[arg(long, value_enum)]
    subject: Option<Subject>,
    /// File systems at a time
    #[arg(long)]
    jobs: Option<usize>,
    /// The writer has this failpoint active: cuts go on until it is caught, and it has to be
    #[arg(long)]
    control: Option<String>,
    /// The built `powercut-writer`
    #[arg(long)]
    writer: PathBuf,
    /// Where images and reports go
    #[arg(long)]
    folder: PathBuf,
}

/// Whose saves are at stake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Players' documents, in journals
    Players,
    /// Chunks, in the local copy of a world
    World,
}

fn main() -> ExitCode {
    let options = Options::parse();
    #[cfg(target_os = "linux")]
    return run::run(&options);
    #[cfg(not(target_os = "linux"))]
    {
        test_harness::print_error_line!("powercut: not run on this machine: needs Linux");
        ExitCode::from(NOT_RUN)
    }
}
