//! Servers as processes of this machine.
//!
//! Each has a folder below the log folder, named by its allocation. `backend-server room-process` runs it: that process captures what
//! the server prints and records how it ended, also while the backend is down. The folder is all that the backend needs to know of
//! a server that an earlier run has started.

mod owner;
mod process;
pub mod supervisor;

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{self, Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use async_trait::async_trait;
use rustix::process::Signal;
use tokio::process::Command;
use tokio::sync::Mutex;

use self::owner::Owner;
use self::process::{Claim, Ending, PORT_FILE, Processes};
use super::settings::AllocationSettings;
use super::{Allocator, Sighting, StartError};
use crate::private_files;

/// The server was asked to end, maybe by an earlier run of the backend; the file's age is the time since then.
const STOPPING_FILE: &str = "stopping";
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
    owner: Owner,
    backend_url: String,
    server_key_file: Option<PathBuf>,
    /// When servers were asked to end, also if the disk is too full to note it.
    stopping: sync::Mutex<HashMap<String, Instant>>,
    /// The supervisors that this run of the backend has started last for each server, and whether they still run.
    supervisors: sync::Mutex<HashMap<String, Arc<AtomicBool>>>,
    /// The port that is tried first. One start at a time chooses.
    next_port: Mutex<u16>,
}

impl LocalAllocator {
    /// Servers of the game and environment `scope` reach the backend at `backend_url`, with the key in `server_key_file`.
    pub fn new(
        settings: &AllocationSettings,
        scope: &str,
        backend_url: String,
        server_key_file: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let folder = &settings.log_folder;
        let belongs = |name: &str| name == owner::FILE || is_allocation_id(name);
        let owner = private_files::create_folder(folder, belongs).and_then(|()| Owner::take(folder, scope));
        let server_key_file = server_key_file.map(fs::canonicalize).transpose();
        Ok(Self {
            owner: owner.with_context(|| {
                format!("--rooms-on-demand: log_folder {} cannot be used", folder.display())
            })?,
            backend_url,
            server_key_file: server_key_file.context("--server-key-file cannot be read")?,
            stopping: sync::Mutex::default(),
            supervisors: sync::Mutex::default(),
            next_port: Mutex::new(*settings.ports.start()),
            settings: settings.clone(),
        })
    }

    fn folder(&self, allocation_id: &str) -> PathBuf {
        self.settings.log_folder.join(allocation_id)
    }

    /// The folders that servers have in the log folder. The operator may keep other things there.
    fn folders(&self) -> anyhow::Result<Vec<(String, PathBuf)>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.settings.log_folder).context("the log folder cannot be read")? {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str()
                && is_allocation_id(name)
                && entry.file_type()?.is_dir()
            {
                folders.push((name.to_owned(), entry.path()));
            }
        }
        Ok(folders)
    }

    /// The servers that were not released, with their ports. None: the port is not known any more.
    fn kept(&self) -> anyhow::Result<Vec<(String, Option<u16>)>> {
        let folders = self.folders()?.into_iter().map(|(name, folder)| (name, folder.join(PORT_FILE)));
        let kept = folders.filter(|(_, port)| port.exists());
        Ok(kept.map(|(name, port)| (name, process::read(&port).ok().flatten())).collect())
    }

    /// A port that no server of ours has and nobody listens on.
    fn free_port(&self, first: u16, kept: &[(String, Option<u16>)]) -> Option<u16> {
        let ports = &self.settings.ports;
        let begin = if ports.contains(&first) { first } else { *ports.start() };
        (begin..=*ports.end())
            .chain(*ports.start()..begin)
            .find(|port| kept.iter().all(|(_, taken)| *taken != Some(*port)) && is_free(*port))
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

    /// Chooses a port, and starts a server that nothing is there of.
    async fn start_new(&self, folder: PathBuf, allocation_id: &str) -> Result<(), StartError> {
        let mut next_port = self.next_port.lock().await;
        let kept = self.kept().map_err(|error| misconfigured("log_folder", &error))?;
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
        let to_create = folder.clone();
        // It waits for the disk.
        let created = tokio::task::spawn_blocking(move || create(&to_create, port)).await;
        let started = match created.map_err(anyhow::Error::from).flatten() {
            Err(error) => Err(misconfigured("log_folder", &error)),
            Ok(()) => self.supervise(&folder, allocation_id, port).map_err(no_supervisor),
        };
        if started.is_err() {
            let _retried_by_stop = fs::remove_dir_all(&folder);
        }
        started
    }

    /// Removes what is known of a process, and the oldest logs. While `_claim` is there, no supervisor begins.
    fn release(&self, allocation_id: &str, _claim: &Claim) -> anyhow::Result<()> {
        let folder = self.folder(allocation_id);
        for name in [STOPPING_FILE, process::FILE, process::ENDING_FILE, PORT_FILE] {
            remove(&folder.join(name))?;
        }
        lock(&self.stopping).remove(allocation_id);
        lock(&self.supervisors).remove(allocation_id);
        let mut ended = Vec::new();
        for (_, folder) in self.folders()? {
            if !folder.join(PORT_FILE).exists() {
                ended.push((fs::metadata(&folder)?.modified()?, folder));
            }
        }
        ended.sort();
        let more = ended.len().saturating_sub(self.settings.logs_kept);
        let mut removed = Ok(());
        for (_, folder) in ended.into_iter().take(more) {
            removed = removed.and(fs::remove_dir_all(&folder).with_context(|| folder.display().to_string()));
        }
        removed
    }

    /// Time since the server was asked to end.
    fn stopping_for(&self, allocation_id: &str) -> Option<Duration> {
        let asked = lock(&self.stopping).get(allocation_id).map(Instant::elapsed);
        asked.or_else(|| age(&self.folder(allocation_id).join(STOPPING_FILE)))
    }
}

