//! What is known of the servers of one host, in the log folder: which were started and not released yet, at which ports, since when they
//! are asked to end, and what they have printed. It survives a restart of the backend.

mod owner;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{self, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use self::owner::Owner;
use super::StartError;
use super::settings::AllocationSettings;
use crate::private_files;

/// The port that a server was given. A folder with this file is not released yet.
pub const PORT_FILE: &str = "port";
/// The server was asked to end, maybe by an earlier run of the backend; the file's age is the time since then.
const STOPPING_FILE: &str = "stopping";
/// What was printed last.
pub const LOG_FILE: &str = "output.log";
/// What was printed before.
pub const EARLIER_LOG_FILE: &str = "output.1.log";
/// Lines, and bytes of them, that explain why a server did not start.
const LAST_LINES: usize = 10;
/// See [`LAST_LINES`].
pub const LAST_BYTES: u64 = 2_048;

/// The log folder of one backend.
pub struct HostFolder {
    settings: AllocationSettings,
    owner: Owner,
    /// When servers were asked to end, also if the disk is too full to note it.
    stopping: sync::Mutex<HashMap<String, Instant>>,
    /// The port that is tried first. One start at a time chooses.
    next_port: Mutex<u16>,
}

impl HostFolder {
    /// Opens the folder of a backend of the game and environment `scope`.
    pub fn open(settings: &AllocationSettings, scope: &str) -> anyhow::Result<Self> {
        let folder = &settings.log_folder;
        let belongs = |name: &str| name == owner::FILE || is_allocation_id(name);
        let owner = private_files::create_folder(folder, belongs).and_then(|()| Owner::take(folder, scope));
        Ok(Self {
            owner: owner.with_context(|| {
                format!("--rooms-on-demand: log_folder {} cannot be used", folder.display())
            })?,
            stopping: sync::Mutex::default(),
            next_port: Mutex::new(*settings.ports.start()),
            settings: settings.clone(),
        })
    }

    /// Identity of the host.
    pub fn host(&self) -> &str {
        &self.owner.host
    }

    /// The folder of one server.
    pub fn of(&self, allocation_id: &str) -> PathBuf {
        self.settings.log_folder.join(allocation_id)
    }

    /// Whether the server was started and not released.
    pub fn is_kept(&self, allocation_id: &str) -> bool {
        self.of(allocation_id).join(PORT_FILE).exists()
    }

    /// The servers that were not released, with their ports. None: the port is not known any more.
    pub fn kept(&self) -> anyhow::Result<Vec<(String, Option<u16>)>> {
        let folders = self.folders()?.into_iter().map(|(name, folder)| (name, folder.join(PORT_FILE)));
        let kept = folders.filter(|(_, port)| port.exists());
        Ok(kept.map(|(name, port)| (name, read(&port).ok().flatten())).collect())
    }

    /// The port of a server that was not released.
    pub fn port(&self, allocation_id: &str) -> Option<u16> {
        read(&self.of(allocation_id).join(PORT_FILE)).ok().flatten()
    }

    /// Chooses a port for a new server, and keeps the server from then on.
    pub async fn keep(&self, allocation_id: &str) -> Result<u16, StartError> {
        let mut next_port = self.next_port.lock().await;
        let kept = self.kept().map_err(|error| StartError::misconfigured("log_folder", &error))?;
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
        let folder = self.of(allocation_id);
        // It waits for the disk.
        let created = tokio::task::spawn_blocking(move || create(&folder, port)).await;
        match created.map_err(anyhow::Error::from).flatten() {
            Ok(()) => Ok(port),
            Err(error) => {
                self.forget(allocation_id);
                Err(StartError::misconfigured("log_folder", &error))
            }
        }
    }

    /// Removes everything of a server that was not started.
    pub fn forget(&self, allocation_id: &str) {
        let _retried_by_stop = fs::remove_dir_all(self.of(allocation_id));
    }

    /// Removes what is known of a server that has ended, with the files `more`, and the oldest logs.
    pub fn release(&self, allocation_id: &str, more: &[&str]) -> anyhow::Result<()> {
        let folder = self.of(allocation_id);
        for name in [STOPPING_FILE].iter().chain(more).chain(&[PORT_FILE]) {
            remove(&folder.join(name))?;
        }
        self.stopping().remove(allocation_id);
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
    pub fn stopping_for(&self, allocation_id: &str) -> Option<Duration> {
        let asked = self.stopping().get(allocation_id).map(Instant::elapsed);
        asked.or_else(|| age(&self.of(allocation_id).join(STOPPING_FILE)))
    }

    /// Notes that the server was asked to end.
    pub fn note_stopping(&self, allocation_id: &str) -> anyhow::Result<()> {
        self.stopping().insert(allocation_id.to_owned(), Instant::now());
        // One whose folder was lost has none.
        let folder = self.of(allocation_id);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join(STOPPING_FILE), ""))
            .context("that the server was asked to end cannot be noted")
    }

    fn stopping(&self) -> sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A port that no server of ours has and nobody listens on.
    fn free_port(&self, first: u16, kept: &[(String, Option<u16>)]) -> Option<u16> {
        let ports = &self.settings.ports;
        let begin = if ports.contains(&first) { first } else { *ports.start() };
        (begin..=*ports.end())
            .chain(*ports.start()..begin)
            .find(|port| kept.iter().all(|(_, taken)| *taken != Some(*port)) && is_free(*port))
    }
}

/// Whether it is the name of a folder that servers have. The others in the log folder are not ours.
pub fn is_allocation_id(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Makes the folder of a server. From then on it is kept.
pub fn create(folder: &Path, port: u16) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    write(&folder.join(PORT_FILE), &port)
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

/// What the file holds. One that is damaged, as after a power cut, is taken as missing: the processes of that time are gone.
pub fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)
            .inspect_err(|error| {
                tracing::warn!("{} is damaged, and taken as missing: {error}", path.display());
            })
            .ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Whole or not at all, and on the disk.
pub fn write(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let written = File::create(&partial)
        .and_then(|mut file| {
            file.write_all(&serde_json::to_vec(value)?)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        let _not_there = fs::remove_file(&partial);
    }
    written.with_context(|| format!("{} cannot be written", path.display()))
}

/// The last lines that a server has printed, in characters that fit an error.
pub fn last_lines(folder: &Path) -> String {
    let mut bytes = Vec::new();
    for name in [EARLIER_LOG_FILE, LOG_FILE] {
        // Either may be missing.
        let _missing = read_end(&folder.join(name), &mut bytes);
    }
    last_lines_of(&bytes)
}

/// The same of what is not in a file.
pub fn last_lines_of(printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(printed);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n");
    let shown: Vec<char> = last.chars().filter(|letter| *letter == '\n' || !letter.is_control()).collect();
    let most = usize::try_from(LAST_BYTES).unwrap_or(usize::MAX);
    shown.get(shown.len().saturating_sub(most)..).unwrap_or_default().iter().collect()
}

fn read_end(path: &Path, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
    file.take(LAST_BYTES).read_to_end(bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests;
