//! The licences of all that is linked into a package, which their authors ask to be kept with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::build;
use crate::{process, workspace};

/// Version of the program that lists components.
pub const CYCLONEDX: &str = "0.5.9";
const ABOUT: &str = "0.9.3";

/// Writes those of the crate in `rust/<name>` into a folder, and returns the file.
pub fn write(name: &str, folder: &Path) -> Result<PathBuf> {
    let program = build::installed("cargo-about", ABOUT, "cli")?;
    let into = folder.join(format!("notices-{name}.txt"));
    let crates = workspace::root().join("rust");
    let mut command = Command::new(program);
    command.current_dir(workspace::root()).args(["about", "generate", "--offline", "--locked", "--fail"]);
    command.arg("--config").arg(crates.join("xtask/about.toml"));
    command.arg("--manifest-path").arg(crates.join(name).join("Cargo.toml"));
    command.arg("--output-file").arg(&into).arg(crates.join("xtask/about.hbs"));
    process::run("collecting licences", command)?;
    let text = fs::read_to_string(&into).with_context(|| format!("no {}", into.display()))?;
    ensure!(text.contains("tokio"), "{} does not name what every package has", into.display());
    Ok(into)
}
