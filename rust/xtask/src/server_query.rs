//! `cargo xtask server-query`: a real game server, asked by clients that are not ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::backend::{self, Backend};
use crate::godot::{self, Engine};
use crate::process::{self, Running};
use crate::summary::{Counts, Outcome};
use crate::{library, python, workspace};

/// Pinned: a new release must not turn a green tree red.
const PYTHON_A2S: &str = "python-a2s==1.4.2";
const GAMEDIG: &str = "gamedig@5.3.3";
const TIMEOUT: Duration = Duration::from_mins(10);

/// Builds everything and asks.
pub fn run() -> Result<ExitCode> {
    library::build(library::Profile::Debug)?;
    match stage(&godot::provide()?, &backend::build()?)? {
        Outcome::Ran(counts) if counts.failed == 0 => Ok(ExitCode::SUCCESS),
        Outcome::Ran(_) => Ok(ExitCode::FAILURE),
        Outcome::NotRun(why) => bail!(why),
    }
}

/// The stage of `cargo xtask test`.
pub fn stage(engine: &Engine, backend: &Path) -> Result<Outcome> {
    let clients = python::environment("python-a2s", PYTHON_A2S).and_then(|bin| Ok((bin, gamedig()?)));
    match clients {
        Ok((bin, modules)) => ask(engine, backend, &bin, &modules).map(Outcome::Ran),
        Err(error) => Ok(Outcome::NotRun(format!("no clients to ask with: {error:#}"))),
    }
}

fn ask(engine: &Engine, backend: &Path, bin: &Path, modules: &Path) -> Result<Counts> {
    let game = workspace::root().join("tests/fixtures/game");
    engine.import(&game)?;
    let folder = tempfile::Builder::new().prefix("server-query-").tempdir()?;
    let backend = Backend::start("server-query-backend", backend, folder.path())?;
    let mut command = Command::new(bin.join("python"));
    command.arg(workspace::root().join("tests/e2e/server_query.py"));
    command
        .env("GODOT4_BIN", &engine.binary)
        .env("FIXTURE_GAME", &game)
        .env("GAMEDIG_MODULES", modules)
        .env("BACKEND_URL", backend.url())
        .env("BACKEND_SERVER_KEY_FILE", backend.server_key_file());
    let mut run = Running::start_echoing("server-query", command, |_| true)?;
    let status = run.wait(TIMEOUT)?;
    backend.stop()?;
    match Counts::of_engine(&run.lines()) {
        Some(counts) if status.success() || counts.failed > 0 => Ok(counts),
        _ => bail!("the questions did not come to their end ({status})\n{}", run.tail()),
    }
}

/// The folder whose `node_modules` has gamedig, installed at the first use.
fn gamedig() -> Result<PathBuf> {
    const HOW_TO_GET: &str = "install Node.js with npm (Debian: apt-get install npm)";
    let folder = workspace::provisions().join("gamedig");
    let complete = folder.join("complete");
    if fs::read_to_string(&complete).ok().as_deref() != Some(GAMEDIG) {
        println!("fetching {GAMEDIG} into {}", folder.display());
        fs::create_dir_all(&folder)?;
        let mut command = Command::new("npm");
        command.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).arg(GAMEDIG);
        process::output(command).context(HOW_TO_GET)?;
        fs::write(&complete, GAMEDIG)?;
    }
    Ok(folder)
}
