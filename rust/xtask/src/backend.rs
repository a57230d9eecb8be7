//! The built backend, started on a free port with a database of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{self, Running};
use crate::workspace;

const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The line it prints when it is ready, before its URL.
const READY: &str = "listening on ";
const STOP: Duration = Duration::from_secs(30);

/// A running `backend-server`.
pub struct Backend {
    process: Running,
    url: String,
    database: PathBuf,
    server_key_file: PathBuf,
}

/// Builds the backend and returns its binary.
pub fn build() -> Result<PathBuf> {
    println!("building the backend");
    let mut command = workspace::cargo();
    command.args(["build", "--package", "backend-server"]);
    process::run("building the backend", command)?;
    Ok(workspace::target().join("debug").join(format!("backend-server{}", std::env::consts::EXE_SUFFIX)))
}

impl Backend {
    /// Starts `binary` with its files in `folder`; `name` is for its log.
    pub fn start(name: &str, binary: &Path, folder: &Path) -> Result<Self> {
        Self::start_with(name, Command::new(binary), folder, &[])
    }

    /// The same by a prepared command, with further arguments of `backend-server serve`.
    pub fn start_with(name: &str, mut command: Command, folder: &Path, extra: &[String]) -> Result<Self> {
        let database = folder.join("backend.db");
        let server_key_file = folder.join("server.key");
        command.current_dir(folder).args(["serve", "--listen", "127.0.0.1:0"]);
        command.arg("--database").arg(&database).arg("--server-key-file").arg(&server_key_file).args(extra);
        let mut process = Running::start(name, command)?;
        let line = process.wait_for_line(START_TIMEOUT, |line| line.starts_with(READY))?;
        let url = line.strip_prefix(READY).context("no URL")?.to_owned();
        Ok(Self { process, url, database, server_key_file })
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its SQLite file.
    pub fn database(&self) -> &Path {
        &self.database
    }

    /// The file with its server key.
    pub fn server_key_file(&self) -> &Path {
        &self.server_key_file
    }

    /// A new key for the admin routes, made with `binary`.
    pub fn admin_key(&self, binary: &Path) -> Result<String> {
        let mut command = Command::new(binary);
        command.args(["admin-keys", "create", "--database"]).arg(&self.database);
        let said = process::output(command)?;
        let key = said.split_whitespace().find(|word| word.starts_with("gak_"));
        Ok(key.context("the backend made no admin key")?.to_owned())
    }

    /// Lines it has logged since last asked; fails when it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.process.ended()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("the backend ended with {status}\n{}", self.process.tail()),
        }
    }

    /// Stops it in good order.
    pub fn stop(mut self) -> Result<()> {
        self.process.stop(STOP)
    }
}
