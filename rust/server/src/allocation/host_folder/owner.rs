//! The backend that a log folder belongs to. Of two on one folder, each would stop the servers of the other one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::private_files;

/// Locked as long as a backend uses the folder.
pub const FILE: &str = "owner.json";

#[derive(Serialize, Deserialize)]
struct Content {
    /// Identity of the folder, and with it of the host whose servers are in it. A host name may be another machine's as well.
    host: String,
    /// The game and environment of its servers.
    scope: String,
}

/// A folder that no other backend uses as long as this is there.
pub struct Owner {
    file: File,
    pub host: String,
}

impl Owner {
    /// Refused if another backend uses the folder, or if servers of another game or environment are in it.
    pub fn take(folder: &Path, scope: &str) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let damaged =
            || format!("{} is damaged; remove it if no other backend uses the folder", path.display());
        private_files::create_file(&path)?;
        let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another backend uses it at this moment: stop that one, or name another folder")
            }
            Err(TryLockError::Error(error)) => return Err(error).context("it cannot be locked"),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(damaged)?;
        // Empty: it was made just now, or the machine ended before it was written.
        let content = if text.is_empty() {
            let content = Content { host: Uuid::new_v4().simple().to_string(), scope: scope.to_owned() };
            file.write_all(&serde_json::to_vec(&content)?)?;
            file.sync_all()?;
            content
        } else {
            serde_json::from_str(&text).with_context(damaged)?
        };
        ensure!(
            content.scope == scope,
            "it belongs to a backend of {}, and this one is of {scope} (--game, --environment): name another folder",
            content.scope
        );
        Ok(Self { file, host: content.host })
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A process that is being started has a copy of the open file, and with it the lock, until it runs its program.
        let _closed_anyway = self.file.unlock();
    }
}
