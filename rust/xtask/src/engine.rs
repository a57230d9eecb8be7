//! The suites that run inside the engine, against a real backend.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::backend::Backend;
use crate::godot::{self, Engine};
use crate::process::Running;
use crate::summary::Counts;
use crate::workspace;

/// Bounds a run that hangs; each test has a limit of its own.
const TIMEOUT: Duration = Duration::from_mins(10);

/// Exit code of a game that quits with documents the backend does not have.
const EXIT_UNSAVED: i32 = 75;

/// What the hook knows the backend by.
const HOOK_SECRET: &str = "the backend asks the suite";

/// Imports the project and runs its suites, those that check the runner itself first.
pub fn run(engine: &Engine, backend: &Path, filter: Option<&str>) -> Result<Counts> {
    let project = workspace::root().join("godot");
    engine.import(&project)?;
    let folder = tempfile::Builder::new().prefix("engine-").tempdir()?;
    let mut surroundings = Surroundings::start(backend, folder.path())?;
    if filter.is_none() {
        suites(engine, &surroundings, &project, &["--self-check"])?;
    }
    let arguments: Vec<&str> = filter.into_iter().collect();
    let counts = suites(engine, &surroundings, &project, &arguments);
    surroundings.backend.check()?;
    surroundings.backend.stop()?;
    counts
}

/// A backend that mails to a folder and knows an identity provider, whose hook the suites are.
struct Surroundings {
    backend: Backend,
    environment: Vec<(&'static str, String)>,
}

impl Surroundings {
    fn start(binary: &Path, folder: &Path) -> Result<Self> {
        let mails = folder.join("mails").display().to_string();
        // Free now; the suite that needs it says so if it is not then.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let arguments = [
            format!("--mail=file:{mails}"),
            "--relay-listen=127.0.0.1:0".to_owned(),
            format!("--identity-provider=suite=http://127.0.0.1:{port}/verify"),
            format!("--identity-hook-secret={HOOK_SECRET}"),
            format!(
                "--matchmaking={}",
                workspace::root().join("godot/matchmaking/matchmaking.json").display()
            ),
        ];
        let backend = Backend::start_with("engine-backend", Command::new(binary), folder, &arguments)?;
        let environment = vec![
            ("BACKEND_URL", backend.url().to_owned()),
            ("BACKEND_SERVER_KEY_FILE", backend.server_key_file().display().to_string()),
            ("BACKEND_ADMIN_KEY", backend.admin_key(binary)?),
            ("BACKEND_MAIL_FOLDER", mails),
            ("BACKEND_HOOK_PORT", port.to_string()),
            ("BACKEND_HOOK_SECRET", HOOK_SECRET.to_owned()),
        ];
        Ok(Self { backend, environment })
    }
}

fn suites(
    engine: &Engine,
    surroundings: &Surroundings,
    project: &Path,
    arguments: &[&str],
) -> Result<Counts> {
    let home = tempfile::Builder::new().prefix("godot-").tempdir()?;
    let mut command = engine.command(home.path());
    command.args(["--headless", "--path"]).arg(project).args(["-s", "res://run.gd", "--"]).args(arguments);
    command.envs(surroundings.environment.iter().map(|(name, value)| (*name, value)));
    let is_self_check = arguments.contains(&"--self-check");
    let name = if is_self_check { "engine-self-check" } else { "engine" };
    // The runner's own lines: a test, and below a failed one its reasons. Backtraces stay in the log.
    let shown = |line: &str| {
        let reason = line.strip_prefix("       ").is_some_and(|rest| !rest.starts_with(' '));
        line.starts_with("ok ") || line.starts_with("FAIL ") || reason
    };
    let mut run = Running::start_echoing(name, command, shown)?;
    let status = run.wait(TIMEOUT)?;
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
    // Suites play outages, and what they leave behind is said by the exit code.
    let is_expected = status.success() || status.code() == Some(EXIT_UNSAVED);
    if !is_expected && counts.failed == 0 && !matched_none {
        bail!("the suites ended with {status} although all {} passed\n{}", counts.passed, run.tail());
    }
    if is_self_check && counts.failed > 0 {
        bail!("the runner does not find the expected failures\n{}", run.tail());
    }
    Ok(counts)
}

fn after_summary(lines: &[String]) -> impl Iterator<Item = &String> {
    let summary = lines.iter().position(|line| line.contains(" passed, ") && line.ends_with(" failed"));
    lines.iter().skip(summary.map_or(lines.len(), |at| at + 1))
}
