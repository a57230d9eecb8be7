//! The licences of all that is linked into a package, which their authors ask to be kept with it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::build;
use crate::{process, workspace};

/// Version of the program that lists components.
pub const CYCLONEDX: &str = "0.5.9";
const ABOUT: &str = "0.9.3";

/// Writes them, and returns the file.
pub fn write() -> Result<PathBuf> {
    let program = build::installed("cargo-about", ABOUT, "cli")?;
    let into = workspace::provisions().join("package/THIRD_PARTY_NOTICES.txt");
    let configuration = workspace::root().join("rust/xtask/about.toml");
    let template = workspace::root().join("rust/xtask/about.hbs");
    let mut command = Command::new(program);
    command.current_dir(workspace::root()).args([
        "about",
        "generate",
        "--offline",
        "--locked",
        "--fail",
        "--config",
    ]);
    command.arg(configuration).args(["--manifest-path", "Cargo.toml", "--workspace", "--output-file"]);
    command.arg(&into).arg(template);
    process::run("collecting licences", command)?;
    let text = fs::read_to_string(&into).with_context(|| format!("no {}", into.display()))?;
    ensure!(text.contains("gdext") || text.contains("godot"), "{} does not name gdext", into.display());
    Ok(into)
}
