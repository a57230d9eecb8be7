//! The suites that run inside the engine, against a real backend.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::backend::Backend;
use crate::godot::{self, Engine};
use crate::process::Running;
use crate::summary::Counts;
use crate::workspace;

/// Bounds a run that hangs; each test has a limit of its own.
const PATIENCE: Duration = Duration::from_mins(10);

/// Imports the project and runs its suites, those that check the runner itself first.
pub fn run(engine: &Engine, backend: &Path, filter: Option<&str>) -> Result<Counts> {
    let project = workspace::root().join("godot");
    engine.import(&project)?;
    let folder = tempfile::Builder::new().prefix("engine-").tempdir()?;
    let mut backend = Backend::start("engine-backend", backend, folder.path())?;
    if filter.is_none() {
        suites(engine, &backend, &project, &["--self-check"])?;
    }
    let arguments: Vec<&str> = filter.into_iter().collect();
    let counts = suites(engine, &backend, &project, &arguments);
    backend.check()?;
    backend.stop()?;
    counts
}

fn suites(engine: &Engine, backend: &Backend, project: &Path, arguments: &[&str]) -> Result<Counts> {
    let home = tempfile::Builder::new().prefix("godot-").tempdir()?;
    let mut command = engine.command(home.path());
    command.args(["--headless", "--path"]).arg(project).args(["-s", "res://run.gd", "--"]).args(arguments);
    command.env("BACKEND_URL", backend.url()).env("BACKEND_SERVER_KEY_FILE", backend.server_key_file());
    let is_self_check = arguments.contains(&"--self-check");
    let name = if is_self_check { "engine-self-check" } else { "engine" };
    // The runner's own lines: a test, and below a failed one its reasons. Backtraces stay in the log.
    let shown = |line: &str| {
        let reason = line.strip_prefix("       ").is_some_and(|rest| !rest.starts_with(' '));
        line.starts_with("ok ") || line.starts_with("FAIL ") || reason
    };
    let mut run = Running::start_echoing(name, command, shown)?;
    let status = run.wait(PATIENCE)?;
    let lines = run.lines();
    let Some(counts) = Counts::of_engine(&lines) else {
        bail!("the suites ended with {status} before their summary\n{}", run.tail());
    };
    // Until its summary the runner accounts for errors itself; what comes after it are leaks and crashes at exit.
    // The self-check leaks on purpose.
    let complaint = after_summary(&lines).find(|line| godot::is_complaint(line));
    if let Some(complaint) = complaint.filter(|_| !is_self_check) {
        bail!("the engine complained at exit: {complaint}\n{}", run.tail());
    }
    // With a filter that no suite matches nothing ran, and the runner says so; the whole run fails if no test ran.
    let matched_none = counts == Counts::default() && arguments.iter().any(|word| !word.starts_with("--"));
    if !status.success() && counts.failed == 0 && !matched_none {
        bail!("the suites ended with {status} although all {} passed\n{}", counts.passed, run.tail());
    }
    if is_self_check && counts.failed > 0 {
        bail!("the runner does not find planted failures\n{}", run.tail());
    }
    Ok(counts)
}

fn after_summary(lines: &[String]) -> impl Iterator<Item = &String> {
    let summary = lines.iter().position(|line| line.contains(" passed, ") && line.ends_with(" failed"));
    lines.iter().skip(summary.map_or(lines.len(), |at| at + 1))
}
