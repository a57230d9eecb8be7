//! `bench-world`: a large world saved, changed and read again, with what that takes of time, memory and bytes on the wire.
//!
//! Each step is a process of its own, so that its peak memory is that of the step.

mod world_step;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use end_to_end::backend::Backend;
use serde_json::{Value, json};

use world_step::Step;

#[derive(Parser)]
#[command(name = "bench-world", about = "What a large world takes")]
struct Options {
    /// Chunks of the world
    #[arg(long, default_value_t = 4_096)]
    chunks: u32,
    /// Size of a chunk in KiB; half of it cannot be compressed
    #[arg(long, default_value_t = 256)]
    chunk_kib: usize,
    /// Where everything is kept: the disk that is measured
    #[arg(long)]
    folder: PathBuf,
    /// Only this step, against a running backend
    #[command(subcommand)]
    step: Option<Step>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.step {
        Some(step) => step.run(&options).map(|report| println!("{report}")),
        None => run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-world: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.folder)?;
    let scratch = tempfile::Builder::new().prefix("world-").tempdir_in(&options.folder)?;
    let storage = scratch.path().join("backend").display().to_string();
    // Another store may be named in the environment.
    let own = ["--world-storage", storage.as_str()];
    let elsewhere = std::env::var_os("BACKEND_WORLD_STORAGE").is_some();
    let backend = Backend::start_with(if elsewhere { &[] } else { &own })?;
    let mut report = Vec::new();
    for (step, folder) in [
        (Step::Save, "here"),
        (Step::Change, "here"),
        (Step::Read, "here"),
        // Another machine.
        (Step::Read, "there"),
    ] {
        let output = Command::new(std::env::current_exe()?)
            .args(["--chunks", &options.chunks.to_string(), "--chunk-kib", &options.chunk_kib.to_string()])
            .arg("--folder")
            .arg(scratch.path().join(folder))
            .arg(step.name())
            .env("BACKEND_URL", backend.url())
            .env("BACKEND_SERVER_KEY_FILE", backend.server_key_file())
            .output()?;
        ensure!(
            output.status.success(),
            "{} failed: {}",
            step.name(),
            String::from_utf8_lossy(&output.stderr)
        );
        let figures: Value = serde_json::from_slice(&output.stdout)?;
        let backend_peak_kib = world_step::peak_kib(backend.id()?)?;
        println!("{:<7}{folder:<6} {figures} backend_peak_kib={backend_peak_kib}", step.name());
        report.push(json!({"step": step.name(), "folder": folder, "figures": figures,
            "backend_peak_kib": backend_peak_kib}));
    }
    let path = options.folder.join("world.json");
    let report = json!({"chunks": options.chunks, "chunk_kib": options.chunk_kib, "steps": report});
    fs::write(&path, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}
