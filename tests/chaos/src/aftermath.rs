//! What is left when a server has ended: leases at the backend, saves in the journal. Looked at at once, because the next
//! process would tidy up.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::game_server::{Exit, GameServer, Stop};
use crate::history::History;
use crate::home::Home;
use crate::plan::Plan;

/// Stops servers, and looks at what they leave.
pub struct Aftermath<'a> {
    /// What is played.
    pub plan: &'a Plan,
    /// All accounts.
    pub players: &'a [String],
    /// The backends.
    pub homes: &'a [Home],
    /// The trial's folder.
    pub folder: &'a Path,
    /// Where it is noted.
    pub history: &'a History,
}

impl Aftermath<'_> {
    /// Tells `server` to stop and notes what it leaves. False when there is no process that could obey.
    pub fn stop(&self, server: &GameServer, stop: &Stop<'_>) -> Result<bool> {
        let Some(exit) = server.stop(stop)? else { return Ok(false) };
        self.look(server, exit)?;
        Ok(true)
    }

    fn look(&self, server: &GameServer, exit: Exit) -> Result<()> {
        let plan = self.plan.servers.get(server.index()).context("a server without a plan")?;
        let home = self.homes.get(plan.backend).context("a server without a backend")?;
        let late_loads = if self.plan.late_loads {
            // Nobody is there to execute them while the backend is down.
            server.proxy().repeat_remembered(None).unwrap_or_default()
        } else {
            Vec::new()
        };
        // Before the look at the journal: what is delivered later by others does not count.
        let position = home.truth.position()?;
        let kept = self.folder.join(format!("exit-{}-{}", server.index(), exit.incarnation));
        let journals = copies(&self.folder.join(format!("journal-{}", plan.journal)), &kept)?;
        self.history.note(json!({
            "event": "aftermath", "server": server.index(), "incarnation": exit.incarnation, "code": exit.code,
            "backend": plan.backend, "log_position": position, "leases": home.truth.leases(self.players)?,
            "late_loads": late_loads, "journals": journals,
        }));
        Ok(())
    }
}

/// Copies every journal in `folder` with its log to `kept`.
fn copies(folder: &Path, kept: &Path) -> Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    fs::create_dir_all(kept)?;
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        let is = |extension: &str| path.extension().is_some_and(|own| own == extension);
        let Some(name) = path.file_name().filter(|_| is("db") || is("db-wal")) else { continue };
        match fs::copy(&path, kept.join(name)) {
            Ok(_) if is("db") => journals.push(kept.join(name)),
            Ok(_) => {}
            // Another process was done with it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    journals.sort();
    Ok(journals)
}
