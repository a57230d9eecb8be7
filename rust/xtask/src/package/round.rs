//! One round with the packages alone: the starter project, exported and played on a machine without Rust.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::archive;
use crate::backend::Backend;
use crate::process::Running;
use crate::{export, godot};

const TIMEOUT: Duration = Duration::from_mins(2);
/// What the compiler and its tools are called.
const RUST: [&str; 3] = ["cargo", "rustc", "rustup"];

/// Unpacks both packages into empty folders and plays: log in, join, save, SIGTERM, and once more for what was saved.
pub fn play(addon: &Path, starter: &Path, server: &Path) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("package-").tempdir()?;
    let project = folder.path().join("starter");
    archive::unpack(starter, &project)?;
    archive::unpack(addon, &project)?;
    let programs = folder.path().join("backend");
    archive::unpack(server, &programs)?;
    let engine = godot::provide()?;
    engine.import_with(&project, without_rust)?;
    let exported = export::project(&engine, &project, without_rust)?;
    let [client, server] = exported.as_slice() else {
        anyhow::bail!("the starter exports a client and a server")
    };

    let mut command = Command::new(programs.join("backend-server"));
    without_rust(&mut command)?;
    let backend = Backend::start_with("package-backend", command, folder.path(), &[])?;
    for visits in 1..=2 {
        let mut command = Command::new(server);
        command.arg("--headless").env("BACKEND_URL", backend.url());
        command.env("BACKEND_SERVER_KEY_FILE", backend.server_key_file());
        let mut server = start("package-server", command, folder.path())?;
        server.wait_for_line(TIMEOUT, |line| line == "The server is in the list of rooms.")?;
        let mut command = Command::new(client);
        command.arg("--headless").env("BACKEND_URL", backend.url());
        let mut client = start("package-client", command, folder.path())?;
        client.wait_for_line(TIMEOUT, |line| line == format!("Welcome. Visits: {visits}"))?;
        server.stop(TIMEOUT)?;
        client.wait_for_line(TIMEOUT, |line| line == "The server has ended.")?;
        let complaint = server
            .lines()
            .into_iter()
            .chain(client.lines())
            .find(|line| godot::is_complaint(line) && !is_known(line));
        ensure!(complaint.is_none(), "{}", complaint.unwrap_or_default());
        drop(client);
    }
    println!(
        "a round was played with the packages: exported, logged in, joined, saved, and loaded after a restart"
    );
    Ok(())
}

fn start(name: &str, mut command: Command, home: &Path) -> Result<Running> {
    without_rust(&mut command)?;
    for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
        command.env(variable, home.join(name));
    }
    Running::start(name, command)
}

/// Leaves the folders with Rust out of the PATH.
fn without_rust(command: &mut Command) -> Result<()> {
    let path = std::env::var_os("PATH").context("there is no PATH")?;
    let has_rust = |folder: &Path| RUST.iter().any(|program| folder.join(program).exists());
    let folders = std::env::split_paths(&path).filter(|folder| !has_rust(folder));
    command.env("PATH", std::env::join_paths(folders)?);
    Ok(())
}

/// Whether the engine reports a fault of its own: each release export of Godot 4.6 and 4.7 does so when a connection ends over
/// which an RPC was sent (godotengine/godot, issue 123751).
fn is_known(line: &str) -> bool {
    line.contains("Attempt to disconnect a nonexistent connection")
        && line.contains("Signal: 'tree_exited', callable: ''")
}
