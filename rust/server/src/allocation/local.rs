//! Servers as processes of this machine.
//!
//! Each has a folder below the log folder, named by its allocation. `backend-server room-process` runs it: that process captures what
//! the server prints and records how it ended, also while the backend is down. The folder is all that the backend needs to know of
//! a server that an earlier run has started.

mod process;
pub mod supervisor;

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use async_trait::async_trait;
use rustix::process::Signal;
use tokio::process::Command;
use tokio::sync::Mutex;

use self::process::{Ending, Processes};
use super::settings::AllocationSettings;
use super::{Allocator, Sighting, StartError};

/// The port that a server was given. A folder with this file is not released yet.
const PORT_FILE: &str = "port";
/// The server was asked to end; the file's age is the time since then.
const STOPPING_FILE: &str = "stopping";
/// A supervisor writes its file much sooner.
const SUPERVISOR_START_TIMEOUT: Duration = Duration::from_secs(10);
/// Variables of the backend that servers get. The others may be secrets.
const INHERITED: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_DATA_HOME",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
];
/// Variable by which a server knows what it was started for.
pub const ALLOCATION_VARIABLE: &str = "BACKEND_ALLOCATION_ID";

/// Starts servers as processes of this machine.
pub struct LocalAllocator {
    settings: AllocationSettings,
    host: String,
    backend_url: String,
    server_key_file: Option<PathBuf>,
    /// The port that is tried first. One start at a time chooses.
    next_port: Mutex<u16>,
}

impl LocalAllocator {
    /// Servers reach the backend at `backend_url`, with the key in `server_key_file`.
    pub fn new(
        settings: &AllocationSettings,
        backend_url: String,
        server_key_file: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let folder = &settings.log_folder;
        fs::create_dir_all(folder)
            .with_context(|| format!("--rooms-on-demand: log_folder {} cannot be made", folder.display()))?;
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let ports = &settings.ports;
        // Backends that share a machine have different ports.
        let host = format!("{}/{}-{}", name.trim(), ports.start(), ports.end());
        let server_key_file = server_key_file.map(fs::canonicalize).transpose();
        Ok(Self {
            host,
            backend_url,
            server_key_file: server_key_file.context("--server-key-file cannot be read")?,
            next_port: Mutex::new(*ports.start()),
            settings: settings.clone(),
        })
    }

    fn folder(&self, allocation_id: &str) -> PathBuf {
        self.settings.log_folder.join(allocation_id)
    }

