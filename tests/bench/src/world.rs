//! A large world saved, changed and read again, with what that takes of time, memory and bytes on the wire.
//!
//! Each step is a process of its own, so that its peak memory is that of the step.

pub mod step;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Map, Value};
use test_harness::backend::Backend;

use self::step::Step;
use crate::machine::Machine;
use crate::results::Report;

/// Size of a chunk; half of it cannot be compressed.
const CHUNK_KIB: usize = 256;
/// Chunks of a world of 1 GiB, and of one that shows that it works.
const CHUNKS: u32 = 4_096;
const QUICK_CHUNKS: u32 = 64;

/// A step, in a process of its own.
#[derive(Args)]
pub struct Options {
    /// Chunks of the world
    #[arg(long)]
    chunks: u32,
    /// The local copy
    #[arg(long)]
    folder: PathBuf,
    #[command(subcommand)]
    step: Step,
}

/// Measures and tells.
pub fn run(options: &crate::Options) -> Result<bool> {
    let scratch = tempfile::Builder::new().prefix("world-").tempdir_in(&options.scratch)?;
    let storage = scratch.path().join("backend").display().to_string();
    // Another store may be named in the environment.
    let own = ["--world-storage", storage.as_str()];
    let elsewhere = std::env::var_os("BACKEND_WORLD_STORAGE").is_some();
    let backend = Backend::start_with(if elsewhere { &[] } else { &own })?;
    let chunks = if options.quick { QUICK_CHUNKS } else { CHUNKS };
    let mut report = Report::new("world", Machine::this()?);
    report.figure("world", "chunks", f64::from(chunks), "");
    report.figure("world", "size of a chunk", CHUNK_KIB as f64, "KiB");
    for (step, folder, what) in [
        (Step::Save, "here", "save all"),
        (Step::Change, "here", "save all, one in a hundred changed"),
        (Step::Read, "here", "read all"),
        (Step::Read, "there", "read all on another machine"),
    ] {
        let output = Command::new(std::env::current_exe()?)
            .args(["world-step", "--chunks", &chunks.to_string(), "--folder"])
            .arg(scratch.path().join(folder))
            .arg(step.name())
            .env("BACKEND_URL", backend.url())
            .env("BACKEND_SERVER_KEY_FILE", backend.server_key_file())
            .output()?;
        ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        let figures: Map<String, Value> = serde_json::from_slice(&output.stdout)?;
        for (measure, value) in figures {
            report.add(what, &measure, "addon", value.as_f64().unwrap_or(f64::NAN));
        }
        report.add(what, "peak_kib", "backend", step::peak_kib(backend.id()?)? as f64);
    }
    report.publish(&options.folder)?;
    Ok(true)
}
