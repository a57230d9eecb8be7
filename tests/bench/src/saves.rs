//! How fast saves are safe: the product and what it is held against in turns on the same disk.

mod acknowledgement;
mod game;
pub mod game_server;
mod outage;
mod termination;
mod times;

use anyhow::Result;
use test_harness::backend::Backend;

use crate::Options;
use crate::machine::Machine;
use crate::results::Report;

/// Measures, tells, and says whether all goals are reached; of a quick run, whether nothing was lost.
pub fn run(options: &Options) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let scratch = tempfile::Builder::new().prefix("saves-").tempdir_in(&options.scratch)?;
    let folder = |part: &str| scratch.path().join(part);
    let mut report = Report::new("saves", Machine::this()?);

    let backend = Backend::start()?;
    let rounds = if options.quick { 2 } else { 40 };
    runtime.block_on(acknowledgement::measure(&backend, &folder("acknowledgement"), rounds, &mut report))?;

    let mut backend = Backend::start()?;
    let size = if options.quick { termination::Size::QUICK } else { termination::Size::FULL };
    termination::measure(&mut backend, &runtime, &folder("termination"), size, &mut report)?;

    let mut backend = Backend::start()?;
    let size = if options.quick { outage::Size::QUICK } else { outage::Size::FULL };
    outage::measure(&mut backend, &runtime, &folder("outage"), size, &mut report)?;

    report.publish(&options.folder)?;
    Ok(if options.quick { report.counts_are_met() } else { report.is_met() })
}
