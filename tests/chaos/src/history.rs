//! What happened in a trial, one JSON object per line, in the order in which it became known.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// An open history. Lines reach the file at once, so that a trial that hangs can be read as well.
pub struct History {
    file: Mutex<File>,
    begin: Instant,
    name: String,
}

impl History {
    /// Begins `history.jsonl` in `folder`.
    pub fn create(folder: &Path) -> Result<Self> {
        let path = folder.join("history.jsonl");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file: Mutex::new(file), begin: Instant::now(), name: Uuid::new_v4().simple().to_string() })
    }

    /// A name that no other trial has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds an event of the orchestrator: an object with a field `event`.
    pub fn note(&self, event: Value) {
        if let Value::Object(event) = event {
            self.write(event);
        }
    }

    /// Adds an event that a game server told.
    pub fn told(&self, server: usize, incarnation: u32, mut event: Map<String, Value>) {
        event.insert("server".to_owned(), json!(server));
        event.insert("incarnation".to_owned(), json!(incarnation));
        self.write(event);
    }

    fn write(&self, mut event: Map<String, Value>) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken under the lock: times grow from line to line.
        event.insert("ms".to_owned(), json!(self.begin.elapsed().as_micros() as f64 / 1e3));
        let mut line = Value::Object(event).to_string();
        line.push('\n');
        if let Err(error) = file.write_all(line.as_bytes()) {
            // A history with holes would convict the innocent.
            panic!("cannot write the history: {error}");
        }
    }
}
