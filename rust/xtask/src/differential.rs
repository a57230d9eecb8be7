//! `cargo xtask differential`: the token verifier against a library that is not ours.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::process::{self, Running};
use crate::summary::{Counts, Outcome};
use crate::{python, workspace};

/// Pinned: a comparison should change when we change, not when it does.
const PYJWT: &str = "PyJWT[crypto]==2.15.1";
/// Enough to meet every kind of change some hundred times.
const TOKENS_OF_THE_STAGE: u64 = 5_000;
const TIMEOUT: Duration = Duration::from_mins(20);

/// Options of `cargo xtask differential`.
#[derive(Args)]
pub struct Options {
    /// How many changed tokens are judged
    #[arg(long, default_value_t = 100_000)]
    tokens: u64,
    /// Chooses the changes
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Judges changed tokens; fails if one is accepted that `PyJWT` refuses.
pub fn run(options: &Options) -> Result<()> {
    let counts = compare(options)?;
    ensure!(counts.failed == 0, "{} tokens are accepted by us alone", counts.failed);
    Ok(())
}

/// The stage of `cargo xtask test`.
pub fn stage() -> Result<Outcome> {
    match python::environment("pyjwt", PYJWT) {
        Ok(_) => compare(&Options { tokens: TOKENS_OF_THE_STAGE, seed: 1 }).map(Outcome::Ran),
        Err(error) => Ok(Outcome::NotRun(format!("no PyJWT to compare with: {error:#}"))),
    }
}

fn compare(options: &Options) -> Result<Counts> {
    let python = python::environment("pyjwt", PYJWT)?.join("python");
    let example = ["--quiet", "--package", "backend-token", "--example", "differential"];
    let mut build = workspace::cargo();
    build.arg("build").args(example);
    process::run("building the maker of tokens", build)?;
    let mut maker = workspace::cargo();
    maker.arg("run").args(example).args(["--", &options.seed.to_string(), &options.tokens.to_string()]);
    let tokens = tempfile::NamedTempFile::new()?;
    let made = maker.stdout(tokens.reopen()?).status().context("cannot run cargo")?;
    ensure!(made.success(), "the maker of tokens failed ({made})");
    let mut judge = Command::new(python);
    judge.arg(workspace::root().join("rust/token/tests/differential_tokens.py")).arg(tokens.path());
    let mut run = Running::start_echoing("differential", judge, |_| true)?;
    let status = run.wait(TIMEOUT)?;
    match Counts::of_engine(&run.lines()) {
        Some(counts) if status.success() || counts.failed > 0 => Ok(counts),
        _ => bail!("the comparison did not come to its end ({status})\n{}", run.tail()),
    }
}
