//! `cargo xtask wycheproof`: the verifier on public vectors.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::process::Running;
use crate::summary::{Counts, Outcome};
use crate::workspace;

/// Where the test stage looks for the vectors, beside the workspace.
const BESIDE: &str = "../shared/data/wycheproof";
/// Most of it is the build.
const TIMEOUT: Duration = Duration::from_mins(20);

/// Options of `cargo xtask wycheproof`.
#[derive(Args)]
pub struct Options {
    /// Folder with `json_web_signature_test.json`, `json_web_key_test.json` and `json_web_encryption_test.json` of the
    /// Wycheproof project
    folder: PathBuf,
}

/// Runs all vectors; fails unless each comes out as it should.
pub fn run(options: &Options) -> Result<()> {
    let counts = vectors(&std::path::absolute(&options.folder)?)?;
    ensure!(counts.failed == 0, "{} vectors do not come out as they should", counts.failed);
    Ok(())
}

/// The stage of `cargo xtask test`.
pub fn stage() -> Result<Outcome> {
    let folder = workspace::root().join(BESIDE);
    if !folder.is_dir() {
        return Ok(Outcome::NotRun(format!(
            "the vectors are not there: put `testvectors_v1/json_web_*_test.json` of C2SP/wycheproof into {BESIDE}, \
             or run `cargo xtask wycheproof DIR`"
        )));
    }
    vectors(&folder).map(Outcome::Ran)
}

fn vectors(folder: &Path) -> Result<Counts> {
    let mut command = workspace::cargo();
    command
        .args(["run", "--quiet", "--package", "backend-token", "--example", "wycheproof", "--"])
        .arg(folder);
    let mut run = Running::start_echoing("wycheproof", command, |_| true)?;
    let status = run.wait(TIMEOUT)?;
    match Counts::of_engine(&run.lines()) {
        Some(counts) if status.success() || counts.failed > 0 => Ok(counts),
        _ => bail!("the vectors were not run to their end ({status})\n{}", run.tail()),
    }
}