fn lock<T>(shared: &sync::Mutex<T>) -> sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn misconfigured(what: &str, error: &anyhow::Error) -> StartError {
    StartError::Misconfigured(format!("{what}: {error:#}"))
}

fn no_supervisor(error: std::io::Error) -> StartError {
    misconfigured("the server's supervisor cannot be started", &error.into())
}

/// Whether it is the name of a folder that servers have. The others in the log folder are not ours.
fn is_allocation_id(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Makes the folder of a server. From then on it is kept.
fn create(folder: &Path, port: u16) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    process::write(&folder.join(PORT_FILE), &port)
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

/// Time since the file was written. One from the future, as the clock was set back, counts as written now.
fn age(path: &Path) -> Option<Duration> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    let now = SystemTime::now();
    Some(now.duration_since(modified).unwrap_or_else(|_| {
        let file = fs::OpenOptions::new().append(true).open(path);
        let _looked_at_again = file.and_then(|file| file.set_modified(now));
        Duration::ZERO
    }))
}

#[async_trait]
impl Allocator for LocalAllocator {
    fn host(&self) -> &str {
        &self.owner.host
    }

    async fn start(&self, allocation_id: &str) -> Result<(), StartError> {
        let folder = self.folder(allocation_id);
        if !folder.join(PORT_FILE).exists() {
            return self.start_new(folder, allocation_id).await;
        }
        let is_unknown = matches!(self.look(allocation_id).await, Ok(Sighting::Unknown));
        let port = process::read(&folder.join(PORT_FILE)).ok().flatten();
        match port {
            // An earlier run chose the port and ended. Should its supervisor come after all, then one of the two claims the server.
            Some(port) if is_unknown => self.supervise(&folder, allocation_id, port).map_err(no_supervisor),
            _ => Ok(()),
        }
    }

    async fn look(&self, allocation_id: &str) -> anyhow::Result<Sighting> {
        let folder = self.folder(allocation_id);
        if !folder.join(PORT_FILE).exists() {
            return Ok(Sighting::Unknown);
        }
        let ended = |ending: Option<Ending>| match ending {
            Some(ending) => Sighting::Ended {
                reason: ending.to_string(),
                log: ending.error.unwrap_or_else(|| supervisor::last_lines(&folder)),
            },
            None => Sighting::Ended {
                reason: "it ended together with its supervisor, or the machine did".to_owned(),
                log: supervisor::last_lines(&folder),
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

    fn last_lines(&self, allocation_id: &str) -> String {
        supervisor::last_lines(&self.folder(allocation_id))
    }

    async fn stop(&self, allocation_id: &str) -> anyhow::Result<()> {
        let folder = self.folder(allocation_id);
        match self.look(allocation_id).await? {
            Sighting::Unknown if !folder.join(PORT_FILE).exists() => Ok(()),
            // An earlier run has not come to its supervisor, or that one is still to begin.
            Sighting::Unknown => {
                let claim = Claim::wait_for(&folder)?;
                if process::is_claimed(&folder) { Ok(()) } else { self.release(allocation_id, &claim) }
            }
            Sighting::Ended { .. } => self.release(allocation_id, &Claim::wait_for(&folder)?),
            Sighting::Running => {
                let Some(processes) = Processes::read(&folder)? else { return Ok(()) };
                match self.stopping_for(allocation_id) {
                    // A server that is not there yet is asked when it is.
                    None if processes.signal_server(Signal::TERM) => {
                        lock(&self.stopping).insert(allocation_id.to_owned(), Instant::now());
                        fs::write(folder.join(STOPPING_FILE), "")
                            .context("that the server was asked to end cannot be noted")?;
                    }
                    Some(since) if since >= self.settings.stop_grace => {
                        processes.signal_server(Signal::KILL);
                    }
                    _ => {}
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
