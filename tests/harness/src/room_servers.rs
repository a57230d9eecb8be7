//! Servers that a backend starts on demand.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::backend::{Backend, free_port};
use crate::godot::Launch;
use crate::until;

/// The settings of a backend that starts servers, and their homes.
pub struct RoomServers {
    folder: TempDir,
}

impl RoomServers {
    /// Servers of the demo, started with the real engine.
    pub fn of_the_demo(change: &Value) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rooms-").tempdir()?;
        let launch = Launch::headless("room", "demo").arg("--port={port}").arg("--race-length=5");
        let command = launch.command(folder.path())?;
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        let words: Vec<String> =
            std::iter::once(command.get_program()).chain(command.get_args()).map(text).collect();
        let environment: serde_json::Map<String, Value> = command
            .get_envs()
            .filter_map(|(name, value)| Some((text(name), Value::String(text(value?)))))
            .collect();
        let servers = Self { folder };
        servers.write(json!({"command": words, "environment": environment}), change)?;
        Ok(servers)
    }

    /// Servers that are something else.
    pub fn of(command: &[&str], change: &Value) -> Result<Self> {
        let servers = Self { folder: tempfile::Builder::new().prefix("rooms-").tempdir()? };
        servers.write(json!({ "command": command }), change)?;
        Ok(servers)
    }

    fn write(&self, mut file: Value, change: &Value) -> Result<()> {
        let first = free_port()?.min(65_000);
        file["ports"] = format!("{first}-{}", first + 100).into();
        file["log_in_errors"] = true.into();
        file["stop_grace_seconds"] = 20.into();
        file["start_timeout_seconds"] = 120.into();
        for (member, value) in change.as_object().into_iter().flatten() {
            file[member] = value.clone();
        }
        Ok(fs::write(self.file(), file.to_string())?)
    }

    /// Where the settings are, and what the backend keeps of its servers.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("rooms.json")
    }

    /// Starts a backend with these settings and further arguments of `serve`.
    pub fn backend(&self, extra: &[&str]) -> Result<Backend> {
        self.backend_on(None, extra)
    }

    /// The same on the database at this URL.
    pub fn backend_on(&self, database_url: Option<String>, extra: &[&str]) -> Result<Backend> {
        let file = self.file().display().to_string();
        let arguments: Vec<&str> =
            ["--rooms-on-demand", &file].iter().copied().chain(extra.iter().copied()).collect();
        Backend::start_on(database_url, &arguments)
    }

    /// Where the backend keeps what its servers print.
    pub fn logs(&self) -> PathBuf {
        self.folder.path().join("room-servers")
    }

    /// The folders of servers that have not been released.
    pub fn kept(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.logs()).into_iter().flatten();
        let folders = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        folders.filter(|folder| folder.join("port").exists()).collect()
    }

    /// Waits until all servers have ended.
    pub fn wait_until_none_runs(&self) -> Result<()> {
        until("all servers to have ended", || Ok(self.kept().is_empty().then_some(())))
    }

    /// The process id of the only server.
    pub fn server_pid(&self) -> Result<i32> {
        until("a server to run", || {
            let kept = self.kept();
            let Some(folder) = kept.first() else { return Ok(None) };
            let Ok(text) = fs::read(folder.join("process.json")) else { return Ok(None) };
            let file: Value = serde_json::from_slice(&text)?;
            Ok(file["server"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()))
        })
    }
}

impl Drop for RoomServers {
    /// A test that fails leaves no servers either.
    fn drop(&mut self) {
        for folder in self.kept() {
            let text = fs::read(folder.join("process.json")).unwrap_or_default();
            let file: Value = serde_json::from_slice(&text).unwrap_or_default();
            let pid = file["server"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
            if let Some(group) = pid.filter(|pid| *pid > 1).and_then(Pid::from_raw) {
                let _gone = kill_process_group(group, Signal::KILL);
            }
        }
    }
}
