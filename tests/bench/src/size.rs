//! The library that players get: what it adds to a game's download and disk.

use std::fs;

use anyhow::{Context as _, Result};

use crate::Options;
use crate::machine::Machine;
use crate::results::Report;

/// Bytes, stripped.
const GOAL: f64 = 9_000_000.0;
/// As hard as an archive usually compresses.
const LEVEL: i32 = 19;

/// Measures, tells, and says whether it is small enough. A debug library is only told about.
pub fn run(options: &Options) -> Result<bool> {
    let library = fs::read(&options.library).with_context(|| format!("no {}", options.library.display()))?;
    let mut report = Report::new("size", Machine::this()?);
    report.add("library", "bytes", "on disk", library.len() as f64);
    let packed = zstd::bulk::compress(&library, if options.quick { 1 } else { LEVEL })?;
    report.add("library", "bytes", "compressed", packed.len() as f64);
    let whole = report.rounds("library", "bytes", "on disk").to_vec();
    if !options.quick {
        report.judge("the release library, stripped (bytes)", whole, true, GOAL);
    }
    report.publish(&options.folder)?;
    Ok(report.is_met())
}
