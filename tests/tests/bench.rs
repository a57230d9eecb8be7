//! The benchmark of saves tries itself: every part runs, and nothing is lost. How fast, is not asked here.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use end_to_end::programs;
use serde_json::Value;

#[test]
fn every_part_runs_and_loses_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = Command::new(env!("CARGO_BIN_EXE_bench-saves"))
        .args(["measure", "--quick", "--build", "test", "--folder"])
        .arg(folder.path())
        .env("BACKEND_SERVER_BIN", programs::backend_server()?)
        .output()?;
    ensure!(output.status.success(), "{}\n{output:?}", output.status);
    let report: Value = serde_json::from_slice(&fs::read(folder.path().join("saves.json"))?)?;
    let figures = report["figures"].as_array().context("no figures")?;
    let parts = ["local acknowledgement", "SIGTERM", "SIGTERM without backend", "outage"];
    for part in parts {
        ensure!(figures.iter().any(|figure| figure["part"] == part), "nothing was measured of {part}");
    }
    let lost: Vec<&Value> = figures
        .iter()
        .filter(|figure| figure["goal"].as_f64() == Some(0.0))
        .map(|figure| &figure["value"])
        .collect();
    ensure!(lost.len() == 3 && lost.iter().all(|lost| lost.as_f64() == Some(0.0)), "{lost:?}");
    Ok(())
}