    /// Every folder of a server that was not released, with its port.
    fn kept(&self) -> anyhow::Result<Vec<(String, u16)>> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.settings.log_folder).context("the log folder cannot be read")? {
            let entry = entry?;
            let Ok(port) = fs::read_to_string(entry.path().join(PORT_FILE)) else { continue };
            if let (Ok(name), Ok(port)) = (entry.file_name().into_string(), port.trim().parse()) {
                kept.push((name, port));
            }
        }
        Ok(kept)
    }

    /// A port that no server of ours has and nobody listens on.
    fn free_port(&self, first: u16, kept: &[(String, u16)]) -> Option<u16> {
        let ports = &self.settings.ports;
        let begin = if ports.contains(&first) { first } else { *ports.start() };
        (begin..=*ports.end())
            .chain(*ports.start()..begin)
            .find(|port| kept.iter().all(|(_, taken)| taken != port) && is_free(*port))
    }

    fn command(&self, folder: &Path, allocation_id: &str, port: u16) -> Command {
        let settings = &self.settings;
        let filled = |argument: &String| {
            argument
                .replace("{port}", &port.to_string())
                .replace("{allocation_id}", allocation_id)
                .replace("{backend_url}", &self.backend_url)
        };
        let mut command = Command::new(&settings.supervisor);
        command
            .arg("room-process")
            .arg("--folder")
            .arg(folder)
            .args(["--log-bytes", &settings.log_bytes.to_string(), "--"])
            .args(settings.command.iter().map(filled))
            .env_clear()
            .envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("BACKEND_URL", &self.backend_url)
            .env("BACKEND_MODE", "server")
            .envs(self.server_key_file.iter().map(|path| ("BACKEND_SERVER_KEY_FILE", path)))
            .envs(&settings.environment)
            .env(ALLOCATION_VARIABLE, allocation_id)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in the backend's terminal is not for its servers.
            .process_group(0);
        if let Some(folder) = &settings.working_directory {
            command.current_dir(folder);
        }
        command
    }

    /// Removes what is known of a process, and the oldest logs.
    fn release(&self, folder: &Path) -> anyhow::Result<()> {
        for name in [STOPPING_FILE, process::FILE, process::ENDING_FILE, PORT_FILE] {
            remove(&folder.join(name))?;
        }
        let mut ended = Vec::new();
        for entry in fs::read_dir(&self.settings.log_folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.join(PORT_FILE).exists() {
                ended.push((fs::metadata(&path)?.modified()?, path));
            }
        }
        ended.sort();
        let more = ended.len().saturating_sub(self.settings.logs_kept);
        for (_, folder) in ended.into_iter().take(more) {
            fs::remove_dir_all(folder)?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Games listen on UDP, as ENet does, or on TCP, as WebSocket does.
fn is_free(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

/// Time since the file was written. A clock that was set back makes it longer rather than endless.
fn age(path: &Path) -> Option<Duration> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    Some(SystemTime::now().duration_since(modified).unwrap_or(Duration::MAX))
}

#[async_trait]
impl Allocator for LocalAllocator {
    fn host(&self) -> &str {
        &self.host
    }

    async fn start(&self, allocation_id: &str) -> Result<(), StartError> {
        let mut next_port = self.next_port.lock().await;
        let folder = self.folder(allocation_id);
        if folder.join(PORT_FILE).exists() {
            return Ok(());
        }
        let wrong =
            |what: &str, error: &dyn std::fmt::Display| StartError::Misconfigured(format!("{what}: {error}"));
        let kept = self.kept().map_err(|error| wrong("log_folder", &error))?;
        if kept.len() >= self.settings.max_servers {
            return Err(StartError::NoCapacity(format!(
                "all {} servers of this host run (max_servers)",
                kept.len()
            )));
        }
        let port = self
            .free_port(*next_port, &kept)
            .ok_or_else(|| StartError::NoCapacity("no port of the range is free (ports)".to_owned()))?;
        *next_port = port.saturating_add(1);
        let made =
            fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(PORT_FILE), port.to_string()));
        made.map_err(|error| wrong("log_folder", &error))?;
        match self.command(&folder, allocation_id, port).spawn() {
            Ok(mut supervisor) => {
                // Waited for, so that no zombie is left. What it has to tell is in the folder.
                tokio::spawn(async move { supervisor.wait().await });
                Ok(())
            }
            Err(error) => {
                let _retried_by_stop = self.release(&folder);
                Err(wrong("the server's supervisor cannot be started", &error))
            }
        }
    }

    async fn look(&self, allocation_id: &str) -> anyhow::Result<Sighting> {
        let folder = self.folder(allocation_id);
        let Some(started) = age(&folder.join(PORT_FILE)) else { return Ok(Sighting::Unknown) };
        let ended = |reason: String| Sighting::Ended { reason, log: supervisor::last_lines(&folder) };
        if let Some(ending) = Ending::read(&folder)? {
            return Ok(ended(ending.to_string()));
        }
        match Processes::read(&folder)? {
            Some(processes) if processes.any_runs() => Ok(Sighting::Running),
            None if started < SUPERVISOR_START_TIMEOUT => Ok(Sighting::Running),
            // It may have ended between the two looks.
            _ => Ok(match Ending::read(&folder)? {
                Some(ending) => ended(ending.to_string()),
                None => ended("it ended together with its supervisor, or the machine did".to_owned()),
            }),
        }
    }

    fn last_lines(&self, allocation_id: &str) -> String {
        supervisor::last_lines(&self.folder(allocation_id))
    }

    async fn stop(&self, allocation_id: &str) -> anyhow::Result<()> {
        let folder = self.folder(allocation_id);
        match self.look(allocation_id).await? {
            Sighting::Unknown => Ok(()),
            Sighting::Ended { .. } => {
                // A supervisor that was killed leaves its server's group.
                if let Some(processes) = Processes::read(&folder)? {
                    processes.signal_server(Signal::KILL);
                }
                self.release(&folder)
            }
            Sighting::Running => {
                let Some(processes) = Processes::read(&folder)? else { return Ok(()) };
                let stopping = folder.join(STOPPING_FILE);
                match age(&stopping) {
                    None => {
                        processes.signal_server(Signal::TERM);
                        fs::write(&stopping, "")?;
                    }
                    Some(since) if since >= self.settings.stop_grace => {
                        processes.signal_server(Signal::KILL);
                    }
                    Some(_) => {}
                }
                Ok(())
            }
        }
    }

    async fn owned(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.kept()?.into_iter().map(|(allocation_id, _)| allocation_id).collect())
    }
}

#[cfg(test)]
mod tests;
