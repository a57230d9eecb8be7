//! `cargo xtask relay-client`: the relay, spoken to by a client that is not ours.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::backend::{self, Backend};
use crate::process::Running;
use crate::summary::{Counts, Outcome};
use crate::{python, workspace};

/// Pinned: a new release must not turn a green tree red.
const AIOQUIC: &str = "aioquic==1.7.2";
const TIMEOUT: Duration = Duration::from_mins(5);

/// Builds the backend and runs the checks.
pub fn run() -> Result<ExitCode> {
    match stage(&backend::build()?)? {
        Outcome::Ran(counts) if counts.failed == 0 => Ok(ExitCode::SUCCESS),
        Outcome::Ran(_) => Ok(ExitCode::FAILURE),
        Outcome::NotRun(why) => bail!(why),
    }
}

/// The stage of `cargo xtask test`.
pub fn stage(backend: &Path) -> Result<Outcome> {
    match python::environment("aioquic", AIOQUIC) {
        Ok(bin) => check(backend, &bin).map(Outcome::Ran),
        Err(error) => Ok(Outcome::NotRun(format!("no client to connect with: {error:#}"))),
    }
}

fn check(backend: &Path, bin: &Path) -> Result<Counts> {
    let folder = tempfile::Builder::new().prefix("relay-client-").tempdir()?;
    let arguments = ["--relay-listen=127.0.0.1:0".to_owned()];
    let backend =
        Backend::start_with("relay-client-backend", Command::new(backend), folder.path(), &arguments)?;
    let mut command = Command::new(bin.join("python"));
    command.arg(workspace::root().join("tests/e2e/relay_client.py")).env("BACKEND_URL", backend.url());
    let mut run = Running::start_echoing("relay-client", command, |_| true)?;
    let status = run.wait(TIMEOUT)?;
    backend.stop()?;
    match Counts::of_engine(&run.lines()) {
        Some(counts) if status.success() || counts.failed > 0 => Ok(counts),
        _ => bail!("the checks did not come to their end ({status})\n{}", run.tail()),
    }
}
