//! Copies of a backend's database, and the way back to them. The log of what really happened is carried over: it is
//! ours, and goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use test_harness::backend::Backend;

use crate::ground_truth::GroundTruth;
use crate::history::History;

/// How often a database is copied that somebody is still connected to.
const ATTEMPTS: u32 = 50;

/// A copy of a database.
pub struct Copy {
    place: Place,
    /// The last number of the log in it.
    position: i64,
}

enum Place {
    File(PathBuf),
    /// A database of PostgreSQL.
    Named(String),
}

impl Copy {
    /// Removes the copy from PostgreSQL. A file goes with the trial's folder.
    pub fn discard(self, url: &str) -> Result<()> {
        match self.place {
            Place::File(_) => Ok(()),
            Place::Named(copied) => administer(url, &format!("DROP DATABASE {copied} WITH (FORCE)")),
        }
    }
}

/// Copies the database of `backend`; `cold`: while that does not run.
pub fn take(backend: &mut Backend, truth: &GroundTruth, folder: &Path, cold: bool) -> Result<Copy> {
    let url = backend.database_url();
    let Some(file) = url.strip_prefix("sqlite://").map(PathBuf::from) else {
        let (server, name) = url.rsplit_once('/').context("the database has no name")?;
        let copied = format!("{name}_copy");
        backend.kill()?;
        administer(&url, &format!("DROP DATABASE IF EXISTS {copied} WITH (FORCE)"))?;
        administer(&url, &format!("CREATE DATABASE {copied} TEMPLATE {name}"))?;
        backend.resume()?;
        let position = GroundTruth::new(&format!("{server}/{copied}"))?.position()?;
        return Ok(Copy { place: Place::Named(copied), position });
    };
    let copied = folder.join("backup.db");
    if cold {
        backend.kill()?;
        copy_files(&file, &copied)?;
        backend.resume()?;
    } else {
        truth.execute(&format!("VACUUM INTO '{}'", copied.display()))?;
    }
    let position = GroundTruth::new(&format!("sqlite://{}", copied.display()))?.position()?;
    Ok(Copy { place: Place::File(copied), position })
}

/// Ends the backend, puts the copy in the place of its database and starts it again.
pub fn restore(
    copy: &Copy,
    backend: &mut Backend,
    truth: &GroundTruth,
    players: &[String],
    down: Duration,
    history: &History,
) -> Result<()> {
    let url = backend.database_url();
    backend.kill()?;
    history.note(json!({ "event": "restoring" }));
    thread::sleep(down);
    let undone = truth.rows_after(copy.position)?;
    match &copy.place {
        Place::File(copied) => {
            let file = url.strip_prefix("sqlite://").map(PathBuf::from).context("the database is no file")?;
            backend.erase()?;
            copy_files(copied, &file)?;
        }
        Place::Named(copied) => {
            let name = url.rsplit_once('/').map(|(_, name)| name).context("the database has no name")?;
            administer(&url, &format!("DROP DATABASE {name} WITH (FORCE)"))?;
            administer(&url, &format!("CREATE DATABASE {name} TEMPLATE {copied}"))?;
        }
    }
    truth.carry_over(&undone, copy.position, players)?;
    history.note(json!({ "event": "restored", "undone": undone.len() }));
    backend.resume()
}

/// A statement about a database of the same server of PostgreSQL.
fn administer(url: &str, statement: &str) -> Result<()> {
    let (server, _) = url.rsplit_once('/').context("the database has no name")?;
    let truth = GroundTruth::new(&format!("{server}/postgres"))?;
    for attempt in 1.. {
        match truth.execute(statement) {
            Ok(()) => return Ok(()),
            // The sessions of a killed backend end a moment later.
            Err(error) if attempt < ATTEMPTS && format!("{error:#}").contains("being accessed") => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error),
        }
    }
    bail!("no attempt was made")
}

/// A database file with its log.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)?;
    let log = |path: &Path| {
        let mut path = path.as_os_str().to_owned();
        path.push("-wal");
        PathBuf::from(path)
    };
    if log(from).exists() {
        fs::copy(log(from), log(to))?;
    }
    Ok(())
}
