//! Packages from PyPI, each in an environment of its own under `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{process, workspace};

/// How to get what we need to install packages.
pub const HOW_TO_GET: &str = "install Python with its venv module (Debian: apt-get install python3-venv)";

/// The folder of programs of the environment `name`, made with `requirement` at the first use.
pub fn environment(name: &str, requirement: &str) -> Result<PathBuf> {
    let folder = workspace::provisions().join(name);
    let complete = folder.join("complete");
    // Another version than the pinned one is another environment.
    if fs::read_to_string(&complete).ok().as_deref() != Some(requirement) {
        println!("fetching {requirement} into {}", folder.display());
        install(&folder, requirement)
            .with_context(|| format!("{HOW_TO_GET}, or `pip install {requirement}`"))?;
        fs::write(&complete, requirement)?;
    }
    Ok(folder.join("bin"))
}

fn install(folder: &Path, requirement: &str) -> Result<()> {
    let mut command = workspace::python();
    command.args(["-m", "venv", "--clear"]).arg(folder);
    process::output(command)?;
    let mut command = Command::new(folder.join("bin/pip"));
    command.args(["install", "--quiet", "--disable-pip-version-check", requirement]);
    process::output(command)?;
    Ok(())
}
