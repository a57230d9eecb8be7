//! The fault injection tries itself: the checker notices what it has to, honest trials pass, a plan can be played again.
//! The controls, which need programs with a failpoint, are a stage of their own (`cargo xtask test --only chaos`).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use test_harness::programs;

fn checker() -> PathBuf {
    programs::workspace().join("tests/chaos/check_history.py")
}

fn chaos(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let postgres = env::var("TEST_POSTGRES_URL")
        .context("TEST_POSTGRES_URL is not set: run `cargo xtask test`, which provides PostgreSQL")?;
    let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(arguments)
        .env("CHAOS_SERVER_BIN", env!("CARGO_BIN_EXE_chaos-server"))
        .env("CHAOS_CHECKER", checker())
        .env("CHAOS_FOLDER", folder)
        .env("TEST_POSTGRES_URL", postgres)
        .env("BACKEND_SERVER_BIN", programs::backend_server()?)
        .output()?;
    Ok(output)
}

fn passed(output: &Output, trials: usize) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().last().unwrap_or_default();
    let complete = line.starts_with(&format!("chaos: PASS trials={trials} "));
    ensure!(
        output.status.success() && complete,
        "{}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn the_checker_notices_every_crime() -> Result<()> {
    let output = Command::new(programs::python()).arg(checker()).arg("--self-test").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn honest_trials_pass() -> Result<()> {
    let folder = tempfile::tempdir()?;
    passed(&chaos(folder.path(), &["--trials", "8", "--seed", "20", "--jobs", "4"])?, 8)
}

#[test]
fn a_plan_can_be_played_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let play = |arguments: &[&str]| -> Result<Value> {
        let fresh = tempfile::tempdir_in(folder.path())?;
        let mut all = vec!["--trials", "1", "--keep-histories"];
        all.extend(arguments);
        passed(&chaos(fresh.path(), &all)?, 1)?;
        let run = fs::read_dir(fresh.path())?.next().context("no run")??.path();
        let history = fs::read_to_string(run.join("trial-0/history.jsonl"))?;
        fs::write(folder.path().join("last.jsonl"), &history)?;
        let line = history.lines().next().context("an empty history")?;
        let mut plan: Value = serde_json::from_str(line)?;
        Ok(plan["plan"].take())
    };
    let first = play(&["--seed", "3"])?;
    ensure!(first["players"].as_array().is_some_and(|players| !players.is_empty()), "{first}");
    let last = folder.path().join("last.jsonl");
    let again = play(&["--seed", "4", "--replay", &last.to_string_lossy()])?;
    ensure!(again == first, "another plan was played");
    ensure!(play(&["--seed", "4"])? != first, "the seed decides nothing");
    Ok(())
}
