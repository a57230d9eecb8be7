//! Servers as processes of this machine.
//!
//! Each has a folder below the log folder, named by its allocation. `backend-server room-process` runs it: that process captures what
//! the server prints and records how it ended, also while the backend is down. The folder is all that the backend needs to know of
//! a server that an earlier run has started.

mod process;
pub mod supervisor;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use async_trait::async_trait;
use rustix::process::Signal;
use tokio::process::Command;

use self::process::{Claim, Ending, Processes};
use super::host_folder::{HostFolder, last_lines};
use super::settings::AllocationSettings;
use super::{ALLOCATION_VARIABLE, Allocator, Sighting, StartError};

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

/// Starts servers as processes of this machine.
pub struct LocalAllocator {
    settings: AllocationSettings,
    folder: HostFolder,
    backend_url: String,
    server_key_file: Option<PathBuf>,
    /// The supervisors that this run of the backend has started last for each server, and whether they still run.
    supervisors: Mutex<HashMap<String, Arc<AtomicBool>>>,
}

impl LocalAllocator {
    /// Servers of the game and environment `scope` reach the backend at `backend_url`, with the key in `server_key_file`.
    pub fn new(
        settings: &AllocationSettings,
        scope: &str,
        backend_url: String,
        server_key_file: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let folder = HostFolder::open(settings, scope)?;
        let server_key_file = server_key_file.map(fs::canonicalize).transpose();
        Ok(Self {
            folder,
            backend_url,
            server_key_file: server_key_file.context("--server-key-file cannot be read")?,
            supervisors: Mutex::default(),
            settings: settings.clone(),
        })
    }

    fn command(&self, folder: &Path, allocation_id: &str, port: u16) -> Command {
        let settings = &self.settings;
        let mut command = Command::new(&settings.supervisor);
        command
            .arg("room-process")
            .arg("--folder")
            .arg(folder)
            .args(["--log-bytes", &settings.log_bytes.to_string(), "--"])
            .args(settings.filled_command(allocation_id, port, &self.backend_url))
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

    /// Starts the supervisor of a server, in a folder that is there.
    fn supervise(&self, folder: &Path, allocation_id: &str, port: u16) -> std::io::Result<()> {
        let mut supervisor = self.command(folder, allocation_id, port).spawn()?;
        // Of its own: the server may be started again before the end of this one is noted.
        let runs = Arc::new(AtomicBool::new(true));
        lock(&self.supervisors).insert(allocation_id.to_owned(), Arc::clone(&runs));
        // Waited for, so that no zombie is left. What it has to tell is in the folder.
        tokio::spawn(async move {
            let _status = supervisor.wait().await;
            runs.store(false, Ordering::SeqCst);
        });
        Ok(())
    }

    /// Removes what is known of a process. While `_claim` is there, no supervisor begins.
    fn release(&self, allocation_id: &str, _claim: &Claim) -> anyhow::Result<()> {
        lock(&self.supervisors).remove(allocation_id);
        self.folder.release(allocation_id, &[process::FILE, process::ENDING_FILE])
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_supervisor(error: std::io::Error) -> StartError {
    StartError::misconfigured("the server's supervisor cannot be started", &error.into())
}

#[async_trait]
impl Allocator for LocalAllocator {
    fn host(&self) -> &str {
        self.folder.host()
    }

    async fn start(&self, allocation_id: &str) -> Result<(), StartError> {
        let folder = self.folder.of(allocation_id);
        if !self.folder.is_kept(allocation_id) {
            let port = self.folder.keep(allocation_id).await?;
            return self.supervise(&folder, allocation_id, port).map_err(|error| {
                self.folder.forget(allocation_id);
                no_supervisor(error)
            });
        }
        let is_unknown = matches!(self.look(allocation_id).await, Ok(Sighting::Unknown));
        match self.folder.port(allocation_id) {
            // An earlier run chose the port and ended. Should its supervisor come after all, then one of the two claims the server.
            Some(port) if is_unknown => self.supervise(&folder, allocation_id, port).map_err(no_supervisor),
            _ => Ok(()),
        }
    }

    async fn look(&self, allocation_id: &str) -> anyhow::Result<Sighting> {
        let folder = self.folder.of(allocation_id);
        if !self.folder.is_kept(allocation_id) {
            return Ok(Sighting::Unknown);
        }
        let ended = |ending: Option<Ending>| match ending {
            Some(ending) => Sighting::Ended {
                reason: ending.to_string(),
                log: ending.error.unwrap_or_else(|| last_lines(&folder)),
            },
            None => Sighting::Ended {
                reason: "it ended together with its supervisor, or the machine did".to_owned(),
                log: last_lines(&folder),
            },
        };
        if let Some(ending) = Ending::read(&folder)? {
            return Ok(ended(Some(ending)));
        }
        // Asked before the files are read: what ends after this has written them.
        let of_this_run = lock(&self.supervisors).get(allocation_id).map(|runs| runs.load(Ordering::SeqCst));
        match Processes::read(&folder)? {
            Some(processes) if processes.any_runs() => Ok(Sighting::Running),
            None if of_this_run == Some(true) => Ok(Sighting::Running),
            None if of_this_run.is_none() && !process::is_claimed(&folder) => Ok(Sighting::Unknown),
            // It may have ended between the two looks.
            _ => Ok(ended(Ending::read(&folder)?)),
        }
    }

    async fn last_lines(&self, allocation_id: &str) -> String {
        let folder = self.folder.of(allocation_id);
        tokio::task::spawn_blocking(move || last_lines(&folder)).await.unwrap_or_default()
    }

    async fn stop(&self, allocation_id: &str) -> anyhow::Result<()> {
        let folder = self.folder.of(allocation_id);
        match self.look(allocation_id).await? {
            Sighting::Unknown if !self.folder.is_kept(allocation_id) => Ok(()),
            // An earlier run has not come to its supervisor, or that one is still to begin.
            Sighting::Unknown => {
                let claim = Claim::wait_for(&folder)?;
                if process::is_claimed(&folder) { Ok(()) } else { self.release(allocation_id, &claim) }
            }
            Sighting::Ended { .. } => self.release(allocation_id, &Claim::wait_for(&folder)?),
            Sighting::Running => {
                let Some(processes) = Processes::read(&folder)? else { return Ok(()) };
                match self.folder.stopping_for(allocation_id) {
                    // A server that is not there yet is asked when it is.
                    None if processes.signal_server(Signal::TERM) => self.folder.note_stopping(allocation_id),
                    Some(since) if since >= self.settings.stop_grace => {
                        processes.signal_server(Signal::KILL);
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    async fn owned(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.folder.kept()?.into_iter().map(|(allocation_id, _)| allocation_id).collect())
    }
}

#[cfg(test)]
mod tests;
