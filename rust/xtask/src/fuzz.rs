//! `cargo xtask fuzz`: what comes from outside, under libFuzzer.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{interrupt, process, workspace};

const HOW_TO_GET: &str = "`cargo install cargo-fuzz` and `rustup toolchain install nightly`";

/// Options of `cargo xtask fuzz`.
#[derive(Args)]
pub struct Options {
    /// Only these targets; none: all of them
    targets: Vec<String>,
    /// Inputs for each target, over all workers
    #[arg(long, default_value_t = 10_000_000)]
    runs: u64,
    /// Processes at a time
    #[arg(long, default_value_t = 2)]
    workers: u64,
}

/// Runs the targets one after the other; fails at the first that crashes.
pub fn run(options: &Options) -> Result<()> {
    let folder = workspace::root().join("rust/fuzz");
    let mut all = Vec::new();
    for entry in fs::read_dir(folder.join("fuzz_targets"))? {
        let path = entry?.path();
        all.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    all.sort();
    if let Some(unknown) = options.targets.iter().find(|target| !all.contains(target)) {
        bail!("there is no target {unknown}; there are {}", all.join(", "));
    }
    let chosen = if options.targets.is_empty() { &all } else { &options.targets };
    for target in chosen {
        interrupt::check()?;
        println!("== {target}: {} inputs", options.runs);
        fuzz(&folder, target, options).with_context(|| format!("{target} (needs {HOW_TO_GET})"))?;
    }
    println!("{} targets, {} inputs each, 0 crashes", chosen.len(), options.runs);
    Ok(())
}

fn fuzz(folder: &Path, target: &str, options: &Options) -> Result<()> {
    ensure!(options.workers > 0, "at least one worker is needed");
    let work = workspace::provisions().join("fuzz").join(target);
    let found = work.join("corpus");
    fs::create_dir_all(&found)?;
    // Memory errors are not what is looked for in safe Rust: without a sanitizer, ten times as many inputs.
    let mut command = Command::new("cargo");
    command.args(["+nightly", "fuzz", "run", "--release", "--debug-assertions", "--sanitizer=none"]);
    // The cfg makes some dependencies predictable, and so other programs than those that ship.
    command.arg("--no-cfg-fuzzing").arg("--fuzz-dir").arg(folder);
    command.arg("--target-dir").arg(workspace::target().join("fuzz")).arg(target);
    // What is found is kept beside the build; the seeds are read only.
    command.arg(&found).arg(folder.join("seeds").join(target)).arg("--");
    command.args([
        format!("-runs={}", options.runs.div_ceil(options.workers)),
        format!("-jobs={}", options.workers),
        format!("-workers={}", options.workers),
        format!("-artifact_prefix={}/", work.display()),
        "-max_len=4096".to_owned(),
        "-timeout=10".to_owned(),
    ]);
    // libFuzzer writes a log for each worker where it is started. The toolchain that runs us is not the one to use.
    command.current_dir(&work).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
    process::run(target, command)
}
